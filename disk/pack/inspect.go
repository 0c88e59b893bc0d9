package pack

import (
	"errors"
	"io/fs"
	"os"
	"path"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// Inspect looks whether the files of the segments are where they belong, and at their headers. Nothing more is appended
// to a segment whose file has gone. A damaged header is written anew: all that it says follows from the name.
func (s *Set) Inspect() {
	s.mu.Lock()
	segments := make([]*Segment, 0, len(s.mu.segments))
	for _, g := range s.mu.segments {
		segments = append(segments, g)
	}
	s.mu.Unlock()
	for _, segment := range segments {
		err := s.inspect(segment)
		s.mu.Lock()
		gone := segment.gone
		lost := errors.Is(err, fs.ErrNotExist) && !gone
		segment.lost = segment.lost || lost
		s.mu.Unlock()
		switch {
		case err == nil || gone:
		case lost:
			s.options.Logger.Error("the file of a segment is gone", "path", segment.Path())
		default:
			s.options.Logger.Error("a segment cannot be looked at", "path", segment.Path(), "err", err)
		}
	}
}

// inspect looks at the header of one segment.
func (s *Set) inspect(segment *Segment) error {
	file, err := s.options.FS.OpenFile(segment.Path(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close() // what is written is synced
	b := make([]byte, chunkfile.SectorBytes)
	if err := vfs.ReadFull(file, b, 0); err != nil {
		return err
	}
	damage := parseSegmentHeader(b, segment.name)
	if fault.KindOf(damage) != fault.CorruptData {
		return damage
	}
	s.options.Logger.Error("the header of a segment is damaged and is written anew", "path", segment.Path(), "err",
		damage)
	putSegmentHeader(b, segment.name)
	if _, err := file.WriteAt(b, 0); err != nil {
		return err
	}
	return file.Datasync()
}

// Strays calls setAside with the name of every segment's file that is not one of the set: damage of a name, or of a
// header that a start could make nothing of. It must not call the Set.
func (s *Set) Strays(setAside func(name string)) error {
	entries, err := s.options.FS.ReadDir(s.options.Directory)
	if err != nil {
		return vfs.Fault("list segments", s.options.Directory, err)
	}
	for _, entry := range entries {
		name, ok := parseSegmentName(entry.Name())
		if !ok || entry.IsDir() {
			continue
		}
		s.naming.Lock()
		s.mu.Lock()
		known := s.mu.segments[name.sequence]
		s.mu.Unlock()
		if known == nil || known.name != name {
			if _, err := s.options.FS.Stat(path.Join(s.options.Directory, entry.Name())); err == nil {
				setAside(entry.Name())
			}
		}
		s.naming.Unlock()
	}
	return nil
}
