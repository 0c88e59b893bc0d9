package disk

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// errNeverSynced: the file of a replica of which nothing, not even the header,
// was ever durable.
var errNeverSynced = errors.New("the replica was never synced")

// recovered is what the file of an open replica proves.
type recovered struct {
	prelude
	floor   int   // sync slot that counts
	length  int64 // verified bytes
	partial uint64
}

// recoverFile finds the longest prefix of an open replica that its sums and
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
func recoverFile(f vfs.File, id chunk.ID) (recovered, error) {
	const op = "recover replica"
	info, err := f.Stat()
	if err != nil {
		return recovered{}, err
	}
	if info.Size() < preludeBytes { // the first sync would have made it longer
		return recovered{}, errNeverSynced
	}
	b := make([]byte, preludeBytes)
	if err := readFull(f, b, 0); err != nil {
		return recovered{}, err
	}
	if isZero(b) {
		return recovered{}, errNeverSynced
	}
	p, err := parsePrelude(b)
	if err != nil {
		return recovered{}, err
	}
	if p.id != id {
		return recovered{}, chunkError(fault.CorruptData, op, id, "the file is that of chunk %s", p.id)
	}
	full, counts, err := verifySlots(f, p, min(max(0, info.Size()-p.dataOffset), p.chunkSize))
	if err != nil {
		return recovered{}, err
	}
	got := recovered{prelude: p}
	got.floor = p.newestSync(func(s slot) bool { return counts[s.index] })
	if got.floor < 0 {
		return recovered{}, chunkError(fault.CorruptData, op, id, "%d whole blocks match their sums, but no sync slot matches the data", full)
	}
	floor := p.slots[got.floor]
	got.length, got.partial = floor.length, floor.partial
	if s := p.slots[flushSlot]; counts[flushSlot] && s.counter > floor.counter && s.length > got.length {
		got.length, got.partial = s.length, s.partial
	}
	if border := full * blockBytes; border > got.length {
		got.length, got.partial = border, 0
	}
	return got, nil
}

// verifySlots reads the data from the start as long as whole blocks match their
// sums. It returns the number of those, and which slots count.
func verifySlots(f vfs.File, p prelude, dataBytes int64) (full int64, counts [slotCount]bool, err error) {
	sums := make([]byte, sumBytes*p.blocks())
	// The table may end in a hole behind the end of a short file.
	if n, err := f.ReadAt(sums, sumsOffset); err != nil && !errors.Is(err, io.EOF) {
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
		if err := readFull(f, block[:have], p.dataOffset+start); err != nil {
			return full, counts, err
		}
		for i, s := range p.slots {
			if inside := s.length - start; p.ok[i] && inside >= 0 && inside <= have && inside < blockBytes {
				counts[i] = inside == 0 || xxh3.Hash(block[:inside]) == s.partial
			}
		}
		if have < blockBytes || xxh3.Hash(block) != binary.LittleEndian.Uint64(sums[sumBytes*full:]) {
			return full, counts, nil
		}
	}
}

// readFull reads all of b; an early end is an error.
func readFull(f io.ReaderAt, b []byte, offset int64) error {
	if len(b) == 0 {
		return nil
	}
	n, err := f.ReadAt(b, offset)
	if n == len(b) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
