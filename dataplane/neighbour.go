package dataplane

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/panjf2000/gnet/v2"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/idle"
)

// neighbour is a connection to another datanode that carries one write session after another. It is enrolled in the
// event loop of the sessions that use it, so that an ack is taken, and passed on upstream, by the thread that it
// wakes. Only that loop touches it.
type neighbour struct {
	loop    *loop
	address string
	raw     gnet.Conn // set by OnOpen

	session   *downstream // whose acks come; nil: none, the connection is idle
	idleSince time.Duration
	partial   []byte // the beginning of a packet; at most one packet and one read
	ack       wire.Ack

	inTraffic bool // gnet's OnTraffic is on the stack
	closing   bool // it is of no use any more
	closed    bool // gnet has closed the socket
}

// neighbours are the connections to other datanodes that one event loop watches.
// Only the loop touches them, but for dial.
type neighbours struct {
	loop *loop
	idle idle.Connections[*neighbour]
}

// dial connects to another datanode and enrols the connection in the loop. It blocks. Error: fault.Unavailable.
func (all *neighbours) dial(ctx context.Context, address string, timeout time.Duration) (*neighbour, error) {
	owner := all.loop
	failed := func(err error) (*neighbour, error) {
		return nil, &fault.Error{Kind: fault.Unavailable, Op: "connect to datanode", Address: address, Err: err}
	}
	dialer := net.Dialer{Timeout: timeout, KeepAlive: keepAlivePeriod}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return failed(err)
	}
	dialled := &neighbour{loop: owner, address: address}
	// Inside the gate until the loop has it: gnet wakes the loop on the way.
	if !owner.gate.enter() {
		_ = conn.Close()
		return failed(errStopping)
	}
	defer owner.gate.leave()
	enrolled, err := owner.events.Enroll(gnet.NewContext(ctx, dialled), conn) // has a duplicate, and closes conn
	if err != nil {
		_ = conn.Close()
		return failed(err)
	}
	if result := <-enrolled; result.Err != nil {
		return failed(result.Err)
	}
	if dialled.raw == nil {
		return failed(errors.New("the event loop cannot watch the connection"))
	}
	return dialled, nil
}

// reuse returns an idle connection to address that is alive as far as this side can see; nil: there is none.
func (all *neighbours) reuse(address string) *neighbour {
	for {
		n, ok := all.idle.Take(address)
		if !ok {
			return nil
		}
		if n.silent() {
			return n
		}
		n.close()
	}
}

// keep makes a connection idle on which nothing is under way, or closes it.
func (all *neighbours) keep(n *neighbour, limits *Limits, now time.Duration) {
	if n.closing || n.closed {
		return
	}
	most := (limits.PeerConnectionsMax + limits.Loops - 1) / limits.Loops
	if all.idle.LenOf(n.address) >= most {
		n.close()
		return
	}
	n.idleSince = now
	all.idle.Put(n.address, n)
	all.loop.busy.Store(true)
}

// expire closes what has been idle for too long.
func (all *neighbours) expire(limit time.Duration) {
	for _, n := range all.idle.Expire(func(n *neighbour) bool { return n.idleSince < limit }) {
		n.close()
	}
}

// silent tells whether an idle connection is open and nothing has come on it.
func (n *neighbour) silent() bool { return !n.closing && !n.closed && idle.Silent(n.raw.Fd()) }

// received takes what the loop has read: acks.
func (n *neighbour) received(data []byte) {
	n.inTraffic = true
	defer func() { n.inTraffic = false }()
	if n.session == nil { // nothing was asked
		n.close()
		return
	}
	upstream := n.session.connection
	if len(n.partial) > 0 {
		n.partial = append(n.partial, data...)
		data = n.partial
	}
	for !n.closing && n.session != nil {
		h, size, err := wholePacket(data)
		if err == nil && size == 0 {
			break
		}
		if err == nil {
			err = n.session.onPacket(h, data[wire.HeaderBytes:size], &n.ack)
		}
		if err != nil {
			n.session.failed(err)
			break
		}
		data = data[size:]
	}
	n.partial = append(n.partial[:0], data...)
	upstream.drive()
	if n.session == nil && len(n.partial) > 0 {
		n.close()
	}
}

// wholePacket looks at the first packet in data, verified. size is 0 if it is
// not whole yet. Errors: fault.Protocol, fault.Version, fault.CorruptData.
func wholePacket(data []byte) (header wire.Header, size int, err error) {
	if len(data) < wire.HeaderBytes {
		return wire.Header{}, 0, nil
	}
	if header, err = wire.ParseHeader(data); err != nil {
		return wire.Header{}, 0, err
	}
	if header.Length > wire.BodyBytesMax {
		return wire.Header{}, 0, fault.New(fault.Protocol, "read ack", "payload of %d bytes, limit %d", header.Length,
			wire.BodyBytesMax)
	}
	size = wire.HeaderBytes + int(header.Length)
	if len(data) < size {
		return header, 0, nil
	}
	return header, size, wire.Verify(data[:size])
}

// close ends the connection, now or when the loop is done with what it has read.
func (n *neighbour) close() {
	if n.closing || n.closed {
		return
	}
	n.closing = true
	if !n.inTraffic {
		_ = n.loop.events.Close(n.raw) // a failure is in the log of the engine
	}
}

// onClosed: gnet has closed the socket, for whatever reason.
func (n *neighbour) onClosed(err error) {
	n.closed = true
	n.loop.neighbours.idle.Remove(n.address, n)
	session := n.session
	if session == nil {
		return
	}
	// When the engine ends, it closes all connections in any order: that is no
	// fault of the neighbour, and the sessions end with their own connections.
	if !n.loop.gate.enter() {
		return
	}
	n.loop.gate.leave()
	if err == nil || errors.Is(err, io.EOF) {
		err = &fault.Error{Kind: fault.Unavailable, Op: "forward", Node: session.hop.NodeID,
			Address: session.hop.Address, Reason: "it closed the connection"}
	}
	session.failed(err)
	session.connection.drive()
}
