package datanode

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
)

// socketFault is the error of a socket, with a reason that a person understands.
func socketFault(err error, address string) error {
	described := &fault.Error{Kind: fault.Unavailable, Address: address, Err: err}
	var timeout net.Error
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		described.Reason, described.Err = "no answer in time", os.ErrDeadlineExceeded
	case errors.Is(err, syscall.ECONNREFUSED):
		described.Reason, described.Err = "connection refused", nil
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		described.Reason, described.Err = "the connection was reset", nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		described.Reason, described.Err = "the datanode closed the connection", nil
	default:
		described.Reason = "no connection"
	}
	return described
}

var errStalled = errors.New("no progress")

// Stalled reports whether an error says that a datanode lives, but got on with nothing of what it was asked for.
func Stalled(err error) bool { return errors.Is(err, errStalled) }

// Silent reports whether an error says that a datanode did not answer in time.
func Silent(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// Fault says which operation, node and chunk an error of a connection is about.
func Fault(err error, op string, at wire.Hop, chunkID string) *fault.Error {
	e, ok := fault.Outermost(err)
	if !ok {
		e = &fault.Error{Kind: fault.Unavailable, Err: err}
	}
	copied := *e
	if copied.Node == "" {
		copied.Node = at.NodeID
	}
	if copied.Node == at.NodeID {
		copied.Address = at.Address
	}
	copied.Op, copied.Chunk = op, chunkID
	return &copied
}
