package checkpoint

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// File is a checkpoint on disk.
type File struct {
	Head      Head
	Name      string
	FileBytes int64
	Bytes     uint64 // of content
	Received  bool   // from a peer, and raft's snapshot: the log may begin behind its index
	Damage    error  // it cannot be read; head may be missing
}

// Usable reports whether a log that begins with raft entry first continues f.
func (f *File) Usable(first uint64) bool { return f.Damage == nil && f.Head.Index+1 >= first }

// read reads a file's head and passes the rest, and the whole, to each.
func read(fs vfs.FS, path string, each func(rest *reader, whole *io.SectionReader) error) (found File, err error) {
	file, err := fs.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return found, vfs.FaultOf("read checkpoint", err)
	}
	defer file.Close()
	stat, err := file.Stat()
	if err != nil {
		return found, vfs.FaultOf("read checkpoint", err)
	}
	found.Name, found.FileBytes = filepath.Base(path), stat.Size()
	rest, err := newReader(io.NewSectionReader(file, 0, found.FileBytes))
	if err == nil {
		found.Head = rest.head
		err = each(rest, io.NewSectionReader(file, 0, found.FileBytes))
	}
	if err != nil {
		return found, InFile(path, err)
	}
	found.Bytes = rest.bytes
	return found, nil
}

// Verify reads a whole file. Errors: fault.CorruptData, fault.Version, fault.Disk.
func Verify(fs vfs.FS, path string) (File, error) {
	return verify(fs, path, func(int64) error { return nil })
}

// verify is Verify that calls wait with the bytes of each piece; an error of wait ends it.
func verify(fs vfs.FS, path string, wait func(bytes int64) error) (File, error) {
	return read(fs, path, func(rest *reader, _ *io.SectionReader) error {
		for {
			piece, err := rest.next()
			if err == nil {
				err = wait(int64(len(piece)))
			}
			if err != nil {
				if errors.Is(err, io.EOF) {
					return nil
				}
				return err
			}
		}
	})
}

// Glance reads a file's head and end only.
func Glance(fs vfs.FS, path string) (File, error) {
	var end ending
	found, err := read(fs, path, func(rest *reader, whole *io.SectionReader) (err error) {
		raw := make([]byte, endBytes)
		if _, err := whole.ReadAt(raw, max(0, whole.Size()-endBytes)); err != nil {
			return endsEarly(err, "inside its end")
		}
		end, err = decodeEnding(raw, rest.headSum)
		return err
	})
	found.Bytes = end.bytes
	return found, err
}

// corrupt is damage in a checkpoint's bytes.
func corrupt(format string, args ...any) error {
	return fault.New(fault.CorruptData, "read checkpoint", format, args...)
}

// endsEarly makes an end inside something damage; other errors are the disk's.
func endsEarly(err error, where string) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return corrupt("the file ends %s", where)
	}
	return vfs.FaultOf("read checkpoint", err)
}

// InFile adds the path to an error.
func InFile(path string, err error) error {
	var e *fault.Error
	if errors.As(err, &e) && e.Path == "" {
		named := *e
		named.Path = path
		return &named
	}
	return err
}
