package dataplane

import (
	"context"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/idle"
)

// peers keeps idle connections to other datanodes for reuse. Safe for
// concurrent use; it runs no goroutine: the server's ticker calls expire.
type peers struct {
	limits *Limits
	now    func() time.Duration

	mu struct {
		sync.Mutex
		closed bool
		idle   idle.Connections[idlePeer]
	}
}

type idlePeer struct {
	conn  net.Conn
	since time.Duration
}

func newPeers(l *Limits, now func() time.Duration) *peers {
	return &peers{limits: l, now: now}
}

// get returns a connection to address that is alive as far as this side can
// see, or dials one. Error: fault.Unavailable.
func (p *peers) get(ctx context.Context, address string) (net.Conn, error) {
	for {
		conn := p.pop(address)
		if conn == nil {
			break
		}
		if alive(conn) {
			_ = conn.SetDeadline(time.Time{})
			return conn, nil
		}
		_ = conn.Close()
	}
	dialer := net.Dialer{Timeout: p.limits.DialTimeout, KeepAlive: 15 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, &fault.Error{Kind: fault.Unavailable, Op: "connect to datanode", Address: address, Err: err}
	}
	return conn, nil
}

func (p *peers) pop(address string) net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	newest, _ := p.mu.idle.Take(address)
	return newest.conn
}

// put takes a connection on which nothing is under way, or closes it.
func (p *peers) put(address string, conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed || p.mu.idle.LenOf(address) >= p.limits.PeerConnectionsMax {
		_ = conn.Close()
		return
	}
	p.mu.idle.Put(address, idlePeer{conn, p.now()})
}

// expire closes what has been idle for too long.
func (p *peers) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	limit := p.now() - p.limits.PeerIdleTimeout
	for _, old := range p.mu.idle.Expire(func(i idlePeer) bool { return i.since < limit }) {
		_ = old.conn.Close()
	}
}

// close closes all idle connections and keeps none from now on.
func (p *peers) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.closed = true
	for _, all := range p.mu.idle.Expire(func(idlePeer) bool { return true }) {
		_ = all.conn.Close()
	}
}

// alive tells whether an idle connection is still open and silent: bytes or an
// end that wait on it make it useless.
func alive(conn net.Conn) bool {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return false
	}
	silent := false
	err = raw.Read(func(fd uintptr) bool {
		silent = idle.Silent(int(fd))
		return true
	})
	return err == nil && silent
}
