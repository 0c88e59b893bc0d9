package rpc

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

// bounded is a listener that keeps the number of open connections below a bound
// and sends the others away with the reason. Accept is for one goroutine.
//
// It returns the connections as they are, not wrapped: grpc-go shares read buffers
// only between plain TCP connections, and otherwise keeps bufferBytes for each. So
// it is not notified when a connection ends: it checks when there may be too many.
type bounded struct {
	net.Listener
	max    int
	logger *slog.Logger

	open     []*net.TCPConn // some may be closed
	sweepAt  int            // when so many are in open, the closed ones are removed
	swept    time.Time
	refusing bool // the last connection was refused

	refusals chan struct{} // a place for each connection that is being refused
	group    sync.WaitGroup
}

func newBounded(l net.Listener, connectionsMax int, logger *slog.Logger) *bounded {
	return &bounded{Listener: l, max: connectionsMax, logger: logger, sweepAt: min(sweepFirst, connectionsMax),
		refusals: make(chan struct{}, refusalsMax)}
}

// Accept implements net.Listener.
func (b *bounded) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		tcp, ok := c.(*net.TCPConn)
		if !ok || b.admit(tcp) {
			return c, nil
		}
		b.refuse(tcp)
	}
}

// admit counts a connection in, if there is room.
func (b *bounded) admit(conn *net.TCPConn) bool {
	// With all places in use, all of them are checked once per sweepPause only.
	if now := time.Now(); len(b.open) >= b.sweepAt && (len(b.open) < b.max || now.Sub(b.swept) >= sweepPause) {
		b.sweep()
		b.swept = now
	}
	if len(b.open) >= b.max {
		if !b.refusing {
			b.refusing = true
			b.logger.Warn("connections are refused", "open", len(b.open), "limit", b.max, "peer", conn.RemoteAddr())
		}
		return false
	}
	b.refusing = false
	b.open = append(b.open, conn)
	return true
}

// sweep removes the closed connections.
func (b *bounded) sweep() {
	kept := b.open[:0]
	for _, c := range b.open {
		if raw, err := c.SyscallConn(); err == nil && raw.Control(func(uintptr) {}) == nil {
			kept = append(kept, c)
		}
	}
	clear(b.open[len(kept):])
	b.open = kept
	b.sweepAt = min(max(2*len(kept), sweepFirst), b.max)
}

// refuse sends a gRPC client the reason, in a frame that it reads in place of the
// server's settings (connectReasons), and closes the connection without waiting.
func (b *bounded) refuse(conn *net.TCPConn) {
	select {
	case b.refusals <- struct{}{}:
	default:
		_ = conn.Close()
		return
	}
	b.group.Go(func() {
		defer func() { <-b.refusals }()
		defer func() { _ = conn.Close() }() // nothing that counts was written
		// A close with bytes unread would reset the connection, and the reset may overtake the reason.
		_ = conn.SetDeadline(time.Now().Add(refusalTimeout))
		if _, err := conn.Write(goAway(fmt.Sprintf("%d connections are open, the limit of this server",
			b.max))); err == nil && conn.CloseWrite() == nil {
			_, _ = io.CopyN(io.Discard, conn, refusalBytesMax)
		}
	})
}

// goAway is an HTTP/2 frame (RFC 9113, 6.8) that ends a connection before its
// first stream, with the code ENHANCE_YOUR_CALM.
func goAway(reason string) []byte {
	const frameGoAway, enhanceYourCalm = 0x7, 0xb
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(reason))<<8|frameGoAway) // length and type
	b = append(b, 0)                                                              // flags
	b = binary.BigEndian.AppendUint32(b, 0)                                       // the connection
	b = binary.BigEndian.AppendUint32(b, 0)                                       // no stream was begun
	b = binary.BigEndian.AppendUint32(b, enhanceYourCalm)
	return append(b, reason...)
}
