package checkpoint

import (
	"errors"
	"io"
	"os"
	"path/filepath"

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

// read reads a file's head and gives the rest to each.
func read(fs vfs.FS, path string, each func(c *reader) error) (f File, err error) {
	file, err := fs.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return f, vfs.FaultOf("read checkpoint", err)
	}
	defer file.Close()
	stat, err := file.Stat()
	if err != nil {
		return f, vfs.FaultOf("read checkpoint", err)
	}
	f.Name, f.FileBytes = filepath.Base(path), stat.Size()
	c, err := newReader(io.NewSectionReader(file, 0, f.FileBytes))
	if err == nil {
		f.Head = c.head
		err = each(c)
	}
	if err != nil {
		return f, InFile(path, err)
	}
	f.Bytes = c.bytes
	return f, nil
}

// Verify reads a whole file. Errors: fault.CorruptData,
// fault.Version, fault.Disk.
func Verify(fs vfs.FS, path string) (File, error) {
	return read(fs, path, func(c *reader) error {
		for {
			if _, err := c.next(); err != nil {
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
	f, err := read(fs, path, func(c *reader) error {
		file, err := fs.OpenFile(path, os.O_RDONLY, 0)
		if err != nil {
			return vfs.FaultOf("read checkpoint", err)
		}
		defer file.Close()
		stat, err := file.Stat()
		if err != nil {
			return vfs.FaultOf("read checkpoint", err)
		}
		b := make([]byte, endBytes)
		if _, err := file.ReadAt(b, max(0, stat.Size()-endBytes)); err != nil {
			return endsEarly(err, "inside its end")
		}
		end, err = decodeEnding(b, c.headSum)
		return err
	})
	f.Bytes = end.bytes
	return f, err
}
