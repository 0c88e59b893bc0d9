package dataplane

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"github.com/whispering-woods/ww/dataplane/machine"
	"github.com/whispering-woods/ww/internal/fault"
)

// handler is what one gnet engine calls. A restarted engine gets a new one.
type handler struct {
	gnet.BuiltinEventEngine
	server *Server
	gate   gate
	loops  sync.Map // gnet.EventLoop → *loop
	booted chan int // the port; closed without one when the socket cannot be asked
	engine atomic.Pointer[gnet.Engine]
}

// OnBoot learns the port before connections come in.
func (h *handler) OnBoot(engine gnet.Engine) gnet.Action {
	h.engine.Store(&engine)
	defer close(h.booted)
	fd, err := engine.Dup()
	if err != nil {
		return gnet.None
	}
	defer func() { _ = unix.Close(fd) }() // only a name was asked of it
	name, err := unix.Getsockname(fd)
	if err != nil {
		return gnet.None
	}
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		h.booted <- a.Port
	case *unix.SockaddrInet6:
		h.booted <- a.Port
	}
	return gnet.None
}

// OnShutdown is called before the loops are stopped: from here on nobody may wake them.
func (h *handler) OnShutdown(gnet.Engine) { h.gate.close() }

// OnOpen takes a connection, or sends it away.
func (h *handler) OnOpen(raw gnet.Conn) ([]byte, gnet.Action) {
	server := h.server
	if n, ok := raw.Context().(*neighbour); ok {
		n.raw = raw
		return nil, gnet.None
	}
	server.counters.accepted.Add(1)
	open, most := server.counters.connections.Add(1), int64(server.limits.ConnectionsMax)
	if open > most+lingeringMax {
		server.counters.protocol.Refuse(machine.ReasonConnections)
		return nil, gnet.Close
	}
	_ = raw.SetKeepAlivePeriod(keepAlivePeriod) // fails only for a peer that is gone
	l := h.loopOf(raw.EventLoop())
	c := newConnection(server, l, raw)
	raw.SetContext(c)
	l.connections[c] = struct{}{}
	l.busy.Store(true)
	if open > most { // it stays until the peer has heard why, also if it sends already
		c.machine.Refuse(machine.ReasonConnections,
			fault.New(fault.Busy, "connect", "%d connections are open, the limit of this datanode", most))
		c.drive()
	}
	return nil, gnet.None
}

// OnTraffic takes everything that was read: gnet's inbound buffer stays empty.
func (h *handler) OnTraffic(raw gnet.Conn) gnet.Action {
	data, err := raw.Next(-1)
	if err != nil {
		return gnet.Close
	}
	switch c := raw.Context().(type) {
	case *connection:
		if c.received(data); c.closing || c.closed {
			return gnet.Close
		}
	case *neighbour:
		if c.received(data); c.closing || c.closed {
			return gnet.Close
		}
	default: // sent away
		return gnet.Close
	}
	if left := raw.InboundBuffered(); left > 0 {
		h.server.counters.inboundLeft.Add(uint64(left))
	}
	return gnet.None
}

// OnClose ends the connection's machine; late results still reach it.
func (h *handler) OnClose(raw gnet.Conn, err error) gnet.Action {
	if n, ok := raw.Context().(*neighbour); ok {
		n.onClosed(err)
		return gnet.None
	}
	h.server.counters.connections.Add(-1)
	if c, ok := raw.Context().(*connection); ok {
		delete(c.loop.connections, c)
		c.onClosed()
	}
	return gnet.None
}

func (h *handler) loopOf(events gnet.EventLoop) *loop {
	if l, ok := h.loops.Load(events); ok {
		return l.(*loop)
	}
	l := &loop{events: events, gate: &h.gate, wakes: &h.server.counters.wakes,
		connections: make(map[*connection]struct{}), orphans: make(map[*replica]struct{})}
	l.neighbours.loop = l
	l.tickEvent.deliver = func() { l.tick(h.server.now(), h.server.limits.PeerIdleTimeout) }
	h.loops.Store(events, l)
	return l
}

// tick posts a tick to every loop that has something to look at.
func (h *handler) tick() {
	h.loops.Range(func(_, value any) bool {
		l := value.(*loop)
		if l.busy.Load() && l.ticking.CompareAndSwap(false, true) {
			l.post(&l.tickEvent)
		}
		return true
	})
}

// stop makes the engine end; run returns when it has.
func (h *handler) stop() {
	if engine := h.engine.Load(); engine != nil {
		now, cancel := context.WithCancel(context.Background())
		cancel() // Stop only waits by polling; run tells exactly
		_ = engine.Stop(now)
	}
}

// finish takes over from the loops after the engine has ended.
func (h *handler) finish() {
	h.loops.Range(func(_, value any) bool {
		value.(*loop).end()
		return true
	})
}

// keepAlivePeriod is when TCP begins to ask after a silent peer. It is set on each connection and not as an option
// of the engine: with the option, gnet v2.10.0 forgets that it could not bind, and goes on with a descriptor that
// it has closed and that may be somebody else's by then.
const keepAlivePeriod = 15 * time.Second

// run serves one engine until it ends.
func (h *handler) run(address string) error {
	l := &h.server.limits
	return gnet.Run(h, "tcp://"+address,
		gnet.WithNumEventLoop(l.Loops),
		gnet.WithReadBufferCap(l.ReadBufferBytes),
		gnet.WithWriteBufferCap(4<<10),
		gnet.WithTCPNoDelay(gnet.TCPNoDelay),
		gnet.WithReuseAddr(true),
		gnet.WithSocketRecvBuffer(l.SocketReceiveBytes),
		gnet.WithSocketSendBuffer(l.SocketSendBytes),
		gnet.WithLoadBalancing(gnet.LeastConnections),
		gnet.WithLogger(engineLog{h.server.logger}),
	)
}

// withPort replaces the port of a listen address.
func withPort(address string, port int) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// engineLog gives gnet's log to ours. What gnet tells on Info is of interest for debugging only.
type engineLog struct{ logger *slog.Logger }

func (e engineLog) Debugf(format string, args ...any) { e.logger.Debug(engineText(format, args)) }
func (e engineLog) Infof(format string, args ...any)  { e.logger.Debug(engineText(format, args)) }
func (e engineLog) Warnf(format string, args ...any)  { e.logger.Warn(engineText(format, args)) }
func (e engineLog) Errorf(format string, args ...any) { e.logger.Error(engineText(format, args)) }

// Fatalf must not end the process: the supervisor starts a new engine.
func (e engineLog) Fatalf(format string, args ...any) { e.logger.Error(engineText(format, args)) }

func engineText(format string, args []any) string {
	return "event engine: " + fmt.Sprintf(format, args...)
}
