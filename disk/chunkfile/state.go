package chunkfile

import (
	"errors"
	"io"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// prelude is the decoded front of a chunk file.
type prelude struct {
	ID chunk.ID
	Layout
	Slots [slotCount]Slot
	ok    [slotCount]bool
}

// ReadPrelude reads header and slots. Errors: fault.CorruptData,
// fault.Version, or that of the read.
func ReadPrelude(f io.ReaderAt) (prelude, error) {
	b := make([]byte, PreludeBytes)
	if n, err := f.ReadAt(b, 0); err != nil && !(errors.Is(err, io.EOF) && n == len(b)) {
		if errors.Is(err, io.EOF) {
			return prelude{}, fault.New(fault.CorruptData, "read chunk file prelude", "the file ends after %d of %d bytes", n, PreludeBytes)
		}
		return prelude{}, err
	}
	return parsePrelude(b)
}

func parsePrelude(b []byte) (p prelude, err error) {
	h, err := parseHeader(b)
	if err != nil {
		return prelude{}, err
	}
	p.ID, p.Layout = h.ID, LayoutOf(h.ChunkSize)
	for i := range slotCount {
		p.Slots[i], p.ok[i] = parseSlot(b[SectorBytes*(1+i):], i, h)
	}
	return p, nil
}

// NewestSync is the index of the sync slot with the highest counter that
// accept takes, or -1.
func (p *prelude) NewestSync(accept func(Slot) bool) int {
	best := -1
	for i := range FlushSlot {
		if p.ok[i] && accept(p.Slots[i]) && (best < 0 || p.Slots[i].Counter > p.Slots[best].Counter) {
			best = i
		}
	}
	return best
}

func (p *prelude) Counter() (highest uint64) {
	for i, s := range p.Slots {
		if p.ok[i] {
			highest = max(highest, s.Counter)
		}
	}
	return highest
}

func (p *prelude) Promised() (highest chunk.Generation) {
	for i, s := range p.Slots {
		if p.ok[i] {
			highest = max(highest, s.Promised)
		}
	}
	return highest
}
