package datanode

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/idle"
)

// Connection is one data connection to a datanode. One operation owns it at a time; during a session its two directions
// have an owner each.
type Connection struct {
	Net     net.Conn
	Packets *wire.PacketReader

	address   string
	encoder   *wire.Encoder
	scratch   []byte          // for requests
	watched   context.Context // ends what waits on the connection; nil: nothing does
	reused    bool            // it comes from the pool, so its peer may have closed it meanwhile
	idleSince time.Time
}

// NewConnection begins to use a socket.
func NewConnection(c net.Conn, address string) *Connection {
	return &Connection{Net: c, address: address, Packets: wire.NewPacketReader(c, wire.BodyBytesMax),
		encoder: wire.NewEncoder()}
}

// alive looks, without waiting, whether the peer closed the connection or sent something that nobody asked for.
//
// Beware: it peeks at the socket's descriptor behind the back of net.Conn, because a read with a deadline in the past
// would return without looking, and one in the future would wait. It is right only while nobody else reads from the
// connection, and only for one that is a syscall.Conn (anything else counts as alive). The function must return true:
// with false the runtime would wait for bytes. TestIdleConnectionsThatDied fails if it does not look.
func (c *Connection) alive() bool {
	if c.Packets.Buffered() > 0 {
		return false
	}
	raw, ok := c.Net.(syscall.Conn)
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

// Watch makes everything that waits on the connection fail when ctx ends. The returned function ends the watch; it
// reports false if ctx ended first, and then the connection is of no more use.
func (c *Connection) Watch(ctx context.Context) (stop func() bool) {
	c.watched = ctx
	return context.AfterFunc(ctx, func() { _ = c.Net.SetDeadline(LongAgo) })
}

// LongAgo as a deadline makes blocked calls return at once.
var LongAgo = time.Unix(1, 0)

// Request writes one packet with a body and perhaps more bytes behind it.
func (c *Connection) Request(op wire.Op, body any, deadline time.Time, more []byte) error {
	var err error
	header := wire.Header{Op: op}
	switch op {
	case wire.OpOpenWrite, wire.OpOpenRecords, wire.OpCopy: // what may take long
		header.Flags = wire.FlagAlive
	}
	if c.scratch, err = c.encoder.AppendPacket(c.scratch[:0], header, body); err != nil {
		return err
	}
	if err := c.Net.SetWriteDeadline(deadline); err != nil {
		return c.Fault(err)
	}
	pieces := net.Buffers{c.scratch}
	if len(more) > 0 {
		pieces = append(pieces, more)
	}
	if _, err := pieces.WriteTo(c.Net); err != nil {
		return c.Fault(err)
	}
	return nil
}

// Expect reads the next packet, which has to be of the wanted op.
func (c *Connection) Expect(op wire.Op, body any, deadline time.Time) error {
	if err := c.readBy(deadline); err != nil {
		return c.Fault(err)
	}
	_, err := c.Packets.Expect(op, body)
	return c.Fault(err)
}

// ExpectAlive is Expect for a peer that says, while it works, that it lives: it may not be silent for longer than
// silence. heard is called with what it says, and may end the wait; nil: that it lives is enough.
func (c *Connection) ExpectAlive(op wire.Op, body any, silence time.Duration, deadline time.Time,
	heard func(wire.Alive) error) error {
	alive := func(said wire.Alive) error {
		if heard != nil {
			if err := heard(said); err != nil {
				return err
			}
		}
		if soon := time.Now().Add(silence); soon.Before(deadline) {
			return c.readBy(soon)
		}
		return c.readBy(deadline)
	}
	if err := alive(wire.Alive{}); err != nil {
		return c.Fault(err)
	}
	_, err := c.Packets.ExpectAlive(op, body, alive)
	return c.Fault(err)
}

// readBy sets the time until which the peer has to say something. It never takes back that the watched context ended.
func (c *Connection) readBy(deadline time.Time) error {
	if err := c.Net.SetReadDeadline(deadline); err != nil {
		return err
	}
	if c.watched != nil {
		return c.watched.Err()
	}
	return nil
}

// Fault gives err the address, and a kind if it has none: a socket's errors are fault.Unavailable.
func (c *Connection) Fault(err error) error {
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
