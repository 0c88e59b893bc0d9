package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/fault"
)

// lines is a log that several goroutines write.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestConnectionsBeyondTheLimitAreRefusedWithTheReason(t *testing.T) {
	var log lines
	_, address := serve(t, &editLog{status: func(context.Context) error { return nil }},
		ServerOptions{ConnectionsMax: 2, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	keep := func() (end func() error) {
		conn, err := Dial(address)
		require.NoError(t, err)
		_, err = controlpb.NewEditLogClient(conn).LogStatus(t.Context(), &controlpb.LogStatusRequest{})
		require.NoError(t, err)
		return conn.Close
	}
	first, second := keep(), keep()
	for range 3 {
		err := call(t, address, 5*time.Second)
		require.ErrorIs(t, err, fault.Unavailable)
		require.ErrorContains(t, err, "takes no more connections")
		require.ErrorContains(t, err, address)
	}
	require.Equal(t, 1, bytes.Count([]byte(log.String()), []byte("connections are refused")), "told once: %s",
		log.String())
	require.Contains(t, log.String(), "limit=2")

	// A place that becomes free is taken again.
	require.NoError(t, first())
	require.Eventually(t, func() bool { return call(t, address, 5*time.Second) == nil }, 10*time.Second,
		10*time.Millisecond)
	require.NoError(t, second())
}

// The frame is what HTTP/2 says, and comes also to one who has sent bytes that
// nobody reads.
func TestTheRefusalIsAnHTTP2Frame(t *testing.T) {
	_, address := serve(t, &editLog{}, ServerOptions{ConnectionsMax: 1})
	open, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer open.Close()
	require.NoError(t, open.SetDeadline(time.Now().Add(5*time.Second)))
	_, err = http2.NewFramer(nil, open).ReadFrame() // its settings: it is counted
	require.NoError(t, err)
	refused, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer refused.Close()
	require.NoError(t, refused.SetDeadline(time.Now().Add(5*time.Second)))
	_, err = refused.Write([]byte(http2.ClientPreface))
	require.NoError(t, err)
	framer := http2.NewFramer(nil, refused)
	frame, err := framer.ReadFrame()
	require.NoError(t, err)
	away, ok := frame.(*http2.GoAwayFrame)
	require.True(t, ok, "%T", frame)
	require.Equal(t, http2.ErrCodeEnhanceYourCalm, away.ErrCode)
	require.Zero(t, away.LastStreamID)
	require.Equal(t, "1 connections are open, the limit of this server", string(away.DebugData()))
	_, err = framer.ReadFrame()
	require.True(t, errors.Is(err, io.EOF), "%v", err)
}

// Who is refused and stays holds no more than its place among the refusals, and
// not for long; those beyond them are closed at once.
func TestTheRefusedDoNotGather(t *testing.T) {
	_, address := serve(t, &editLog{}, ServerOptions{ConnectionsMax: 1})
	open, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer open.Close()
	require.NoError(t, open.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = http2.NewFramer(nil, open).ReadFrame()
	require.NoError(t, err)
	for range 3 * refusalsMax {
		c, err := net.Dial("tcp", address)
		require.NoError(t, err)
		defer c.Close()
		require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
		_, _ = io.Copy(io.Discard, c) // until its end
	}
}

// Many connections, of which few are open at a time, are never too many.
func TestClosedConnectionsAreNotCounted(t *testing.T) {
	listener, err := Listen("127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	limited := newBounded(listener, 3*sweepFirst, slog.New(slog.DiscardHandler))
	for range 10 * sweepFirst {
		client, err := net.Dial("tcp", listener.Addr().String())
		require.NoError(t, err)
		c, err := limited.Accept()
		require.NoError(t, err)
		require.IsType(t, &net.TCPConn{}, c, "grpc-go shares buffers only between these")
		require.NoError(t, c.Close())
		require.NoError(t, client.Close())
		require.LessOrEqual(t, len(limited.open), sweepFirst)
	}
	limited.group.Wait()
}
