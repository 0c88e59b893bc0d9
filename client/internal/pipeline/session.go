package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/whispering-woods/ww/client/internal/datanode"
	"github.com/whispering-woods/ww/client/internal/lifetime"
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
	least      int        // hops that the chunk cannot do without
	judged     bool       // a hop that holds up the others fails the session
	slow       []string   // node ids of hops that were known to be slow: there are no others
}

// session is one write session with a pipeline. One goroutine sends (its owner), one reads acks (its own); others may
// only wait in acknowledged.
type session struct {
	pipelines *Pipelines
	target    sessionTarget
	conn      *datanode.Connection
	began     time.Time
	onAcked   func(bytes int64) // on the ack goroutine; nil: nobody listens
	unwatch   func() bool
	ack       wire.Ack      // of the ack goroutine
	ended     chan struct{} // the ack goroutine is done
	changed   chan struct{} // holds one element after a change; only the owner waits

	mu struct {
		sync.Mutex
		opened   bool
		window   window
		sealedBy []string  // node ids that acked the seal
		meter    *hopMeter // nil: nothing had to wait for long yet
		finished bool      // the ack of FlagSeal or FlagClose has come
		owedBy   time.Time // when the ack that is owed must have come; zero: none is owed
		err      *sessionError
		closed   bool // by the owner: the ack goroutine must not touch packets
		waiters  waiters
	}
}

// openSession connects to the first hop and sends OpenWrite with, perhaps, the first packet behind it (at most
// FirstBytesMax). It does not wait for the answer. ctx bounds this call, life the whole session. On error (a
// *sessionError, or ctx ended) the packet stays the caller's; else the session owns it.
func (p *Pipelines) openSession(ctx, life context.Context, target sessionTarget, first *Packet,
	onAcked func(int64)) (*session, error) {
	head := target.hops[0]
	blameHead := func(err error) error {
		e := datanode.Fault(err, "open write", head, target.id.String())
		if ctx.Err() == nil && life.Err() == nil {
			p.Nodes.Failures.Failed(head.Address)
		}
		return &sessionError{failed: []HopFailure{{Hop: head, Err: e}}, err: e}
	}
	open := &wire.OpenWrite{
		BodyVersion: wire.BodyVersion, ChunkID: target.id[:], Generation: uint64(target.generation),
		PreviousGeneration: uint64(target.previous), Mode: target.mode, ChunkSize: target.chunkSize,
		Offset:   target.offset,
		SizeHint: target.sizeHint, WindowBytes: p.WindowBytes, Downstream: target.hops[1:], ClientName: p.ClientName,
	}
	judged := target.judged && len(target.hops) > 1 && p.SlowBytesPerSecond > 0
	if judged {
		open.ReportMicros = uint32(slowReport.Microseconds())
	}
	opened := &session{pipelines: p, target: target, began: time.Now(), onAcked: onAcked, ended: make(chan struct{}),
		changed: make(chan struct{}, 1)}
	opened.mu.window = newWindow(target.offset)
	var packet []byte
	if first != nil {
		if err := p.Datanodes.Bandwidth.Wait(ctx, first.Size); err != nil {
			return nil, blameHead(err)
		}
		packet = first.encode(opened.mu.window.nextSeqno())
	}
	deadline := time.Now().Add(p.Datanodes.DataTimeout)
	var err error
	if opened.conn, err = p.Datanodes.Begin(ctx, head.Address, deadline, wire.OpOpenWrite, open, packet); err != nil {
		return nil, blameHead(err)
	}
	opened.mu.Lock()
	opened.oweLocked(true, time.Now()) // the open ack
	opened.mu.Unlock()
	if first != nil {
		opened.mu.window.add(first)
	}
	if !p.Life.Start(opened.readAcks) {
		p.Datanodes.Pool.Discard(opened.conn)
		return nil, lifetime.ErrClosed
	}
	if judged {
		p.slow.add(opened)
	}
	opened.unwatch = context.AfterFunc(life, func() {
		_ = opened.fail(&sessionError{err: lifetime.Ended(life, "write chunk", "", nil)})
	})
	return opened, nil
}

// oweLocked notes whether the datanodes owe an ack from now on.
func (s *session) oweLocked(owed bool, now time.Time) {
	s.mu.owedBy = time.Time{}
	if owed {
		s.mu.owedBy = now.Add(s.pipelines.Datanodes.DataTimeout)
	}
	s.armLocked(now.Add(s.pipelines.Datanodes.SilenceTimeout))
}

// armLocked has the first hop say something until then, if an ack is owed.
func (s *session) armLocked(deadline time.Time) {
	if s.mu.err != nil || s.mu.closed {
		return // the deadline of a failure stays
	}
	if s.mu.owedBy.Before(deadline) { // also if nothing is owed
		deadline = s.mu.owedBy
	}
	_ = s.conn.Net.SetReadDeadline(deadline) // a dead socket shows at the next read
}

// await waits until a condition holds, the session fails, or ctx ends. holds is called with the session locked. Only
// the owner calls await.
func (s *session) await(ctx context.Context, holds func() bool) error {
	for {
		s.mu.Lock()
		ok, err := holds(), s.mu.err
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

// transmit waits for the window and writes a packet to the socket. taken: the session owns the packet, also when the
// socket failed under it; else it stays the caller's. ctx bounds the wait for the window; the socket is bounded by
// DataTimeout and by the session's life.
func (s *session) transmit(ctx context.Context, packet *Packet) (taken bool, err error) {
	if err := s.pipelines.Datanodes.Bandwidth.Wait(ctx, packet.Size); err != nil {
		return false, err
	}
	cost, window := wire.WindowCost(packet.Size), &s.mu.window
	if err := s.await(ctx, func() bool { // it fits the window, or can never fit
		return s.mu.err == nil && s.mu.opened && (window.cost+cost <= window.limit || cost > window.limit)
	}); err != nil {
		return false, err
	}
	s.mu.Lock()
	if cost > window.limit {
		defer s.mu.Unlock()
		return false, s.failLocked(&sessionError{err: fault.New(fault.Busy, "write chunk",
			"the pipeline grants a window of %d bytes, a packet takes %d", window.limit, cost)})
	}
	encoded := packet.encode(window.nextSeqno())
	packet.sent = time.Now()
	if window.empty() {
		s.oweLocked(true, packet.sent)
	}
	window.add(packet)
	// Warning: from here on an ack may release the packet. A peer that acks what it cannot have seen must not get the
	// buffer reused while the socket still reads it, so this goroutine holds the buffer too. FuzzAck sees it fail
	// under the race detector.
	buffer := packet.buffer
	buffer.Retain()
	broken := s.mu.err
	if broken == nil {
		// Under the lock, so that it never undoes the deadline of a failure.
		_ = s.conn.Net.SetWriteDeadline(packet.sent.Add(s.pipelines.Datanodes.DataTimeout))
	}
	s.mu.Unlock()
	if broken != nil {
		buffer.Release()
		return true, broken
	}
	_, err = s.conn.Net.Write(encoded)
	buffer.Release()
	if err != nil {
		return true, s.fail(s.lost(err))
	}
	return true, nil
}

// lost is the error of a broken connection. A silent head is to blame; one whose connection broke may be well, which
// dialling will show.
func (s *session) lost(err error) *sessionError {
	head := s.target.hops[0]
	e := datanode.Fault(s.conn.Fault(err), "write chunk", head, s.target.id.String())
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &sessionError{failed: []HopFailure{{Hop: head, Err: e}}, err: e}
	}
	return &sessionError{err: e}
}

// fail records why the session ended; the first reason stays. It returns what is recorded.
func (s *session) fail(err *sessionError) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failLocked(err)
}

func (s *session) failLocked(err *sessionError) error {
	if s.mu.closed {
		return err // the connection may be another one's by now
	}
	if s.mu.err == nil {
		s.mu.err = err
		s.mu.waiters.wakeAll()
		for _, f := range err.failed {
			s.pipelines.Nodes.Failures.Failed(f.Hop.Address)
		}
		s.changedLocked()
	}
	_ = s.conn.Net.SetDeadline(datanode.LongAgo) // wakes the other direction
	return s.mu.err
}

func (s *session) changedLocked() {
	select {
	case s.changed <- struct{}{}:
	default: // the owner has not seen the last one yet
	}
}

// close ends the session and waits for its goroutine. A session that finished in order returns its connection to the
// pool; any other closes it. It returns the packets that were sent and not acknowledged: they are the caller's now, and
// no socket uses them any more.
func (s *session) close() []*Packet {
	s.unwatch()
	s.pipelines.slow.remove(s)
	s.mu.Lock()
	s.mu.closed = true
	s.mu.waiters.wakeAll()
	finished := s.mu.finished && s.mu.err == nil
	s.mu.Unlock()
	if !finished {
		s.pipelines.Datanodes.Pool.Discard(s.conn)
	}
	<-s.ended
	s.mu.Lock()
	defer s.mu.Unlock()
	if finished {
		s.pipelines.Datanodes.Pool.Put(s.conn)
	}
	rest := s.mu.window.packets
	s.mu.window.packets = nil
	return rest
}

// sessionState is a session at one moment.
type sessionState struct {
	opened   bool     // all hops accepted it
	sent     uint64   // seqno of the packet that was sent last
	idle     bool     // everything is acknowledged
	length   int64    // of the chunk, acknowledged
	sealedBy []string // node ids that acked the seal
	failed   error    // nil: it stands
}

func (s *session) state() sessionState {
	s.mu.Lock()
	defer s.mu.Unlock()
	window := &s.mu.window
	now := sessionState{opened: s.mu.opened, sent: window.sent, idle: window.empty(), length: window.length,
		sealedBy: s.mu.sealedBy}
	if s.mu.err != nil { // else failed would not be nil: it would be a nil *sessionError
		now.failed = s.mu.err
	}
	return now
}

// acknowledged waits until all hops have acknowledged the packet seqno of this session, and reports whether they have;
// they may not if the session fails or is closed, or ctx ends. Any goroutine may call it.
func (s *session) acknowledged(ctx context.Context, seqno uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.window.acked >= seqno || s.mu.err != nil || s.mu.closed {
		return s.mu.window.acked >= seqno
	}
	waiting := s.mu.waiters.add(seqno)
	s.mu.Unlock()
	select {
	case <-waiting.woken:
	case <-ctx.Done():
	}
	s.mu.Lock()
	s.mu.waiters.drop(waiting)
	return s.mu.window.acked >= seqno
}

// readAcks is the ack goroutine: it reads until the session finished or failed.
func (s *session) readAcks() {
	defer close(s.ended)
	for done := false; !done; {
		var err error
		if done, err = s.readPacket(); err != nil {
			var e *sessionError
			if !errors.As(err, &e) {
				e = s.lost(err)
			}
			_ = s.fail(e)
			return
		}
	}
}

// readPacket reads one OpenAck, Ack or Error; done: the session is over in order.
func (s *session) readPacket() (done bool, err error) {
	header, payload, err := s.conn.Packets.Next()
	if errors.Is(err, os.ErrDeadlineExceeded) && s.lookAgain() {
		header, payload, err = s.conn.Packets.Next()
	}
	if err != nil {
		return false, err
	}
	switch header.Op {
	case wire.OpAlive:
		var alive wire.Alive
		if err := wire.DecodeBody(payload, &alive); err != nil {
			return false, err
		}
		return false, s.onAlive(alive.Opening)
	case wire.OpOpenAck:
		var ack wire.OpenAck
		if err := wire.DecodeBody(payload, &ack); err != nil {
			return false, err
		}
		if err := s.target.blame("open write", ack.Hops); err != nil {
			return false, err
		}
		return false, s.onOpenAck(ack.WindowBytes)
	case wire.OpAck:
		ack := &s.ack
		if err := wire.DecodeAck(payload, ack); err != nil {
			return false, err
		}
		if err := s.target.blame("write chunk", ack.Hops); err != nil {
			return false, err
		}
		return s.onAck(ack)
	case wire.OpError:
		var status wire.Status
		if err := wire.DecodeBody(payload, &status); err != nil {
			return false, err
		}
		hop := wire.HopStatus{NodeID: status.NodeID, Code: status.Code, Reason: status.Reason}
		if hop.NodeID == "" {
			hop.NodeID = s.target.hops[0].NodeID
		}
		if err := s.target.blame("write chunk", []wire.HopStatus{hop}); err != nil {
			return false, err
		}
	}
	return false, fault.New(fault.Protocol, "write chunk", "got op %d in a write session", header.Op)
}

// lookAgain reports whether what came while this process was held up is read before the first hop is blamed: it may
// have said long ago that it lives. The reader goes on where it stopped.
func (s *session) lookAgain() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armLocked(time.Now().Add(secondLook))
	return s.mu.err == nil && !s.mu.closed
}

// onAlive handles that the first hop lives. A session that is opening waits for some disk: if that of a part of the
// hops takes long, while others are ready, and enough of them, it goes on without those.
func (s *session) onAlive(opening []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armLocked(time.Now().Add(s.pipelines.Datanodes.SilenceTimeout))
	if s.mu.opened || time.Since(s.began) < openPatience ||
		len(s.target.hops)-len(opening) < max(1, s.target.least) {
		return nil
	}
	var failed []HopFailure
	for _, hop := range s.target.hops {
		if slices.Contains(opening, hop.NodeID) {
			failed = append(failed, HopFailure{Hop: hop, Err: &fault.Error{Kind: fault.Unavailable, Op: "open write",
				Chunk: s.target.id.String(), Node: hop.NodeID, Address: hop.Address,
				Reason: fmt.Sprintf("its disk has not opened the replica for %s, others have", openPatience)}})
		}
	}
	if failed == nil {
		return nil
	}
	return &sessionError{failed: failed, err: failed[0].Err}
}

// onOpenAck handles that all hops accepted the session.
func (s *session) onOpenAck(windowBytes int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.opened {
		return fault.New(fault.Protocol, "write chunk", "a second open ack")
	}
	window := &s.mu.window
	s.mu.opened, window.limit = true, min(windowBytes, s.pipelines.WindowBytes)
	s.oweLocked(!window.empty(), time.Now())
	for _, p := range window.packets { // the one that came with the open
		p.sent = time.Now()
	}
	s.changedLocked()
	return nil
}

// onAck handles an ack without errors: the packets up to its seqno are done. An ack that repeats the last seqno is a
// report of what the oldest one waits for.
func (s *session) onAck(ack *wire.Ack) (done bool, err error) {
	s.mu.Lock()
	window := &s.mu.window
	if !s.mu.opened || ack.Seqno < window.acked || ack.Seqno > window.sent {
		defer s.mu.Unlock()
		return false, fault.New(fault.Protocol, "write chunk", "ack %d, but %d are acked and %d sent", ack.Seqno,
			window.acked, window.sent)
	}
	if s.mu.closed {
		s.mu.Unlock()
		return true, nil // the packets are the owner's again
	}
	now := time.Now()
	acked := window.acknowledge(ack.Seqno)
	if acked.last {
		for _, hop := range ack.Hops {
			s.mu.sealedBy = append(s.mu.sealedBy, hop.NodeID)
		}
	}
	s.oweLocked(!window.empty(), now)
	report, oldest := acked.oldest.IsZero(), acked.oldest
	if report && !window.empty() {
		oldest = window.packets[0].sent
	}
	s.measureLocked(now.Sub(oldest), acked.bytes, ack.Hops)
	s.mu.Unlock()
	if report {
		return false, nil
	}
	// Progress is reported before anybody who waits for it goes on, and not under the lock.
	if s.onAcked != nil && acked.bytes > 0 {
		s.onAcked(acked.bytes)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.finished = acked.last
	s.mu.waiters.wake(window.acked)
	s.changedLocked()
	return acked.last, nil
}

// blame makes an error of the hops that report one.
func (t *sessionTarget) blame(op string, hops []wire.HopStatus) error {
	var failed []HopFailure
	for _, status := range hops {
		if status.Code == 0 {
			continue
		}
		hop := wire.Hop{NodeID: status.NodeID}
		for _, h := range t.hops {
			if h.NodeID == status.NodeID {
				hop = h
			}
		}
		failed = append(failed, HopFailure{Hop: hop, Err: &fault.Error{Kind: fault.Kind(status.Code), Op: op,
			Chunk: t.id.String(), Node: hop.NodeID, Address: hop.Address, Reason: status.Reason}})
	}
	if failed == nil {
		if len(hops) != len(t.hops) {
			return fault.New(fault.Protocol, op, "an ack of %d hops for a pipeline of %d", len(hops), len(t.hops))
		}
		return nil
	}
	return &sessionError{failed: failed, err: failed[0].Err}
}

// measureLocked adds an ack, or a report, to the meter.
func (s *session) measureLocked(trip time.Duration, bytes int64, hops []wire.HopStatus) {
	switch m := s.mu.meter; {
	case m == nil || len(hops) != len(s.target.hops):
	case s.mu.window.empty():
		m.interrupt() // the writer has nothing more to send
	default:
		m.count(trip, bytes, hops)
	}
}

// judge ends a step of the session's meter. ok: data waited all the time, and the finding says for what. excused: it
// waits for a sync that may take longer.
func (s *session) judge(now time.Time, late bool) (finding hopFinding, excused, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed || s.mu.err != nil || !s.mu.opened {
		return finding, false, false
	}
	window := &s.mu.window
	if s.mu.meter == nil {
		if window.empty() {
			return finding, false, false // most sessions are short: they need none
		}
		s.mu.meter = &hopMeter{}
	}
	meter := s.mu.meter
	if window.empty() || late {
		meter.interrupt()
		return finding, false, false
	}
	if meter.next(); meter.full == 0 {
		return finding, false, false
	}
	oldest := window.packets[0]
	if oldest.Flags&(wire.FlagSync|wire.FlagSeal) != 0 { // a disk may have to write everything since the last sync
		patience := float64(oldest.End()-window.synced) / float64(s.pipelines.SlowBytesPerSecond)
		excused = now.Sub(oldest.sent).Seconds() < patience
	}
	return meter.find(len(s.target.hops)), excused, true
}
