package client

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// sessionTarget says what a write session opens.
type sessionTarget struct {
	id         chunk.ID
	generation chunk.Generation
	previous   chunk.Generation
	mode       wire.Mode
	chunkSize  int64
	offset     int64 // length at which writing goes on
	sizeHint   int64
	hops       []wire.Hop // at least one
	// judged: a hop that holds up the others fails the session.
	judged bool
}

// session is one write session with a pipeline. One goroutine sends (its
// owner), one reads acks (its own).
//
// Invariants, under mu: acked <= sent; inflight holds exactly the packets
// acked+1..sent, in order; cost is the sum of their window costs and stays
// <= window, save that one packet may go out before the open ack.
type session struct {
	client  *Client
	target  sessionTarget
	conn    *connection
	onAcked func(bytes int64) // on the ack goroutine; nil: nobody listens
	unwatch func() bool
	ack     wire.Ack      // of the ack goroutine
	ended   chan struct{} // the ack goroutine is done
	changed chan struct{} // holds one element after a change; only the owner waits

	mu struct {
		sync.Mutex
		opened   bool
		window   int64
		sent     uint64
		acked    uint64
		length   int64 // acknowledged length of the chunk
		cost     int64
		inflight []*packet
		sealed   []string  // node ids that acked the seal
		synced   int64     // of it, made durable in this session, or there before it
		meter    *hopMeter // nil: nothing had to wait for long yet
		finished bool      // the ack of FlagSeal or FlagClose has come
		err      *pipelineError
		closed   bool      // by the owner: the ack goroutine must not touch packets
		spare    []*packet // empty, the memory that inflight begins in
		waiters  waiters
	}
}

// openSession connects to the first hop and sends OpenWrite with, perhaps, the
// first packet behind it (at most firstBytesMax). It does not wait for the
// answer. ctx bounds this call, life the whole session. On error (a
// *pipelineError, or ctx ended) the packet stays the caller's; else the session
// owns it.
func (c *Client) openSession(ctx, life context.Context, target sessionTarget, first *packet, onAcked func(int64)) (*session, error) {
	head := target.hops[0]
	blame := func(err error) error {
		e := datanode(err, "open write", Replica{NodeID: head.NodeID, Address: head.Address}, target.id.String())
		if ctx.Err() == nil && life.Err() == nil {
			c.nodes.failed(head.Address)
		}
		return &pipelineError{failed: []hopFailure{{hop: head, err: e}}, err: e}
	}
	var body []byte
	if first != nil {
		body = first.encode(1)
	}
	open := &wire.OpenWrite{
		BodyVersion: wire.BodyVersion, ChunkID: target.id[:], Generation: uint64(target.generation), PreviousGeneration: uint64(target.previous),
		Mode: target.mode, ChunkSize: target.chunkSize, Offset: target.offset, SizeHint: target.sizeHint,
		WindowBytes: c.options.WindowBytes, Downstream: target.hops[1:], ClientName: c.options.Name,
	}
	judged := target.judged && len(target.hops) > 1 && c.options.SlowBytesPerSecond > 0
	if judged {
		open.ReportMicros = uint32(slowReport.Microseconds())
	}
	if first != nil {
		if err := c.allow(ctx, first.size); err != nil {
			return nil, blame(err)
		}
	}
	for {
		conn, err := c.pool.get(ctx, head.Address)
		if err != nil {
			return nil, blame(err)
		}
		deadline := time.Now().Add(c.options.DataTimeout)
		stop := conn.watch(ctx)
		err = conn.request(wire.OpOpenWrite, open, deadline, body)
		if !stop() || err != nil {
			c.pool.discard(conn)
			if conn.reused && ctx.Err() == nil {
				continue // the datanode closed it while it was idle: dial anew
			}
			if err == nil {
				err = ctx.Err()
			}
			return nil, blame(err)
		}
		s := &session{client: c, target: target, conn: conn, onAcked: onAcked, ended: make(chan struct{}), changed: make(chan struct{}, 1)}
		s.mu.spare = make([]*packet, 0, 8)
		s.mu.inflight = s.mu.spare
		s.mu.length, s.mu.synced = target.offset, target.offset
		if first != nil {
			s.mu.sent, s.mu.cost = 1, wire.WindowCost(first.size)
			s.mu.inflight = append(s.mu.inflight, first)
		}
		if err := conn.net.SetReadDeadline(deadline); err != nil { // the open ack is owed
			c.pool.discard(conn)
			return nil, blame(conn.fault(err))
		}
		if !c.start(s.readAcks) {
			c.pool.discard(conn)
			return nil, errClientClosed
		}
		if judged {
			c.slow.add(s)
		}
		s.unwatch = context.AfterFunc(life, func() { _ = s.fail(&pipelineError{err: contextFault(life, "write chunk", "", nil)}) })
		return s, nil
	}
}

// condition is what the owner of a session may wait for.
type condition int

const (
	isOpened   condition = iota // all hops accepted the session
	isFlushed                   // all packets are acknowledged
	isFinished                  // the packet with FlagSeal is acknowledged
	hasRoom                     // a packet of some cost fits the window, or can never fit
)

// holdsLocked tells whether a condition holds. Called with mu held.
func (s *session) holdsLocked(c condition, cost int64) bool {
	switch c {
	case isOpened:
		return s.mu.opened
	case isFlushed:
		return len(s.mu.inflight) == 0
	case isFinished:
		return s.mu.finished
	}
	return s.mu.err == nil && s.mu.opened && (s.mu.cost+cost <= s.mu.window || cost > s.mu.window)
}

// await waits until a condition holds, the session fails, or ctx ends. cost is
// that of hasRoom. Only the owner calls it.
func (s *session) await(ctx context.Context, c condition, cost int64) error {
	for {
		s.mu.Lock()
		ok, err := s.holdsLocked(c, cost), s.mu.err
		s.mu.Unlock()
		switch {
		case ok:
			return nil
		case err != nil:
			return err
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// opened waits for the open ack.
func (s *session) opened(ctx context.Context) error {
	return s.await(ctx, isOpened, 0)
}

// send waits for the window and sends a packet. taken: the session owns the
// packet, also when the socket failed under it; else it stays the caller's. ctx
// bounds the wait for the window; the socket is bounded by DataTimeout and by
// the session's life.
func (s *session) send(ctx context.Context, p *packet) (taken bool, err error) {
	if err := s.client.allow(ctx, p.size); err != nil {
		return false, err
	}
	cost := wire.WindowCost(p.size)
	if err := s.await(ctx, hasRoom, cost); err != nil {
		return false, err
	}
	s.mu.Lock()
	if cost > s.mu.window {
		defer s.mu.Unlock()
		return false, s.failLocked(&pipelineError{err: fault.New(fault.Busy, "write chunk", "the pipeline grants a window of %d bytes, a packet takes %d", s.mu.window, cost)})
	}
	s.mu.sent++
	body := p.encode(s.mu.sent)
	deadline := time.Now().Add(s.client.options.DataTimeout)
	if len(s.mu.inflight) == 0 && s.mu.err == nil {
		_ = s.conn.net.SetReadDeadline(deadline) // an ack is owed; a dead socket shows at the write
	}
	p.sent = time.Now()
	s.mu.inflight = append(s.mu.inflight, p)
	s.mu.cost += cost
	// A peer that acks what it cannot have seen must not get the buffer reused
	// while the socket still reads it.
	buffer := p.buffer
	buffer.Retain()
	broken := s.mu.err
	if broken == nil {
		// Under the lock, so that it never undoes the deadline of a failure.
		_ = s.conn.net.SetWriteDeadline(deadline)
	}
	s.mu.Unlock()
	if broken != nil {
		buffer.Release()
		return true, broken
	}
	_, err = s.conn.net.Write(body)
	buffer.Release()
	if err != nil {
		return true, s.fail(s.lost(err))
	}
	return true, nil
}

// lost is the error of a broken connection. A silent head is to blame; one
// whose connection broke may be well, which dialling will show.
func (s *session) lost(err error) *pipelineError {
	head := s.target.hops[0]
	e := datanode(s.conn.fault(err), "write chunk", Replica{NodeID: head.NodeID, Address: head.Address}, s.target.id.String())
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &pipelineError{failed: []hopFailure{{hop: head, err: e}}, err: e}
	}
	return &pipelineError{err: e}
}

// fail records why the session ended; the first reason stays. It returns what
// is recorded.
func (s *session) fail(err *pipelineError) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failLocked(err)
}

func (s *session) failLocked(err *pipelineError) error {
	if s.mu.closed {
		return err // the connection may be another one's by now
	}
	if s.mu.err == nil {
		s.mu.err = err
		s.mu.waiters.wakeAll()
		for _, f := range err.failed {
			s.client.nodes.failed(f.hop.Address)
		}
		s.changedLocked()
	}
	_ = s.conn.net.SetDeadline(longAgo) // wakes the other direction
	return s.mu.err
}

func (s *session) changedLocked() {
	select {
	case s.changed <- struct{}{}:
	default: // the owner has not seen the last one yet
	}
}

// close ends the session and waits for its goroutine. A session that finished
// in order gives its connection back; any other closes it. It returns the
// packets that were sent and not acknowledged: they are the caller's now, and no
// socket uses them any more.
func (s *session) close() []*packet {
	s.unwatch()
	s.client.slow.remove(s)
	s.mu.Lock()
	s.mu.closed = true
	s.mu.waiters.wakeAll()
	finished := s.mu.finished && s.mu.err == nil
	s.mu.Unlock()
	if !finished {
		s.client.pool.discard(s.conn)
	}
	<-s.ended
	s.mu.Lock()
	defer s.mu.Unlock()
	if finished {
		s.client.pool.put(s.conn)
	}
	rest := s.mu.inflight
	s.mu.inflight = nil
	return rest
}

// lastSent is the seqno of the packet that was sent last.
func (s *session) lastSent() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.sent
}

// length is the chunk's length that every hop acknowledged.
func (s *session) length() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.length
}

// sealedBy lists the nodes that acknowledged the seal.
func (s *session) sealedBy() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.sealed
}

// stood tells whether all hops accepted the session.
func (s *session) stood() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.opened
}
