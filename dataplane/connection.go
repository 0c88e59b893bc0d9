package dataplane

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"github.com/whispering-woods/ww/dataplane/copier"
	"github.com/whispering-woods/ww/dataplane/machine"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
)

// connection ties a machine to a socket and carries out its effects. Only its event loop touches it.
type connection struct {
	server  *Server
	loop    *loop
	raw     gnet.Conn
	peer    string
	machine *machine.Machine

	replica    *replica     // of the present session
	downstream *downstream  // of the present session; nil without one
	out        *net.TCPConn // duplicate that reads write to; nil until the first read
	read       *readTask    // the running read

	records *recordsLink // of the present record session

	cancelQuery context.CancelFunc // gives the running copy up; nil before the first
	copied      *copier.Progress   // of the copy asked for last; nil: it was another query

	inTraffic bool           // gnet's OnTraffic is on the stack
	touched   bool           // in loop.touched
	driving   bool           // drive is on the stack
	closing   bool           // the machine wants the end
	closed    bool           // gnet has closed the socket
	waitRead  *wire.OpenRead // a read that waits for small replies to leave
}

func newConnection(s *Server, l *loop, raw gnet.Conn) *connection {
	c := &connection{server: s, loop: l, raw: raw, peer: raw.RemoteAddr().String(),
		machine: machine.New(s.node, s.now())}
	c.machine.BindPacket = c.bindPacket
	return c
}

// bindPacket gives a packet what brings it to the disk and back without allocating: packets are used again.
func (c *connection) bindPacket(p *machine.Packet) {
	w := &diskWrite{packet: p}
	w.done = func(_ int64, err error) { w.replica.storedOnWorker(w, err) }
	w.event.connection = c
	w.event.deliver = func() { w.replica.stored(w) }
	p.Carrier = w
}

// received takes what the loop has read.
func (c *connection) received(data []byte) {
	c.inTraffic = true
	c.machine.Receive(data, c.server.now())
	c.drive()
	c.receiveInPlace()
	c.loop.yieldForSmallWrites()
	c.inTraffic = false
}

// receiveInPlace takes what else the socket has, as long as it belongs to a long packet: from the socket into the
// packet's buffer, without gnet's buffer between them. What it leaves, also an end or an error of the socket, gnet
// finds: its poll is level-triggered.
//
// Warning: it reads gnet's descriptor behind gnet's back. That is right only on the loop, within OnTraffic, with
// gnet's inbound buffer empty, as OnTraffic leaves it (else bytes change places; Stats counts them, and every test
// of the package wants none). An engine that polls edge-triggered, or reads ahead, would break it:
// TestBulkBytesAreReadInPlace and TestThreeHopsHoldTheSameBytes see that.
func (c *connection) receiveInPlace() {
	for left := inPlaceBytesMax; left > 0 && !c.closing && !c.closed; {
		space := c.machine.Space()
		if len(space) < inPlaceBytesMin {
			return
		}
		ahead := c.loop.ahead[:] // the beginning of the next packet
		count, err := unix.Readv(c.raw.Fd(), [][]byte{space, ahead})
		if err != nil || count <= 0 {
			return
		}
		now := c.server.now()
		whole := count >= len(space)
		c.machine.Filled(min(count, len(space)), now)
		c.server.counters.bytesInPlace.Add(uint64(min(count, len(space))))
		if whole {
			c.machine.Receive(ahead[:count-len(space)], now)
			c.drive() // the next hop need not wait for the rest
		}
		if count < len(space)+len(ahead) {
			return // nothing is left for now
		}
		left -= count
	}
}

// drive acks what can be acked and carries out effects until there are none.
func (c *connection) drive() {
	if c.driving {
		return // an effect led back here; the outer call goes on
	}
	c.driving = true
	for {
		c.machine.Flush(c.server.now())
		effects, some := c.machine.TakeEffects()
		if !some {
			break
		}
		for i := range effects {
			c.perform(&effects[i])
		}
		if c.downstream != nil {
			c.downstream.begin()
		}
		c.machine.RepliesWritten()
	}
	c.driving = false
	if c.closing && !c.closed && !c.inTraffic { // inside OnTraffic the handler returns gnet.Close instead
		_ = c.loop.events.Close(c.raw)
	}
}

func (c *connection) perform(effect *machine.Effect) {
	switch effect.Kind {
	case machine.EffectReply:
		c.write(effect.Reply)
	case machine.EffectOpen:
		c.replica = openReplica(c, effect.Session)
	case machine.EffectDial:
		c.downstream = connectDownstream(c, effect.Session)
	case machine.EffectAppend:
		c.replica.append(effect.Packet)
	case machine.EffectForward:
		c.downstream.forward(effect.Buffer)
	case machine.EffectHangUp:
		if c.downstream != nil {
			c.downstream.hangUp(effect.Clean)
			c.downstream = nil
		}
	case machine.EffectReleaseFile:
		c.replica.release()
		c.replica = nil
	case machine.EffectRead:
		c.startRead(effect.Read)
	case machine.EffectCancelRead:
		c.cancelRead()
	case machine.EffectQuery:
		startQuery(c, effect.Query)
	case machine.EffectOpenRecords:
		c.records = openRecords(c, effect.Records)
	case machine.EffectRecord:
		c.records.append(effect.Record)
	case machine.EffectCloseRecords:
		c.records.close()
		c.records = nil
	case machine.EffectLinger:
		c.shutdownWrite()
	case machine.EffectClose:
		c.closing = true
	}
}

// write sends a small reply through gnet, whose outbound buffer would grow without limit for a peer that does not read.
func (c *connection) write(reply []byte) {
	if c.closed || c.closing {
		return
	}
	if _, err := c.raw.Write(reply); err != nil {
		c.closing = true // gnet has closed it already, see onClosed
		return
	}
	waiting := c.raw.OutboundBuffered()
	c.server.counters.raiseOutboundPeak(int64(waiting))
	if waiting > c.server.limits.OutboundBytesMax {
		c.closing = true
		c.machine.RefuseNotReading(c.server.now())
	}
}

// shutdownWrite ends our half once all replies have left, so that the peer reads
// them before it sees the end; the rest waits for the peer or the linger time.
func (c *connection) shutdownWrite() {
	if c.closed || c.closing {
		return
	}
	if c.raw.OutboundBuffered() == 0 {
		_ = unix.Shutdown(c.raw.Fd(), unix.SHUT_WR) // fails only when the peer is gone: gnet tells
	}
}

// tick runs the machine's timeouts, and what waits for a better moment.
func (c *connection) tick(now time.Duration) {
	if c.replica != nil {
		c.replica.submitQueued()
	}
	if c.waitRead != nil {
		if now-c.machine.LastReceived > c.server.limits.SendTimeout {
			c.machine.RefuseNotReading(now)
		} else {
			c.startRead(*c.waitRead)
		}
	}
	if c.copied != nil {
		c.machine.OnCopied(c.copied.Told())
	}
	c.machine.Tick(now)
	c.drive()
}

// onClosed: gnet has closed the socket, for whatever reason.
func (c *connection) onClosed() {
	c.closed = true
	c.machine.OnDisconnected(c.server.now())
	c.drive()
	if c.cancelQuery != nil {
		c.cancelQuery()
	}
	if c.out != nil {
		_ = c.out.Close() // the socket ends with its last descriptor
		c.out = nil
	}
}

// startRead begins a read, which owns the connection's write side until readDone.
func (c *connection) startRead(request wire.OpenRead) {
	c.waitRead = nil
	if c.closed || c.closing {
		return
	}
	if c.raw.OutboundBuffered() > 0 { // replies first, in order
		if err := c.raw.Flush(); err != nil || c.closed {
			return
		}
		if c.raw.OutboundBuffered() > 0 {
			c.waitRead = &request
			return
		}
	}
	if c.out == nil {
		out, err := duplicate(c.raw)
		if err != nil {
			c.machine.OnReadRefused(&fault.Error{Kind: fault.Busy, Op: "open read", Err: err}, c.server.now())
			return
		}
		c.out = out
	}
	task, err := c.server.reads.start(c, c.out, request)
	if err != nil {
		c.machine.OnReadRefused(err, c.server.now())
		return
	}
	c.read = task
}

// readDone: the write side is the loop's again.
func (c *connection) readDone(t *readTask) {
	if c.read != t {
		return
	}
	c.read = nil
	why := machine.ReasonNotReading
	if errors.Is(t.err, fault.Disk) || errors.Is(t.err, fault.CorruptData) {
		why = machine.ReasonPipeline
	}
	c.machine.OnReadDone(t.broken, why, c.server.now())
}

// cancelRead makes a running read end soon; it still reports back.
func (c *connection) cancelRead() {
	c.waitRead = nil
	if c.read != nil {
		c.read.cancelled.Store(true)
		_ = c.out.SetWriteDeadline(time.Unix(1, 0))
	}
}
