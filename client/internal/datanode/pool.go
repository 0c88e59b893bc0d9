package datanode

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/whispering-woods/ww/client/internal/lifetime"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/idle"
)

// Pool keeps idle data connections per datanode address. A connection comes back only after its operation ended in
// order; on any doubt its user discards it. Safe for concurrent use.
type Pool struct {
	dialer net.Dialer
	clock  clock.Clock
	mu     struct {
		sync.Mutex
		closed bool
		idle   idle.Connections[*Connection] // at most idleTotalMax
		inUse  map[*Connection]struct{}
	}
}

func newPool(dialer net.Dialer, c clock.Clock) *Pool {
	p := &Pool{dialer: dialer, clock: c}
	p.mu.inUse = make(map[*Connection]struct{})
	return p
}

// Get returns an idle connection or dials a new one. The caller ends its use with Put or Discard. Error:
// fault.Unavailable.
func (p *Pool) Get(ctx context.Context, address string) (*Connection, error) {
	for {
		c, ok := p.popIdle(address)
		if !ok {
			return p.Dial(ctx, address)
		}
		if p.clock.Now().Sub(c.idleSince) < idleAge && c.alive() {
			c.reused = true
			return c, nil
		}
		p.Discard(c)
	}
}

// Dial makes a new connection.
func (p *Pool) Dial(ctx context.Context, address string) (*Connection, error) {
	socket, err := p.dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		// The dialer puts the deadline of ctx on the socket, whose time may be over a moment before ctx says so. The
		// caller asks ctx whether it was its own end or the node's failure.
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= 0 {
			<-ctx.Done()
		}
		return nil, socketFault(err, address)
	}
	c := NewConnection(socket, address)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed {
		return nil, errors.Join(lifetime.ErrClosed, socket.Close())
	}
	p.mu.inUse[c] = struct{}{}
	return c, nil
}

func (p *Pool) popIdle(address string) (*Connection, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, ok := p.mu.idle.Take(address)
	if ok {
		p.mu.inUse[c] = struct{}{}
	}
	return c, ok
}

// Put returns a connection on which nothing is under way.
func (p *Pool) Put(conn *Connection) {
	conn.watched = nil
	keep := conn.Packets.Buffered() == 0 && conn.Net.SetDeadline(time.Time{}) == nil
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.mu.inUse, conn)
	if !keep || p.mu.closed || p.mu.idle.LenOf(conn.address) >= idlePerNodeMax || p.mu.idle.Len() >= idleTotalMax {
		_ = conn.Net.Close() // nothing is under way that could be lost
		return
	}
	conn.idleSince = p.clock.Now()
	p.mu.idle.Put(conn.address, conn)
}

// Discard closes a connection that may not be used again.
func (p *Pool) Discard(c *Connection) {
	p.mu.Lock()
	delete(p.mu.inUse, c)
	p.mu.Unlock()
	_ = c.Net.Close() // whoever discards it has the error that counts
}

// Close closes all connections, those in use too.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.closed = true
	for _, c := range p.mu.idle.Expire(func(*Connection) bool { return true }) {
		_ = c.Net.Close()
	}
	for c := range p.mu.inUse {
		_ = c.Net.Close()
	}
}

// InUse counts the connections that somebody uses.
func (p *Pool) InUse() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.mu.inUse)
}
