// Package peers keeps idle connections to other datanodes for the steps that ask one question at a time: copies,
// and the recovery of chunks. It owns a connection after a conversation until the next one, Expire or Close. It
// runs no goroutine and does not know the requests.
//
// The connections of write sessions are not here: an event loop watches them, so each loop keeps its own.
package peers

import (
	"context"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/idle"
)

// Options configure a Pool.
type Options struct {
	DialTimeout time.Duration
	KeepAlive   time.Duration // when TCP begins to ask after a silent peer
	IdleMax     int           // connections that are kept to one address
	IdleTimeout time.Duration // how long they are kept
	Now         func() time.Duration
}

// Pool is a set of idle connections. Safe for concurrent use.
type Pool struct {
	options Options

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

// New returns an empty pool.
func New(o Options) *Pool { return &Pool{options: o} }

// Converse runs talk on a connection to address, which is kept for others if all that was asked was answered. When
// ctx ends the connection's deadline passes, so that talk ends too. Error: fault.Unavailable if there is no
// connection, else that of talk.
func (p *Pool) Converse(ctx context.Context, address string, talk func(net.Conn, *wire.PacketReader) error) error {
	conn, err := p.get(ctx, address)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	reader := wire.NewPacketReader(conn, 0)
	err = talk(conn, reader)
	if stop() && err == nil && reader.Buffered() == 0 {
		p.put(address, conn)
	} else {
		_ = conn.Close()
	}
	return err
}

// get returns a connection to address that is alive as far as this side can
// see, or dials one. Error: fault.Unavailable.
func (p *Pool) get(ctx context.Context, address string) (net.Conn, error) {
	for {
		conn := p.pop(address)
		if conn == nil {
			break
		}
		_ = conn.SetDeadline(time.Time{}) // that of the last conversation may have passed: alive could not look
		if alive(conn) {
			return conn, nil
		}
		_ = conn.Close()
	}
	dialer := net.Dialer{Timeout: p.options.DialTimeout, KeepAlive: p.options.KeepAlive}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, &fault.Error{Kind: fault.Unavailable, Op: "connect to datanode", Address: address, Err: err}
	}
	return conn, nil
}

func (p *Pool) pop(address string) net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	newest, _ := p.mu.idle.Take(address)
	return newest.conn
}

// put takes a connection on which nothing is under way, or closes it.
func (p *Pool) put(address string, conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed || p.mu.idle.LenOf(address) >= p.options.IdleMax {
		_ = conn.Close()
		return
	}
	p.mu.idle.Put(address, idlePeer{conn, p.options.Now()})
}

// Expire closes what has been idle for too long.
func (p *Pool) Expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	limit := p.options.Now() - p.options.IdleTimeout
	for _, old := range p.mu.idle.Expire(func(i idlePeer) bool { return i.since < limit }) {
		_ = old.conn.Close()
	}
}

// Close closes all idle connections and keeps none from now on.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.closed = true
	for _, all := range p.mu.idle.Expire(func(idlePeer) bool { return true }) {
		_ = all.conn.Close()
	}
}

// alive tells whether an idle connection is still open and silent: bytes or an end that wait on it make it useless.
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
