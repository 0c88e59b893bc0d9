package dataplane

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/bufpool"
	"github.com/whispering-woods/ww/internal/fault"
)

// downstream is the connection of a write session to its next hop: a sender
// that dials, opens and writes packets, and a reader of acks. The window bounds
// what waits for the sender.
//
// connectDownstream, forward and hangUp run on the loop. The goroutines end after
// hangUp, or by themselves after the final ack.
type downstream struct {
	connection *connection
	session    *session
	hop        wire.Hop

	queue chan *bufpool.Buffer // closed by hangUp; each comes with a reference
	// undelivered counts what the sender has and the socket has not, the open
	// included. While it is 0 the sender leaves the socket alone, and the loop may
	// write to it. Only the loop raises it.
	undelivered atomic.Int32
	raw         syscall.RawConn // set before undelivered gets 0 for the first time
	begun       int             // bytes of the next buffer in queue that the loop has written
	final       atomic.Uint64   // seqno of the session's last packet; 0 until it was forwarded

	context context.Context // ends with a broken hang-up
	cancel  context.CancelFunc
	failed  sync.Once
	batch   net.Buffers // sender only, like rest and held
	rest    net.Buffers
	held    []*bufpool.Buffer

	acks ackBox // from the reader to the loop
}

// forwardBytesMax is the largest packet that a loop writes itself: more would keep
// it from its other connections while the kernel copies.
const forwardBytesMax = 16 << 10

// sendBatchMax bounds the packets of one writev.
const sendBatchMax = 16

func connectDownstream(c *connection, s *session) *downstream {
	d := &downstream{connection: c, session: s, hop: s.open.Downstream[0]}
	// The window bounds the packets that wait: each costs at least WindowCostMin.
	d.queue = make(chan *bufpool.Buffer, s.window/wire.WindowCostMin+1)
	d.undelivered.Store(1)
	// Not the server's context: when it stops, its sessions end first, and nobody
	// downstream gets the blame.
	d.context, d.cancel = context.WithCancel(context.Background())
	d.acks.event.connection, d.acks.event.deliver = c, d.deliverAck
	request := s.open // the hops after it, and a window no wider than ours
	request.BodyVersion = wire.BodyVersion
	request.Downstream = s.open.Downstream[1:]
	request.WindowBytes = s.window
	c.server.goroutines.Go(func() { d.send(request) })
	return d
}

// forward takes over a reference to a packet. A small one goes into the socket at
// once if nothing is before it: to wake the sender takes longer than to write it.
// All others go to the sender.
func (d *downstream) forward(b *bufpool.Buffer, final bool, seqno uint64) {
	if final {
		d.final.Store(seqno)
	}
	if len(b.Bytes()) <= forwardBytesMax && d.undelivered.Load() == 0 {
		written, err := d.tryWrite(b.Bytes())
		if err != nil || written == len(b.Bytes()) {
			b.Release()
			if err != nil {
				d.fail(err)
				d.cancel() // wakes the reader
			}
			return
		}
		d.begun = written
	}
	d.undelivered.Add(1)
	select {
	case d.queue <- b:
	default: // cannot be: the window is smaller than the queue
		b.Release()
		d.fail(fault.New(fault.Internal, "forward", "the queue of %d packets is full", cap(d.queue)))
	}
}

// tryWrite writes what the socket takes without waiting.
func (d *downstream) tryWrite(b []byte) (written int, err error) {
	outer := d.raw.Control(func(descriptor uintptr) {
		for {
			written, err = unix.SendmsgN(int(descriptor), b, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
			if !errors.Is(err, unix.EINTR) {
				return
			}
		}
	})
	switch {
	case outer != nil:
		return 0, outer
	case errors.Is(err, unix.EAGAIN):
		return 0, nil
	case err != nil:
		return 0, os.NewSyscallError("sendmsg", err)
	}
	return written, nil
}

// hangUp ends the sending. After a clean end the connection goes back to the
// pool, else it is closed.
func (d *downstream) hangUp(clean bool) {
	if !clean {
		d.cancel()
	}
	close(d.queue)
}

// fail tells the machine once, unless this side hung up itself.
func (d *downstream) fail(err error) {
	if d.context.Err() != nil {
		return
	}
	d.failed.Do(func() {
		c, s := d.connection, d.session
		if fault.KindOf(err) == 0 {
			err = &fault.Error{Kind: fault.Unavailable, Op: "forward", Node: d.hop.NodeID, Address: d.hop.Address, Err: err}
		}
		c.loop.post(&event{connection: c, deliver: func() { c.machine.onDownFailed(s, err, c.server.now()) }})
	})
}

// send is the sender goroutine. It releases every buffer that it is given.
func (d *downstream) send(request wire.OpenWrite) {
	defer func() {
		for b := range d.queue {
			b.Release()
		}
	}()
	server := d.connection.server
	conn, err := server.peers.get(d.context, d.hop.Address)
	if err != nil {
		d.fail(err)
		return
	}
	// A broken hang-up closes the connection under both goroutines. Whoever
	// stops that first owns the connection's end.
	stop := context.AfterFunc(d.context, func() { _ = conn.Close() })

	open, err := wire.AppendPacket(nil, wire.Header{Op: wire.OpOpenWrite}, &request)
	if err != nil {
		d.fail(err)
		d.cancel()
		return
	}
	var first *bufpool.Buffer
	select { // a small file: the open and its only packet leave together
	case first = <-d.queue:
	default:
	}
	d.batch = append(d.batch[:0], open)
	if first != nil {
		d.batch, d.held = append(d.batch, first.Bytes()), append(d.held, first)
	}
	delivered := int32(len(d.batch))
	if err := d.write(conn); err != nil {
		d.fail(err)
		d.cancel()
		return
	}
	if tcp, ok := conn.(syscall.Conn); ok {
		if d.raw, err = tcp.SyscallConn(); err == nil {
			d.undelivered.Add(-delivered)
		}
	}
	server.goroutines.Go(func() { d.receive(conn, stop) })
	for b := range d.queue {
		d.batch, d.held = append(d.batch[:0], b.Bytes()[d.begun:]), append(d.held, b)
		d.begun = 0
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
		if err := d.write(conn); err != nil {
			d.fail(err)
			d.cancel() // wakes the reader
			return
		}
		d.undelivered.Add(-delivered)
	}
}

// write sends the batch and gives its buffers back when the socket has them.
func (d *downstream) write(conn net.Conn) error {
	defer func() {
		for i, b := range d.held {
			b.Release()
			d.held[i] = nil
		}
		d.held = d.held[:0]
	}()
	if err := conn.SetWriteDeadline(time.Now().Add(d.connection.server.limits.StepTimeout)); err != nil {
		return err
	}
	if len(d.batch) == 1 {
		_, err := conn.Write(d.batch[0])
		return err
	}
	d.rest = d.batch // WriteTo consumes its receiver
	_, err := d.rest.WriteTo(conn)
	clear(d.batch)
	return err
}

// receive is the reader goroutine: it tells the machine each ack, and keeps the
// connection for others after the final one.
func (d *downstream) receive(conn net.Conn, stop func() bool) {
	c, s := d.connection, d.session
	reader := wire.NewPacketReader(conn, 0)
	var opened wire.OpenAck
	if _, err := reader.Expect(wire.OpOpenAck, &opened); err != nil {
		d.end(conn, stop, err)
		return
	}
	accepted := firstBad(opened.Hops) < 0 // before the loop has it
	c.loop.post(&event{connection: c, deliver: func() { c.machine.onDownOpened(s, opened, c.server.now()) }})
	for accepted {
		ack := d.acks.memory()
		if _, err := reader.Expect(wire.OpAck, ack); err != nil {
			d.end(conn, stop, err)
			return
		}
		bad := firstBad(ack.Hops) >= 0
		last := d.final.Load()
		finished := !bad && last != 0 && ack.Seqno == last
		if finished {
			// The sender is done too: the neighbour has acked its last packet.
			if stop() {
				if reader.Buffered() == 0 {
					c.server.peers.put(d.hop.Address, conn)
				} else {
					_ = conn.Close()
				}
			}
			d.cancel()
		}
		if d.acks.put(ack) {
			c.loop.post(&d.acks.event)
		}
		if finished || bad {
			break
		}
	}
	if stop() { // refused: nothing more comes on it
		_ = conn.Close()
	}
}

// deliverAck tells the machine the newest ack. Loop goroutine.
func (d *downstream) deliverAck() {
	c := d.connection
	d.acks.deliver(func(ack *wire.Ack) { c.machine.onDownAck(d.session, *ack, c.server.now()) })
}

// end closes the connection after an error and tells the machine.
func (d *downstream) end(conn net.Conn, stop func() bool, err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = &fault.Error{Kind: fault.Unavailable, Op: "forward", Node: d.hop.NodeID, Address: d.hop.Address, Reason: "it closed the connection"}
	}
	d.fail(err)
	if stop() {
		_ = conn.Close()
	}
}
