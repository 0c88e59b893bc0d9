package walcheck

import (
	"encoding/binary"
	"os"
	"path/filepath"

	"github.com/zeebo/xxh3"
)

// The mark file remembers how far the log is known to reach, so that a start can tell an unfinished last write,
// which was never acknowledged, from the loss of one that was. It is written without fsync about once a second,
// with fsync at start and at an orderly end; an old mark is true as well, only weaker. Two slots take turns, so a
// torn one leaves the other.
const (
	markName      = "mark"
	markMagic     = 0x4d4c5757 // "WWLM"
	markVersion   = 1
	markSlotBytes = 512
	markUsedBytes = 32
)

// mark is the content of a slot.
type mark struct {
	counter uint64
	index   uint64 // every raft entry up to this one is committed and on this disk
	clean   bool   // the server ended in order, and the log ended exactly there
}

// encode returns the bytes of a slot.
func (m mark) encode() []byte {
	b := make([]byte, 0, markSlotBytes)
	b = binary.LittleEndian.AppendUint32(b, markMagic)
	clean := byte(0)
	if m.clean {
		clean = 1
	}
	b = append(b, markVersion, clean, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, m.counter)
	b = binary.LittleEndian.AppendUint64(b, m.index)
	b = binary.LittleEndian.AppendUint64(b, xxh3.Hash(b))
	return b[:markSlotBytes]
}

// decodeMark decodes a slot; false if it is none.
func decodeMark(b []byte) (mark, bool) {
	if len(b) < markUsedBytes || binary.LittleEndian.Uint32(b) != markMagic || b[4] != markVersion ||
		b[5] > 1 || b[6] != 0 || b[7] != 0 ||
		xxh3.Hash(b[:markUsedBytes-8]) != binary.LittleEndian.Uint64(b[markUsedBytes-8:]) {
		return mark{}, false
	}
	return mark{
		counter: binary.LittleEndian.Uint64(b[8:]),
		index:   binary.LittleEndian.Uint64(b[16:]),
		clean:   b[5] == 1,
	}, true
}

// readMark returns the newest mark in dir; the zero mark if there is none.
func readMark(dir string) (mark, error) {
	b, err := os.ReadFile(filepath.Join(dir, markName))
	if err != nil && !os.IsNotExist(err) {
		return mark{}, err
	}
	var best mark
	for slot := range 2 {
		if len(b) < slot*markSlotBytes {
			break
		}
		if m, ok := decodeMark(b[slot*markSlotBytes:]); ok && m.counter >= best.counter {
			best = m
		}
	}
	return best, nil
}

// Mark writes marks.
type Mark struct {
	file *os.File
	last mark
}

// OpenMark opens the mark file of a log server's directory.
func OpenMark(dir string) (*Mark, error) {
	last, err := readMark(dir)
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(dir, markName), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	return &Mark{file: file, last: last}, nil
}

// Index is the raft entry that the newest mark names.
func (m *Mark) Index() uint64 { return m.last.index }

// Write replaces the older slot; with sync it is durable on return.
func (m *Mark) Write(index uint64, clean, sync bool) error {
	next := mark{counter: m.last.counter + 1, index: max(index, m.last.index), clean: clean}
	if _, err := m.file.WriteAt(next.encode(), int64(next.counter%2)*markSlotBytes); err != nil {
		return err
	}
	if sync {
		if err := m.file.Sync(); err != nil {
			return err
		}
	}
	m.last = next
	return nil
}

// Close closes the mark's file.
func (m *Mark) Close() error { return m.file.Close() }
