package client

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/idle"
)

// connection is one data connection to a datanode. One operation owns it at a
// time; during a write session its two directions have an owner each.
type connection struct {
	net     net.Conn
	address string
	packets *wire.PacketReader
	encoder *wire.Encoder
	scratch []byte // for requests
	// reused: it comes from the pool, so its peer may have closed it meanwhile.
	reused    bool
	idleSince time.Time
}

func newConnection(c net.Conn, address string) *connection {
	return &connection{net: c, address: address, packets: wire.NewPacketReader(c, wire.BodyBytesMax), encoder: wire.NewEncoder()}
}

// alive looks, without waiting, whether the peer closed the connection or sent
// something that nobody asked for.
func (c *connection) alive() bool {
	if c.packets.Buffered() > 0 {
		return false
	}
	raw, ok := c.net.(syscall.Conn)
	if !ok {
		return true
	}
	control, err := raw.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = control.Read(func(descriptor uintptr) bool {
		quiet = idle.Silent(int(descriptor))
		return true
	})
	return err == nil && quiet
}

// watch makes everything that waits on the connection fail when ctx ends. The
// returned function ends the watch; it reports false if ctx ended first, and
// then the connection is of no more use.
func (c *connection) watch(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = c.net.SetDeadline(longAgo) })
}

// longAgo as a deadline makes blocked calls return at once.
var longAgo = time.Unix(1, 0)

// request writes one packet with a body and perhaps more bytes behind it.
func (c *connection) request(op wire.Op, body any, deadline time.Time, more []byte) error {
	var err error
	if c.scratch, err = c.encoder.AppendPacket(c.scratch[:0], wire.Header{Op: op}, body); err != nil {
		return err
	}
	if err := c.net.SetWriteDeadline(deadline); err != nil {
		return c.fault(err)
	}
	pieces := net.Buffers{c.scratch}
	if len(more) > 0 {
		pieces = append(pieces, more)
	}
	if _, err := pieces.WriteTo(c.net); err != nil {
		return c.fault(err)
	}
	return nil
}

// expect reads the next packet, which has to be of the wanted op.
func (c *connection) expect(op wire.Op, body any, deadline time.Time) error {
	if err := c.net.SetReadDeadline(deadline); err != nil {
		return c.fault(err)
	}
	_, err := c.packets.Expect(op, body)
	return c.fault(err)
}

// fault gives err the address, and a kind if it has none: a socket's errors are
// fault.Unavailable.
func (c *connection) fault(err error) error {
	if err == nil {
		return nil
	}
	var e *fault.Error
	if errors.As(err, &e) {
		if e.Address == "" {
			e.Address = c.address
		}
		return err
	}
	return socketFault(err, c.address)
}

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
	case errors.Is(err, errEOF), errors.Is(err, errUnexpectedEOF):
		e.Reason, e.Err = "the datanode closed the connection", nil
	default:
		e.Reason = "no connection"
	}
	return e
}

// datanode tells which node an error of a connection is about.
func datanode(err error, op string, at Replica, chunkID string) *fault.Error {
	e, ok := asFault(err)
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
