package client

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/idle"
)

var errEOF, errUnexpectedEOF = io.EOF, io.ErrUnexpectedEOF

// connectionPool keeps idle data connections per datanode address. A
// connection comes back only after its operation ended in order; on any doubt
// its user closes it. Safe for concurrent use.
type connectionPool struct {
	dialer net.Dialer
	clock  clock.Clock
	mu     struct {
		sync.Mutex
		closed bool
		idle   idle.Connections[*connection] // at most idleTotalMax
		out    map[*connection]struct{}      // handed out
	}
}

func newConnectionPool(o Options) *connectionPool {
	p := &connectionPool{dialer: net.Dialer{Timeout: o.DialTimeout}, clock: o.Clock}
	p.mu.out = make(map[*connection]struct{})
	return p
}

// get returns an idle connection or dials a new one. The caller gives it back
// with put or discard. Error: fault.Unavailable.
func (p *connectionPool) get(ctx context.Context, address string) (*connection, error) {
	for {
		c := p.takeIdle(address)
		if c == nil {
			return p.dial(ctx, address)
		}
		if p.clock.Now().Sub(c.idleSince) < idleAge && c.alive() {
			c.reused = true
			return c, nil
		}
		p.discard(c)
	}
}

// dial makes a new connection.
func (p *connectionPool) dial(ctx context.Context, address string) (*connection, error) {
	n, err := p.dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, socketFault(err, address)
	}
	c := newConnection(n, address)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed {
		return nil, errors.Join(errClientClosed, n.Close())
	}
	p.mu.out[c] = struct{}{}
	return c, nil
}

func (p *connectionPool) takeIdle(address string) *connection {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, ok := p.mu.idle.Take(address)
	if ok {
		p.mu.out[c] = struct{}{}
	}
	return c
}

// put takes back a connection on which nothing is under way.
func (p *connectionPool) put(c *connection) {
	keep := c.packets.Buffered() == 0 && c.net.SetDeadline(time.Time{}) == nil
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.mu.out, c)
	if !keep || p.mu.closed || p.mu.idle.LenOf(c.address) >= idlePerNodeMax || p.mu.idle.Len() >= idleTotalMax {
		_ = c.net.Close() // nothing is under way that could be lost
		return
	}
	c.idleSince = p.clock.Now()
	p.mu.idle.Put(c.address, c)
}

// discard closes a connection that may not be used again.
func (p *connectionPool) discard(c *connection) {
	p.mu.Lock()
	delete(p.mu.out, c)
	p.mu.Unlock()
	_ = c.net.Close() // whoever discards it has the error that counts
}

// close closes all connections, also those handed out.
func (p *connectionPool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.closed = true
	for _, c := range p.mu.idle.Expire(func(*connection) bool { return true }) {
		_ = c.net.Close()
	}
	for c := range p.mu.out {
		_ = c.net.Close()
	}
}
