package disk

import (
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// diskError wraps an I/O error on a replica.
func diskError(op, path string, id chunk.ID, err error) *fault.Error {
	e := vfs.Fault(op, path, err)
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

// noRoom is a refusal for want of room above the reserve.
func noRoom(op string, id chunk.ID, reason string) error {
	return &fault.Error{Kind: fault.NoSpace, Op: op, Chunk: id.String(), Reason: reason,
		Hint: "remove files, add disks, or lower datanode.reserve"}
}

func notFound(op string, id chunk.ID) error {
	return chunkError(fault.NotFound, op, id, "no replica here")
}

func closedError(op string) error { return fault.New(fault.Closed, op, "the chunk store is closed") }
