package disk

import (
	"errors"
	"syscall"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// isFull tells whether an error means that there is no room, which is no sign
// of a bad disk.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// diskError wraps an I/O error: fault.NoSpace for a full disk, else fault.Disk.
func diskError(op, path string, id chunk.ID, err error) error {
	e := &fault.Error{Kind: fault.Disk, Op: op, Path: path, Err: err}
	if isFull(err) {
		e.Kind = fault.NoSpace
		e.Hint = "free space on this volume, or lower its reserve"
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
