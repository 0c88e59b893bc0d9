package dataplane

import (
	"context"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whispering-woods/ww/dataplane/machine"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/bufpool"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/invariants"
)

// downstream is the next hop of a write session. The loop opens the session there, writes small packets itself, and
// takes the acks; larger packets, and what the socket does not take at once, go to a sender goroutine, which a
// session begins when it first needs one. The window bounds what waits for it.
//
// All methods but runSender, writeBatch and fail run on the loop.
type downstream struct {
	connection *connection
	session    *machine.WriteSession
	hop        wire.Hop

	neighbour *neighbour         // nil until it is connected
	reused    bool               // neighbour was idle: it may have gone meanwhile
	cancel    context.CancelFunc // of the dial; nil without one
	first     *bufpool.Buffer    // waits for the connection
	opened    bool               // the open was written, or queued for the sender
	broken    bool               // nothing more is sent
	over      bool               // after hangUp

	queue chan *bufpool.Buffer // to the sender, each with a reference; nil without one; closed by hangUp
	out   *net.TCPConn         // the sender's handle on the socket
	// undelivered counts what the sender has and the socket has not. While it is 0 the sender leaves the socket
	// alone, and the loop may write to it. Only the loop raises it.
	//
	// Warning: it is all that keeps loop and sender from writing into each other's packets, without a lock. The
	// sender lowers it only after its write has ended; the loop writes only while it reads 0, and what it could not
	// write goes to the sender with the count raised first. Any other order mixes packets downstream, which refuses
	// them: TestASmallPacketThatTheSocketTakesInPart.
	undelivered atomic.Int32
	written     int // bytes of the next buffer in queue that the loop has written

	batch, rest net.Buffers // sender only, like held
	held        []*bufpool.Buffer
}

// forwardBytesMax is the largest packet that a loop writes itself: more would keep
// it from its other connections while the kernel copies.
const forwardBytesMax = 16 << 10

// sendBatchMax bounds the packets of one writev.
const sendBatchMax = 16

func connectDownstream(c *connection, s *machine.WriteSession) *downstream {
	d := &downstream{connection: c, session: s, hop: s.Open.Downstream[0]}
	if n := c.loop.neighbours.reuse(d.hop.Address); n != nil {
		n.session, d.neighbour, d.reused = d, n, true
		return d // the open waits for what else the upstream has sent: see begin
	}
	d.dial()
	return d
}

// dial connects on a goroutine of its own. Its context is not the server's: when
// that stops, its sessions end first, and no hop downstream is blamed.
func (d *downstream) dial() {
	c := d.connection
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	c.server.goroutines.Go(func() {
		n, err := c.loop.neighbours.dial(ctx, d.hop.Address, c.server.limits.DialTimeout)
		c.loop.post(&event{connection: c, deliver: func() { d.connected(n, err) }})
	})
}

func (d *downstream) connected(reached *neighbour, err error) {
	d.cancel()
	switch {
	case d.over:
		if reached != nil {
			d.connection.loop.neighbours.keep(reached, &d.connection.server.limits, d.connection.server.now())
		}
	case err != nil:
		d.failed(err)
	case reached.closed:
		d.failed(fault.New(fault.Unavailable, "connect to datanode", "it closed the connection"))
	default:
		reached.session, d.neighbour, d.reused = d, reached, false
		d.begin()
	}
}

// begin opens the session downstream, unless that is done or has to wait. A
// small file's open and only packet leave together.
func (d *downstream) begin() {
	if d.opened || d.over || d.broken || d.neighbour == nil {
		return
	}
	s := d.session
	request := s.Open // the hops after it, and a window no wider than ours
	request.BodyVersion = wire.BodyVersion
	request.Downstream = s.Open.Downstream[1:]
	request.WindowBytes = s.Window
	packet, err := wire.AppendPacket(nil, wire.Header{Op: wire.OpOpenWrite, Flags: wire.FlagAlive}, &request)
	if err != nil {
		d.fail(err)
		return
	}
	pieces := [][]byte{packet}
	if d.first != nil && len(d.first.Bytes()) <= forwardBytesMax {
		pieces = append(pieces, d.first.Bytes())
	}
	written, err := writeWithoutWaiting(d.neighbour.raw.Fd(), pieces)
	if err != nil {
		d.neighbour.session = nil
		d.neighbour.close()
		if d.neighbour = nil; d.reused { // the neighbour closed it while it was idle
			d.dial()
		} else {
			d.fail(err)
		}
		return
	}
	d.opened = true
	first := d.first
	d.first = nil
	if written < len(packet) {
		open := d.connection.server.node.Buffers.Get(len(packet) - written)
		copy(open.Bytes(), packet[written:])
		d.enqueue(open, 0)
		written = len(packet)
	}
	switch written -= len(packet); {
	case first == nil:
	case written == len(first.Bytes()):
		first.Release()
	default:
		d.enqueue(first, written)
	}
}

// forward takes over a reference to a packet. A small one goes into the socket at once if nothing is before it: to
// wake the sender takes longer than to write it. All others go to the sender.
func (d *downstream) forward(buffer *bufpool.Buffer) {
	switch {
	case d.broken || d.over:
		buffer.Release()
	case !d.opened: // one packet may come before the window was granted
		invariants.Assert(d.first == nil, "two packets before the open ack")
		d.first = buffer
		d.begin()
	case len(buffer.Bytes()) <= forwardBytesMax && d.undelivered.Load() == 0:
		written, err := writeWithoutWaiting(d.neighbour.raw.Fd(), [][]byte{buffer.Bytes()})
		if err == nil && written < len(buffer.Bytes()) {
			d.enqueue(buffer, written)
			return
		}
		buffer.Release()
		if err != nil {
			d.fail(err)
		}
	default:
		d.enqueue(buffer, 0)
	}
}

// enqueue queues a buffer for the sender; its first written bytes are in the socket.
func (d *downstream) enqueue(buffer *bufpool.Buffer, written int) {
	if d.queue == nil {
		out, err := duplicate(d.neighbour.raw)
		if err != nil {
			buffer.Release()
			d.fail(&fault.Error{Kind: fault.Busy, Op: "forward", Err: err})
			return
		}
		// The window bounds the packets that wait: each costs at least WindowCostMin. And the open.
		d.out, d.queue = out, make(chan *bufpool.Buffer, d.session.Window/wire.WindowCostMin+2)
		d.connection.server.goroutines.Go(d.runSender)
	}
	if written > 0 {
		d.written = written
	}
	d.undelivered.Add(1)
	select {
	case d.queue <- buffer:
	default: // cannot be: the window is smaller than the queue
		buffer.Release()
		d.fail(fault.New(fault.Internal, "forward", "the queue of %d packets is full", cap(d.queue)))
	}
}

// writeWithoutWaiting writes what the socket takes without waiting.
func writeWithoutWaiting(descriptor int, pieces [][]byte) (written int, err error) {
	for {
		if len(pieces) == 1 {
			written, err = unix.SendmsgN(descriptor, pieces[0], nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		} else {
			written, err = unix.SendmsgBuffers(descriptor, pieces, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		}
		switch {
		case err == nil:
			return written, nil
		case errors.Is(err, unix.EAGAIN):
			return 0, nil
		case !errors.Is(err, unix.EINTR):
			return 0, os.NewSyscallError("sendmsg", err)
		}
	}
}

// onPacket passes a packet of the neighbour on to the machine. payload and ack are used
// during the call only. Errors: fault.Protocol, or what the neighbour says.
func (d *downstream) onPacket(header wire.Header, payload []byte, ack *wire.Ack) error {
	protocol, now := d.connection.machine, d.connection.server.now()
	switch {
	case header.Op == wire.OpOpenAck && !d.session.DownOpened:
		var opened wire.OpenAck
		if err := wire.DecodeBody(payload, &opened); err != nil {
			return err
		}
		protocol.OnDownOpened(d.session, opened, now)
		return nil
	case header.Op == wire.OpAck && d.session.DownOpened:
		if err := wire.DecodeAck(payload, ack); err != nil {
			return err
		}
		protocol.OnDownAck(d.session, *ack, now)
		return nil
	case header.Op == wire.OpAlive:
		var alive wire.Alive
		if err := wire.DecodeBody(payload, &alive); err != nil {
			return err
		}
		protocol.OnDownAlive(d.session, alive, now)
		return nil
	case header.Op == wire.OpError:
		var status wire.Status
		if err := wire.DecodeBody(payload, &status); err != nil {
			return err
		}
		if err := status.Err("peer refused", ""); err != nil {
			return err
		}
	}
	return fault.New(fault.Protocol, "forward", "it sent op %d in a write session", header.Op)
}

// fail ends the sending and tells the machine from the mailbox: the caller may be
// in the middle of its effects, or on the sender. Any goroutine.
func (d *downstream) fail(err error) {
	c := d.connection
	c.loop.post(&event{connection: c, deliver: func() { d.failed(err) }})
}

// failed tells the machine, unless this side hung up itself.
func (d *downstream) failed(err error) {
	if d.over || d.broken {
		return
	}
	d.broken = true
	if fault.KindOf(err) == 0 {
		err = &fault.Error{Kind: fault.Unavailable, Op: "forward", Node: d.hop.NodeID, Address: d.hop.Address, Err: err}
	}
	d.connection.machine.OnDownFailed(d.session, err, d.connection.server.now())
}

// hangUp ends the sending. After a clean end the neighbour, which has acked
// everything, keeps its connection for others; else it is closed.
func (d *downstream) hangUp(clean bool) {
	d.over = true
	if d.cancel != nil {
		d.cancel()
	}
	if d.first != nil {
		d.first.Release()
		d.first = nil
	}
	if d.queue != nil {
		close(d.queue)
		if !clean {
			_ = d.out.Close() // under the sender
		}
	}
	n := d.neighbour
	if n == nil {
		return
	}
	n.session = nil
	if clean && !d.broken {
		d.connection.loop.neighbours.keep(n, &d.connection.server.limits, d.connection.server.now())
	} else {
		n.close()
	}
}

// runSender is the sender goroutine. It releases every buffer in its queue, and ends after hangUp.
func (d *downstream) runSender() {
	defer func() {
		for b := range d.queue {
			b.Release()
		}
		_ = d.out.Close()
	}()
	for b := range d.queue {
		d.batch, d.held = append(d.batch[:0], b.Bytes()[d.written:]), append(d.held, b)
		d.written = 0
	gather:
		for len(d.held) < sendBatchMax {
			select {
			case more, ok := <-d.queue:
				if !ok {
					break gather
				}
				d.batch, d.held = append(d.batch, more.Bytes()), append(d.held, more)
			default:
				break gather
			}
		}
		delivered := int32(len(d.batch))
		if err := d.writeBatch(); err != nil {
			d.fail(err)
			return
		}
		d.undelivered.Add(-delivered)
	}
}

// writeBatch writes the batch and releases its buffers when the socket has them.
func (d *downstream) writeBatch() error {
	defer func() {
		for i, b := range d.held {
			b.Release()
			d.held[i] = nil
		}
		d.held = d.held[:0]
	}()
	if err := d.out.SetWriteDeadline(time.Now().Add(d.connection.server.limits.StepTimeout)); err != nil {
		return err
	}
	if len(d.batch) == 1 {
		_, err := d.out.Write(d.batch[0])
		return err
	}
	d.rest = d.batch // WriteTo consumes its receiver
	_, err := d.rest.WriteTo(d.out)
	clear(d.batch)
	return err
}
