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
	e := &fault.Error{Kind: fault.Unavailable, Address: address, Err: err}
	var timeout net.Error
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		e.Reason, e.Err = "no answer in time", nil
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Reason, e.Err = "connection refused", nil
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		e.Reason, e.Err = "the connection was reset", nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		e.Reason, e.Err = "the datanode closed the connection", nil
	default:
		e.Reason = "no connection"
	}
	return e
}

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
