package chunkfile

import (
	"errors"
	"io"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// State is what a replica remembers of the header and the slots of its file. The zero State has not been read yet.
type State struct {
	Layout
	counter  uint64           // highest in any slot
	synced   int64            // length of the newest durable sync slot; -1: none yet
	promised chunk.Generation // lowest generation that may write
	nextSlot int              // sync slot to overwrite: not the newest good one
	// settled: what the prelude said when it was loaded is durable. A process may have died between writing a slot
	// and its sync: the slot counts, but the other one is still the durable one and must not be overwritten.
	settled bool
}

// Loaded reports whether the header and the slots were read or written.
func (s *State) Loaded() bool { return s.counter > 0 }

// Promised is the lowest generation that may write.
func (s *State) Promised() chunk.Generation { return s.promised }

// Promise has the next Sync record that nobody below a generation may write.
func (s *State) Promise(generation chunk.Generation) {
	s.promised = generation
	s.Outdate()
}

// Outdate has the next Sync write a slot even if the length was synced before.
func (s *State) Outdate() { s.synced = -1 }

// Load reads header and slots of a sealed file whose name says length. It returns the sum of the last, partial
// block. Errors: fault.CorruptData if the file cannot be this replica, fault.Version, or that of a read.
func Load(file vfs.File, id chunk.ID, length int64) (_ State, partial uint64, err error) {
	const op = "load replica"
	front, err := readPrelude(file)
	if fault.KindOf(err) == fault.CorruptData {
		return State{}, 0, corrupt(op, id, "%v", err)
	}
	if err != nil {
		return State{}, 0, err
	}
	if front.id != id {
		return State{}, 0, corrupt(op, id, "the file is that of chunk %s", front.id)
	}
	info, err := file.Stat()
	if err != nil {
		return State{}, 0, err
	}
	if have := max(0, info.Size()-front.DataOffset()); have < length || length > front.ChunkSize {
		return State{}, 0, corrupt(op, id, "the file holds %d data bytes of a chunk of %d, its name says %d",
			have, front.ChunkSize, length)
	}
	at := front.newestSync(func(s slot) bool { return s.Length == length })
	if at < 0 {
		return State{}, 0, corrupt(op, id, "no sync slot records the length %d", length)
	}
	return front.state(at, length), front.slots[at].Partial, nil
}

// CheckHeader reads the header of an open replica's file: its slots may be changing. Errors: fault.CorruptData if the
// file cannot be this replica, fault.Version, or that of a read.
func CheckHeader(file io.ReaderAt, id chunk.ID) error {
	const op = "check header"
	b := make([]byte, SectorBytes)
	if err := vfs.ReadFull(file, b, 0); err != nil {
		return err
	}
	header, err := parseHeader(b)
	if err != nil {
		return err
	}
	if header.ID != id {
		return corrupt(op, id, "the file is that of chunk %s", header.ID)
	}
	return nil
}

// prelude is the decoded front of a chunk file.
type prelude struct {
	id chunk.ID
	Layout
	slots [slotCount]slot
	ok    [slotCount]bool
}

// readPrelude reads header and slots. Errors: fault.CorruptData, fault.Version, or that of the read.
func readPrelude(f io.ReaderAt) (prelude, error) {
	b := make([]byte, preludeBytes)
	if n, err := f.ReadAt(b, 0); err != nil && !(errors.Is(err, io.EOF) && n == len(b)) {
		if errors.Is(err, io.EOF) {
			return prelude{}, fault.New(fault.CorruptData, "read chunk file prelude",
				"the file ends after %d of %d bytes", n, preludeBytes)
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
	p.id, p.Layout = h.ID, h.Layout
	for i := range slotCount {
		p.slots[i], p.ok[i] = parseSlot(b[SectorBytes*(1+i):], i, h)
	}
	return p, nil
}

// state is what to remember if the sync slot at an index is the newest good one. synced is the length that is
// durable, or -1.
func (p *prelude) state(index int, synced int64) State {
	s := State{Layout: p.Layout, nextSlot: 1 - index, synced: synced}
	for i, slot := range p.slots {
		if p.ok[i] {
			s.counter, s.promised = max(s.counter, slot.counter), max(s.promised, slot.promised)
		}
	}
	return s
}

// newestSync is the index of the sync slot with the highest counter that accept returns true for, or -1.
func (p *prelude) newestSync(accept func(slot) bool) int {
	best := -1
	for i := range flushSlot {
		if p.ok[i] && accept(p.slots[i]) && (best < 0 || p.slots[i].counter > p.slots[best].counter) {
			best = i
		}
	}
	return best
}

// corrupt is an error about one replica's file.
func corrupt(op string, id chunk.ID, format string, args ...any) error {
	e := fault.New(fault.CorruptData, op, format, args...)
	e.Chunk = id.String()
	return e
}
