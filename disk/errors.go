package disk

import (
	"errors"
	"syscall"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// errSpaceUnknown: the room of a volume would have to be asked for.
var errSpaceUnknown = errors.New("the free space is not known")

// isShortage tells whether the process or the machine ran out of files or
// memory: neither the disk nor the replica is to blame, and later it may work.
func isShortage(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// diskError wraps an I/O error: fault.NoSpace for a full disk, fault.Busy for a
// shortage of files or memory, else fault.Disk.
func diskError(op, path string, id chunk.ID, err error) error {
	e := &fault.Error{Kind: fault.Disk, Op: op, Path: path, Err: err}
	switch {
	case vfs.IsFull(err):
		e.Kind = fault.NoSpace
		e.Hint = "free space on this volume, or lower its reserve"
	case isShortage(err):
		e.Kind = fault.Busy
		e.Hint = "raise the limit on open files (ulimit -n) or memory"
	}
	if !id.IsZero() {
		e.Chunk = id.String()
	}
	return e
}

// chunkError is an error about one replica.
func chunkError(kind fault.Kind, op string, id chunk.ID, format string, args ...any) error {
	e := fault.New(kind, op, format, args...)
	e.Chunk = id.String()
	return e
}

func notFound(op string, id chunk.ID) error {
	return chunkError(fault.NotFound, op, id, "no replica here")
}

func closedError(op string) error { return fault.New(fault.Closed, op, "the chunk store is closed") }
