package peers

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
)

// echo is a peer that sends back what it gets, and counts those who came.
type echo struct {
	address string
	came    atomic.Int64
	conns   chan net.Conn
}

func newEcho(t *testing.T) *echo {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	e := &echo{address: listener.Addr().String(), conns: make(chan net.Conn, 64)}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			e.came.Add(1)
			e.conns <- conn
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	return e
}

type pool struct {
	*Pool
	now time.Duration
}

func newPool(t *testing.T) *pool {
	p := &pool{}
	p.Pool = New(Options{DialTimeout: 10 * time.Second, KeepAlive: time.Minute, IdleMax: 2, IdleTimeout: time.Minute,
		Now: func() time.Duration { return p.now }})
	t.Cleanup(p.Close)
	return p
}

// ask sends some bytes and reads so many of the answer.
func ask(sent, read int) func(net.Conn, *wire.PacketReader) error {
	return func(conn net.Conn, _ *wire.PacketReader) error {
		if _, err := conn.Write(make([]byte, sent)); err != nil {
			return err
		}
		_, err := io.ReadFull(conn, make([]byte, read))
		return err
	}
}

func TestConnectionIsKeptForTheNext(t *testing.T) {
	e, p := newEcho(t), newPool(t)
	for range 5 {
		require.NoError(t, p.Converse(t.Context(), e.address, func(conn net.Conn, r *wire.PacketReader) error {
			err := ask(3, 3)(conn, r)
			_ = conn.SetDeadline(time.Unix(1, 0)) // the next one has none
			return err
		}))
	}
	require.EqualValues(t, 1, e.came.Load())
}

// A connection on which something is under way, or that ended, is nobody's.
func TestUselessConnectionsAreNotKept(t *testing.T) {
	for name, talk := range map[string]func(t *testing.T, e *echo, p *pool){
		"talk failed": func(t *testing.T, e *echo, p *pool) {
			require.ErrorIs(t, p.Converse(t.Context(), e.address,
				func(net.Conn, *wire.PacketReader) error { return io.ErrNoProgress }), io.ErrNoProgress)
		},
		"the answer was not read": func(t *testing.T, e *echo, p *pool) {
			require.NoError(t, p.Converse(t.Context(), e.address, func(conn net.Conn, r *wire.PacketReader) error {
				require.NoError(t, ask(3, 2)(conn, r))
				return nil
			}))
			conn := p.pop(e.address)
			require.NotNil(t, conn, "nobody could see that")
			require.Eventually(t, func() bool { return !alive(conn) }, 10*time.Second, time.Millisecond)
			p.put(e.address, conn)
		},
		"the peer ended it": func(t *testing.T, e *echo, p *pool) {
			require.NoError(t, p.Converse(t.Context(), e.address, ask(1, 1)))
			_ = (<-e.conns).Close()
			conn := p.pop(e.address)
			require.NotNil(t, conn)
			require.Eventually(t, func() bool { return !alive(conn) }, 10*time.Second, time.Millisecond)
			p.put(e.address, conn)
		},
		"it was given up": func(t *testing.T, e *echo, p *pool) {
			ctx, cancel := context.WithCancel(t.Context())
			require.Error(t, p.Converse(ctx, e.address, func(conn net.Conn, _ *wire.PacketReader) error {
				cancel()
				_, err := conn.Read(make([]byte, 1)) // ends, although nothing comes
				return err
			}))
		},
		"it was given up at its end": func(t *testing.T, e *echo, p *pool) {
			ctx, cancel := context.WithCancel(t.Context())
			require.NoError(t, p.Converse(ctx, e.address, func(conn net.Conn, r *wire.PacketReader) error {
				defer cancel()
				return ask(1, 1)(conn, r)
			}))
		},
		"it was idle for too long": func(t *testing.T, e *echo, p *pool) {
			require.NoError(t, p.Converse(t.Context(), e.address, ask(1, 1)))
			p.now += time.Minute
			p.Expire()
			require.Equal(t, 1, p.mu.idle.LenOf(e.address))
			p.now++
			p.Expire()
			require.Zero(t, p.mu.idle.LenOf(e.address))
		},
	} {
		t.Run(name, func(t *testing.T) {
			e, p := newEcho(t), newPool(t)
			talk(t, e, p)
			require.NoError(t, p.Converse(t.Context(), e.address, ask(7, 7)))
			require.EqualValues(t, 2, e.came.Load())
		})
	}
}

func TestIdleConnectionsAreBounded(t *testing.T) {
	e, p := newEcho(t), newPool(t)
	var nested func(depth int) error
	nested = func(depth int) error {
		return p.Converse(t.Context(), e.address, func(conn net.Conn, r *wire.PacketReader) error {
			if depth > 1 {
				require.NoError(t, nested(depth-1))
			}
			return ask(1, 1)(conn, r)
		})
	}
	require.NoError(t, nested(4))
	require.EqualValues(t, 4, e.came.Load(), "one conversation at a time on each")
	require.Equal(t, 2, p.mu.idle.LenOf(e.address))
	p.Close()
	require.Zero(t, p.mu.idle.Len())
	require.NoError(t, p.Converse(t.Context(), e.address, ask(1, 1)))
	require.Zero(t, p.mu.idle.Len(), "a closed pool keeps nothing")
}

func TestNobodyListens(t *testing.T) {
	e, p := newEcho(t), newPool(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	called := func(net.Conn, *wire.PacketReader) error { require.Fail(t, "there is nobody to talk to"); return nil }
	require.ErrorIs(t, p.Converse(t.Context(), address, called), fault.Unavailable)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, p.Converse(ended, e.address, called), fault.Unavailable)
}
