package logserver

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/fault"
)

// preamble is what a peer sends first. It keeps other protocols away from raft's decoder.
const preamble = "WWRAFT\x01\n"

// streams is the raft port: a raft.StreamLayer that accepts only connections
// which send the preamble in time, and can be cut off for good.
type streams struct {
	listener  net.Listener
	advertise string
	accepted  chan net.Conn
	greeting  chan struct{} // one token per connection that has not greeted yet
	closed    chan struct{}
	group     sync.WaitGroup

	mu struct {
		sync.Mutex
		open map[net.Conn]struct{} // every connection of ours; nil after Close
	}
}

var _ raft.StreamLayer = (*streams)(nil)

// listenRaft opens the raft port. advertise is how peers reach it; "" = the address listened on.
func listenRaft(address, advertise string) (*streams, error) {
	listener, err := rpc.Listen(address)
	if err != nil {
		return nil, err
	}
	if advertise == "" {
		advertise = listener.Addr().String()
	}
	s := &streams{
		listener: listener, advertise: advertise,
		accepted: make(chan net.Conn), greeting: make(chan struct{}, handshakesMax), closed: make(chan struct{}),
	}
	s.mu.open = make(map[net.Conn]struct{})
	s.group.Go(s.listen)
	return s, nil
}

// listen accepts connections until Close.
func (s *streams) listen() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			select {
			case <-s.closed:
				return
			case <-time.After(10 * time.Millisecond): // for example out of file descriptors
			}
			continue
		}
		tracked, ok := s.track(conn)
		if !ok {
			return
		}
		select {
		case s.greeting <- struct{}{}:
			s.group.Go(func() { s.greet(tracked) })
		default:
			_ = tracked.Close()
		}
	}
}

// greet waits for the preamble and passes the connection to raft.
func (s *streams) greet(conn net.Conn) {
	var b [len(preamble)]byte
	_ = conn.SetReadDeadline(time.Now().Add(handshakeTimeout))
	_, err := io.ReadFull(conn, b[:])
	<-s.greeting
	if err != nil || string(b[:]) != preamble {
		_ = conn.Close()
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	select {
	case s.accepted <- conn:
	case <-s.closed:
		_ = conn.Close()
	}
}

// Accept implements net.Listener.
func (s *streams) Accept() (net.Conn, error) {
	select {
	case conn := <-s.accepted:
		return conn, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Dial implements raft.StreamLayer.
func (s *streams) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", string(address), timeout)
	if err != nil {
		return nil, err
	}
	tracked, ok := s.track(conn)
	if !ok {
		return nil, net.ErrClosed
	}
	_ = tracked.SetWriteDeadline(time.Now().Add(timeout))
	if _, err := io.WriteString(tracked, preamble); err != nil {
		_ = tracked.Close()
		return nil, err
	}
	_ = tracked.SetWriteDeadline(time.Time{})
	return tracked, nil
}

// Addr implements net.Listener: the address that peers use.
func (s *streams) Addr() net.Addr { return address(s.advertise) }

// Close implements net.Listener: it cuts every connection and waits for the goroutines here.
func (s *streams) Close() error {
	s.cut()
	s.group.Wait()
	return nil
}

// cut closes the port and every connection, at once and for good.
func (s *streams) cut() {
	s.mu.Lock()
	open := s.mu.open
	s.mu.open = nil
	s.mu.Unlock()
	if open == nil {
		return
	}
	close(s.closed)
	_ = s.listener.Close()
	for conn := range open {
		_ = conn.Close()
	}
}

// track remembers a connection; false, and closes it, after Close.
func (s *streams) track(conn net.Conn) (net.Conn, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.open == nil {
		_ = conn.Close()
		return nil, false
	}
	s.mu.open[conn] = struct{}{}
	return &trackedConn{Conn: conn, owner: s}, true
}

// trackedConn forgets itself when it is closed.
type trackedConn struct {
	net.Conn
	owner *streams
}

// Close implements net.Conn.
func (c *trackedConn) Close() error {
	c.owner.mu.Lock()
	delete(c.owner.mu.open, c.Conn)
	c.owner.mu.Unlock()
	return c.Conn.Close()
}

// address is a net.Addr of a text.
type address string

// Network implements net.Addr.
func (address) Network() string { return "tcp" }

// String implements net.Addr.
func (a address) String() string { return string(a) }

// transport is raft's way to its peers.
type transport struct {
	raft.Transport
	cut   func()       // at once, nothing leaves any more
	close func() error // after raft has ended
}

// newTransport opens the raft port, or makes a transport without peers for a server without one.
func newTransport(options Options, advertise string) (*transport, error) {
	if options.ListenRaft == "" {
		_, inmem := raft.NewInmemTransport(raft.ServerAddress(options.NodeID))
		return &transport{Transport: inmem, cut: func() {}, close: inmem.Close}, nil
	}
	layer, err := listenRaft(options.ListenRaft, advertise)
	if err != nil {
		return nil, err
	}
	if host, _, err := net.SplitHostPort(layer.advertise); err == nil {
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			_ = layer.Close()
			return nil, fault.New(fault.Invalid, "start log server",
				"peers cannot reach %s: name this server's address among the peers", layer.advertise)
		}
	}
	network := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: layer, MaxPool: 4, Timeout: raftIOTimeout, Logger: hclogTo(options.Logger, "raft-net", slog.LevelWarn),
	})
	return &transport{Transport: network, cut: layer.cut, close: func() error {
		return errors.Join(network.Close(), layer.Close())
	}}, nil
}
