package chunkfile

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/vfs"
)

// ErrNeverSynced is the error for a replica of whose file nothing, not even the header, was ever durable.
var ErrNeverSynced = errors.New("the replica was never synced")

// Recovered is what the file of an open replica proves.
type Recovered struct {
	State
	Length  int64 // verified bytes
	Partial uint64
}

// Recover finds the longest prefix of an open replica that its sums and slots prove. It only reads.
//
// A slot counts if the full blocks before its length match their sums and the bytes behind the last block
// border match the slot's own sum. The sync slot with the highest counter that counts is the floor: the
// replica is never shorter. slots with a lower counter are from before a cut, or outdated. From the floor on,
// a flush slot that counts and full blocks that match may only lengthen the replica.
//
// Errors: ErrNeverSynced; fault.CorruptData if no sync slot counts; fault.Version; that of a read.
func Recover(file vfs.File, id chunk.ID) (Recovered, error) {
	const op = "recover replica"
	info, err := file.Stat()
	if err != nil {
		return Recovered{}, err
	}
	if info.Size() < preludeBytes { // the first sync would have made it longer
		return Recovered{}, ErrNeverSynced
	}
	b := make([]byte, preludeBytes)
	if err := vfs.ReadFull(file, b, 0); err != nil {
		return Recovered{}, err
	}
	if IsZero(b) {
		return Recovered{}, ErrNeverSynced
	}
	front, err := parsePrelude(b)
	if err != nil {
		return Recovered{}, err
	}
	if front.id != id {
		return Recovered{}, corrupt(op, id, "the file is that of chunk %s", front.id)
	}
	full, counts, err := verifySlots(file, front, min(max(0, info.Size()-front.DataOffset()), front.ChunkSize))
	if err != nil {
		return Recovered{}, err
	}
	newest := front.newestSync(func(s slot) bool { return counts[s.index] })
	if newest < 0 {
		return Recovered{}, corrupt(op, id, "%d whole blocks match their sums, but no sync slot matches the data", full)
	}
	floor := front.slots[newest]
	got := Recovered{State: front.state(newest, -1), Length: floor.Length, Partial: floor.Partial}
	if s := front.slots[flushSlot]; counts[flushSlot] && s.counter > floor.counter && s.Length > got.Length {
		got.Length, got.Partial = s.Length, s.Partial
	}
	if border := full * blockBytes; border > got.Length {
		got.Length, got.Partial = border, 0
	}
	return got, nil
}

// verifySlots reads the data from the start as long as whole blocks match their sums. It returns the number
// of those, and which slots count.
func verifySlots(file vfs.File, front prelude, dataBytes int64) (full int64, counts [slotCount]bool, err error) {
	sums := make([]byte, SumBytes*front.blocks())
	// The table may end in a hole behind the end of a short file.
	if n, err := file.ReadAt(sums, sumsOffset); err != nil && !errors.Is(err, io.EOF) {
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
		if err := vfs.ReadFull(file, block[:have], front.DataOffset()+start); err != nil {
			return full, counts, err
		}
		for i, s := range front.slots {
			if inside := s.Length - start; front.ok[i] && inside >= 0 && inside <= have && inside < blockBytes {
				counts[i] = inside == 0 || xxh3.Hash(block[:inside]) == s.Partial
			}
		}
		if have < blockBytes || xxh3.Hash(block) != binary.LittleEndian.Uint64(sums[SumBytes*full:]) {
			return full, counts, nil
		}
	}
}
