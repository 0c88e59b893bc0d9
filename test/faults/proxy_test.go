package faults

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
)

// eventKind is what passes a proxy.
type eventKind uint8

const (
	eventOpen    eventKind = iota + 1 // OpenWrite to the node
	eventOpenAck                      // its answer
	eventData                         // a Data packet to the node
	eventAck                          // an Ack from the node
)

// event is one packet of a write session, before it is forwarded.
type event struct {
	kind  eventKind
	node  *node
	after int // hops behind this one
	id    chunk.ID
	mode  wire.Mode
	seqno uint64
	flags wire.Flags // eventData: the packet's; eventAck: of all packets it covers
}

// proxy forwards TCP connections to a target, under faults. Its faults act on
// all connections, those that stand and new ones.
type proxy struct {
	listener net.Listener
	// watch is called for each packet of a write session before it is forwarded;
	// nil: the bytes are not looked at. cut asks for half of the packet to be
	// forwarded and the connection to break then.
	watch func(event) (cut bool)
	node  *node
	group sync.WaitGroup

	mu struct {
		sync.Mutex
		target  string
		refuse  bool
		stalled bool
		rate    int // bytes per second and direction; 0: no limit
		closed  bool
		changed chan struct{} // closed and replaced at every change
		conns   map[net.Conn]struct{}
	}
}

func newProxy(t testing.TB) *proxy {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{listener: listener}
	p.mu.changed = make(chan struct{})
	p.mu.conns = map[net.Conn]struct{}{}
	p.group.Go(p.accept)
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

// set changes the faults; f runs under the lock.
func (p *proxy) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.mu.changed)
	p.mu.changed = make(chan struct{})
}

func (p *proxy) aim(address string) { p.set(func() { p.mu.target = address }) }

// cut breaks all connections; new ones are refused or not.
func (p *proxy) cut(refuse bool) {
	p.set(func() {
		p.mu.refuse = refuse
		for c := range p.mu.conns {
			abort(c)
		}
	})
}

// abort closes a connection as a dying process does: at once, with a reset.
func abort(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

func (p *proxy) stall()             { p.set(func() { p.mu.stalled = true }) }
func (p *proxy) throttle(bytes int) { p.set(func() { p.mu.rate = bytes }) }

// heal ends all faults. What was stalled goes on, late.
func (p *proxy) heal() {
	p.set(func() { p.mu.refuse, p.mu.stalled, p.mu.rate = false, false, 0 })
}

func (p *proxy) close() {
	p.set(func() {
		p.mu.closed = true
		for c := range p.mu.conns {
			abort(c)
		}
	})
	_ = p.listener.Close()
	p.group.Wait()
}

// adopt notes a connection that faults act on; false: it is not wanted.
func (p *proxy) adopt(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed || p.mu.refuse {
		abort(c)
		return false
	}
	p.mu.conns[c] = struct{}{}
	return true
}

func (p *proxy) drop(c net.Conn) {
	p.mu.Lock()
	delete(p.mu.conns, c)
	p.mu.Unlock()
	_ = c.Close()
}

func (p *proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		if p.adopt(c) {
			p.group.Go(func() { p.serve(c) })
		}
	}
}

func (p *proxy) serve(front net.Conn) {
	defer p.drop(front)
	if !p.pass(0) {
		return
	}
	p.mu.Lock()
	target := p.mu.target
	p.mu.Unlock()
	back, err := net.DialTimeout("tcp", target, time.Second)
	if err != nil || !p.adopt(back) {
		abort(front)
		return
	}
	defer p.drop(back)
	s := &session{proxy: p}
	s.mu.flags = map[uint64]wire.Flags{}
	var down sync.WaitGroup
	down.Go(func() { p.pump(back, front, s.down) })
	p.pump(front, back, s.up)
	down.Wait()
}

// pump forwards until either side ends, and then ends both.
func (p *proxy) pump(source, target net.Conn, look func([]byte) bool) {
	defer func() { abort(source); abort(target) }()
	reader := &packets{source: source, framed: p.watch != nil, buffer: make([]byte, 64<<10)}
	for {
		data, whole, err := reader.next()
		cut := whole && look(data)
		if len(data) > 0 && !p.pass(len(data)) {
			return
		}
		if cut {
			data = data[:len(data)/2]
		}
		if len(data) > 0 {
			if _, failed := target.Write(data); failed != nil {
				return
			}
		}
		if err != nil || cut {
			return
		}
	}
}

// pass waits until n bytes may pass; false: the proxy is closed.
func (p *proxy) pass(count int) bool {
	for {
		p.mu.Lock()
		stalled, closed, changed, rate := p.mu.stalled, p.mu.closed, p.mu.changed, p.mu.rate
		p.mu.Unlock()
		switch {
		case closed:
			return false
		case stalled:
			<-changed
			continue
		case rate > 0:
			timer := time.NewTimer(time.Duration(count) * time.Second / time.Duration(rate))
			select {
			case <-timer.C:
			case <-changed:
				timer.Stop()
				continue
			}
		}
		return true
	}
}

// packets splits a byte stream into whole packets and raw pieces.
type packets struct {
	source io.Reader
	framed bool
	raw    int64 // bytes that follow a ReadReply
	buffer []byte
}

// next returns the next piece; whole: it is a packet.
func (r *packets) next() (b []byte, whole bool, err error) {
	if !r.framed || r.raw > 0 {
		room := r.buffer
		if r.raw > 0 {
			room = room[:min(r.raw, int64(len(room)))]
		}
		n, err := r.source.Read(room)
		r.raw = max(0, r.raw-int64(n))
		return room[:n], false, err
	}
	if n, err := io.ReadFull(r.source, r.buffer[:wire.HeaderBytes]); err != nil {
		return r.buffer[:n], false, err
	}
	header, err := wire.ParseHeader(r.buffer)
	if err != nil {
		return r.buffer[:wire.HeaderBytes], false, err
	}
	size := wire.HeaderBytes + int(header.Length)
	if size > len(r.buffer) {
		r.buffer = append(make([]byte, 0, size), r.buffer[:wire.HeaderBytes]...)[:size]
	}
	n, err := io.ReadFull(r.source, r.buffer[wire.HeaderBytes:size])
	if err != nil {
		return r.buffer[:wire.HeaderBytes+n], false, err
	}
	if header.Op == wire.OpReadReply {
		var reply wire.ReadReply
		if wire.DecodeBody(r.buffer[wire.HeaderBytes:size], &reply) == nil {
			r.raw = reply.DataLength
		}
	}
	return r.buffer[:size], true, nil
}

// session follows the write sessions of one connection.
type session struct {
	proxy *proxy
	mu    struct {
		sync.Mutex
		open  event
		flags map[uint64]wire.Flags // of packets not acked
	}
}

func (s *session) up(packet []byte) bool {
	header, err := wire.ParseHeader(packet)
	if err != nil {
		return false
	}
	s.mu.Lock()
	seen := s.mu.open
	switch header.Op {
	case wire.OpOpenWrite:
		var o wire.OpenWrite
		if wire.DecodeBody(packet[wire.HeaderBytes:], &o) != nil || len(o.ChunkID) != len(seen.id) {
			s.mu.Unlock()
			return false
		}
		seen = event{kind: eventOpen, node: s.proxy.node, after: len(o.Downstream),
			id: chunk.ID(o.ChunkID), mode: o.Mode}
		s.mu.open, s.mu.flags = seen, map[uint64]wire.Flags{}
	case wire.OpData:
		seen.kind, seen.seqno, seen.flags = eventData, header.Seqno, header.Flags
		s.mu.flags[header.Seqno] = header.Flags
	default:
		s.mu.Unlock()
		return false
	}
	s.mu.Unlock()
	return s.proxy.watch(seen)
}

func (s *session) down(packet []byte) bool {
	header, err := wire.ParseHeader(packet)
	if err != nil {
		return false
	}
	s.mu.Lock()
	seen := s.mu.open
	switch header.Op {
	case wire.OpOpenAck:
		seen.kind = eventOpenAck
	case wire.OpAck:
		seen.kind, seen.seqno = eventAck, header.Seqno
		for seqno, flags := range s.mu.flags {
			if seqno <= header.Seqno {
				seen.flags |= flags
				delete(s.mu.flags, seqno)
			}
		}
	default:
		s.mu.Unlock()
		return false
	}
	s.mu.Unlock()
	return s.proxy.watch(seen)
}

// readDirect reads a chunk from one address as a reader does who accepts no
// generation below minimum. The blocks' sums are verified by the datanode's own
// tests; here the bytes themselves are compared.
func readDirect(ctx context.Context, address string, id chunk.ID, minimum chunk.Generation) (content []byte,
	reply wire.ReadReply, err error) {
	var d net.Dialer
	connection, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, reply, err
	}
	defer connection.Close()
	deadline, _ := ctx.Deadline()
	if err := connection.SetDeadline(deadline); err != nil {
		return nil, reply, err
	}
	b, err := wire.AppendPacket(nil, wire.Header{Op: wire.OpOpenRead},
		&wire.OpenRead{BodyVersion: wire.BodyVersion, ChunkID: id[:],
			MinGeneration: uint64(minimum), Length: -1})
	if err != nil {
		return nil, reply, err
	}
	if _, err := connection.Write(b); err != nil {
		return nil, reply, err
	}
	r := wire.NewPacketReader(connection, 0)
	if _, err := r.Expect(wire.OpReadReply, &reply); err != nil {
		return nil, reply, err
	}
	if err := reply.Status.Err("read", address); err != nil {
		return nil, reply, err
	}
	content = make([]byte, reply.DataLength)
	_, err = io.ReadFull(r, content)
	return content, reply, err
}

// pattern fills n bytes of which no two aligned words are equal, here or in
// another file.
func pattern(seed uint64, n int) []byte {
	b := make([]byte, n+8)
	for i := 0; i < n; i += 8 {
		x := seed<<32 + uint64(i) + 0x9E3779B97F4A7C15
		x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
		x = (x ^ x>>27) * 0x94D049BB133111EB
		binary.LittleEndian.PutUint64(b[i:], x^x>>31)
	}
	return b[:n]
}
