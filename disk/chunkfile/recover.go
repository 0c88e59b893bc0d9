package chunkfile

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// ErrNeverSynced: the file of a replica of which nothing, not even the header,
// was ever durable.
var ErrNeverSynced = errors.New("the replica was never synced")

// Recovered is what the file of an open replica proves.
type Recovered struct {
	prelude
	Floor   int   // sync slot that counts
	Length  int64 // verified bytes
	Partial uint64
}

// Recover finds the longest prefix of an open replica that its sums and
// slots prove. It only reads.
//
// A slot counts if the full blocks before its length match their sums and the
// bytes behind the last block border match the slot's own sum. The sync slot
// with the highest counter that counts is the floor: the replica is never
// shorter. Slots with a lower counter are from before a cut, or outdated. From
// the floor on, a flush slot that counts and full blocks that match may only
// lengthen the replica.
//
// Errors: errNeverSynced; fault.CorruptData if no sync slot counts;
// fault.Version; that of a read.
func Recover(f vfs.File, id chunk.ID) (Recovered, error) {
	const op = "recover replica"
	info, err := f.Stat()
	if err != nil {
		return Recovered{}, err
	}
	if info.Size() < PreludeBytes { // the first sync would have made it longer
		return Recovered{}, ErrNeverSynced
	}
	b := make([]byte, PreludeBytes)
	if err := vfs.ReadFull(f, b, 0); err != nil {
		return Recovered{}, err
	}
	if IsZero(b) {
		return Recovered{}, ErrNeverSynced
	}
	p, err := parsePrelude(b)
	if err != nil {
		return Recovered{}, err
	}
	if p.ID != id {
		return Recovered{}, corrupt(op, id, "the file is that of chunk %s", p.ID)
	}
	full, counts, err := verifySlots(f, p, min(max(0, info.Size()-p.DataOffset), p.ChunkSize))
	if err != nil {
		return Recovered{}, err
	}
	got := Recovered{prelude: p}
	got.Floor = p.NewestSync(func(s Slot) bool { return counts[s.Index] })
	if got.Floor < 0 {
		return Recovered{}, corrupt(op, id, "%d whole blocks match their sums, but no sync slot matches the data", full)
	}
	floor := p.Slots[got.Floor]
	got.Length, got.Partial = floor.Length, floor.Partial
	if s := p.Slots[FlushSlot]; counts[FlushSlot] && s.Counter > floor.Counter && s.Length > got.Length {
		got.Length, got.Partial = s.Length, s.Partial
	}
	if border := full * blockBytes; border > got.Length {
		got.Length, got.Partial = border, 0
	}
	return got, nil
}

// verifySlots reads the data from the start as long as whole blocks match their
// sums. It returns the number of those, and which slots count.
func verifySlots(f vfs.File, p prelude, dataBytes int64) (full int64, counts [slotCount]bool, err error) {
	sums := make([]byte, SumBytes*p.Blocks())
	// The table may end in a hole behind the end of a short file.
	if n, err := f.ReadAt(sums, SumsOffset); err != nil && !errors.Is(err, io.EOF) {
		return 0, counts, err
	} else if n < len(sums) {
		clear(sums[n:])
	}
	block := make([]byte, blockBytes)
	for ; ; full++ {
		start := full * blockBytes
		have := min(blockBytes, dataBytes-start)
		if have < 0 {
			return full, counts, nil
		}
		if err := vfs.ReadFull(f, block[:have], p.DataOffset+start); err != nil {
			return full, counts, err
		}
		for i, s := range p.Slots {
			if inside := s.Length - start; p.ok[i] && inside >= 0 && inside <= have && inside < blockBytes {
				counts[i] = inside == 0 || xxh3.Hash(block[:inside]) == s.Partial
			}
		}
		if have < blockBytes || xxh3.Hash(block) != binary.LittleEndian.Uint64(sums[SumBytes*full:]) {
			return full, counts, nil
		}
	}
}

// corrupt is an error about one replica's file.
func corrupt(op string, id chunk.ID, format string, args ...any) error {
	e := fault.New(fault.CorruptData, op, format, args...)
	e.Chunk = id.String()
	return e
}
