package dataplane

import (
	"context"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whispering-woods/ww/internal/fault"
)

// peers keeps idle connections to other datanodes for reuse. Safe for
// concurrent use; it runs no goroutine: the server's ticker calls expire.
type peers struct {
	limits *Limits
	now    func() time.Duration

	mu struct {
		sync.Mutex
		closed bool
		idle   map[string][]idlePeer // by address, oldest first
	}
}

type idlePeer struct {
	conn  net.Conn
	since time.Duration
}

func newPeers(l *Limits, now func() time.Duration) *peers {
	p := &peers{limits: l, now: now}
	p.mu.idle = make(map[string][]idlePeer)
	return p
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
	list := p.mu.idle[address]
	if len(list) == 0 {
		return nil
	}
	newest := list[len(list)-1]
	p.mu.idle[address] = list[:len(list)-1]
	return newest.conn
}

// put takes a connection on which nothing is under way, or closes it.
func (p *peers) put(address string, conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed || len(p.mu.idle[address]) >= p.limits.PeerConnectionsMax {
		_ = conn.Close()
		return
	}
	p.mu.idle[address] = append(p.mu.idle[address], idlePeer{conn, p.now()})
}

// expire closes what has been idle for too long.
func (p *peers) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	limit := p.now() - p.limits.PeerIdleTimeout
	for address, list := range p.mu.idle {
		n := 0
		for n < len(list) && list[n].since < limit {
			_ = list[n].conn.Close()
			n++
		}
		if n == len(list) {
			delete(p.mu.idle, address)
		} else {
			p.mu.idle[address] = list[n:]
		}
	}
}

// close closes all idle connections and keeps none from now on.
func (p *peers) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.closed = true
	for _, list := range p.mu.idle {
		for _, i := range list {
			_ = i.conn.Close()
		}
	}
	clear(p.mu.idle)
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
		var b [1]byte
		_, _, e := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		silent = e == unix.EAGAIN
		return true
	})
	return err == nil && silent
}
