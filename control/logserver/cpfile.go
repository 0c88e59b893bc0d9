package logserver

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/whispering-woods/ww/internal/vfs"
)

// checkpointFile is a checkpoint on disk.
type checkpointFile struct {
	head      checkpointHead
	name      string
	fileBytes int64
	bytes     uint64 // of content
	received  bool   // from a peer, and raft's snapshot: the log may begin behind its index
	damage    error  // it cannot be read; head may be missing
}

// openCheckpointFile reads a file's head and gives the rest to each.
func openCheckpointFile(fs vfs.FS, path string, each func(c *checkpointReader) error) (f checkpointFile, err error) {
	file, err := fs.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return f, diskFault("read checkpoint", err)
	}
	defer file.Close()
	stat, err := file.Stat()
	if err != nil {
		return f, diskFault("read checkpoint", err)
	}
	f.name, f.fileBytes = filepath.Base(path), stat.Size()
	c, err := newCheckpointReader(io.NewSectionReader(file, 0, f.fileBytes))
	if err == nil {
		f.head = c.head
		err = each(c)
	}
	if err != nil {
		return f, inFile(path, err)
	}
	f.bytes = c.bytes
	return f, nil
}

// verifyCheckpoint reads a whole file. Errors: fault.CorruptData,
// fault.Version, fault.Disk.
func verifyCheckpoint(fs vfs.FS, path string) (checkpointFile, error) {
	return openCheckpointFile(fs, path, func(c *checkpointReader) error {
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

// glanceAtCheckpoint reads a file's head and end only.
func glanceAtCheckpoint(fs vfs.FS, path string) (checkpointFile, error) {
	var end checkpointEnd
	f, err := openCheckpointFile(fs, path, func(c *checkpointReader) error {
		file, err := fs.OpenFile(path, os.O_RDONLY, 0)
		if err != nil {
			return diskFault("read checkpoint", err)
		}
		defer file.Close()
		stat, err := file.Stat()
		if err != nil {
			return diskFault("read checkpoint", err)
		}
		b := make([]byte, checkpointEndBytes)
		if _, err := file.ReadAt(b, max(0, stat.Size()-checkpointEndBytes)); err != nil {
			return endsEarly(err, "inside its end")
		}
		end, err = decodeCheckpointEnd(b, c.headSum)
		return err
	})
	f.bytes = end.bytes
	return f, err
}
