package dataplane

import (
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/invariants"
	"github.com/whispering-woods/ww/internal/queue"
)

// session is one write session: a replica being written on this node, and
// perhaps a neighbour that gets the same bytes.
//
//	opening ──own open ok, downstream ok──▶ streaming ──seal or close──▶ ending ──acked──▶ over
//	   └───────────────── any failure, the peer goes ──────────────────────────────────────▶ over
type session struct {
	chunk        chunk.ID
	open         wire.OpenWrite
	hopsAfter    int
	began        time.Duration
	window       int64  // granted by the budget, held until the last disk job has ended
	agreed       int64  // smallest window of all hops, told upstream; 0 before OpenAck
	inflightCost int64  // costs of the packets in inflight
	next         int64  // offset of the next byte; received bytes end here
	seqno        uint64 // of the last packet received
	ending       bool   // the packet with FlagSeal or FlagClose has been received
	over         bool   // ended or aborted
	opened       bool   // own replica
	downOpened   bool   // downstream; true from the start without one
	held         bool   // the OpenAck is due since openedAt, and waits for the last packet's ack
	openedAt     time.Duration
	ackedSeqno   uint64 // ackedSeqno <= min(storedSeqno, downSeqno) <= seqno
	ackedLength  int64
	storedSeqno  uint64
	downSeqno    uint64
	jobs         int                 // packets given to the disk whose result has not come
	inflight     queue.FIFO[*packet] // received, not acked, in order
	downstream   []wire.HopStatus    // last heard, with the largest times since the last ack
	lastStored   time.Duration
	lastDownAck  time.Duration
	lastDownSaid time.Duration // an ack or a report
	lastSaid     time.Duration // to upstream, likewise
	lastAppended time.Duration
}

// serveOpenWrite begins a session: own open and downstream's go on at once.
func (m *machine) serveOpenWrite(payload []byte) error {
	s := &session{began: m.now}
	if err := wire.DecodeBody(payload, &s.open); err != nil {
		return err
	}
	refused := func(r reason, err error) {
		m.count(r)
		m.reply(wire.Header{Op: wire.OpOpenAck}, &wire.OpenAck{BodyVersion: wire.BodyVersion, Hops: []wire.HopStatus{m.ownStatus(err)}})
		m.linger()
	}
	if err := s.open.Validate(); err != nil {
		refused(reasonProtocol, err)
		return nil
	}
	window, ok := m.node.budget.grant(windowWish(&s.open))
	if !ok {
		refused(reasonBusy, fault.New(fault.Busy, "open write", "all %d bytes of windows or %d write sessions of this datanode are taken",
			m.node.limits.WindowBudgetBytes, m.node.limits.SessionsMax))
		return nil
	}
	m.node.counters.writesStarted.Add(1)
	s.chunk, _ = chunk.IDFrom(s.open.ChunkID)
	s.window, s.next, s.ackedLength = window, s.open.Offset, s.open.Offset
	s.hopsAfter = len(s.open.Downstream)
	s.downOpened = s.hopsAfter == 0
	s.lastStored, s.lastDownAck, s.lastAppended = m.now, m.now, m.now
	m.session, m.phase = s, phaseWriting
	m.emit(effect{kind: effectOpen, session: s})
	if s.hopsAfter > 0 {
		m.emit(effect{kind: effectDial, session: s})
	}
	return nil
}

// acceptData checks the header of a Data packet and returns its cost; -1 when
// it was refused.
func (m *machine) acceptData(h wire.Header) int64 {
	refuse := func(r reason, format string, args ...any) int64 {
		m.refuse(r, fault.New(fault.Protocol, "write", format, args...))
		return -1
	}
	const flags = wire.FlagSync | wire.FlagSeal | wire.FlagClose
	s := m.session
	if m.phase != phaseWriting || s.ending {
		return refuse(reasonProtocol, "data outside a write session")
	}
	cost := wire.WindowCost(int(h.Length))
	switch {
	case h.Seqno != s.seqno+1:
		return refuse(reasonProtocol, "packet %d after packet %d", h.Seqno, s.seqno)
	case h.Offset != s.next:
		return refuse(reasonProtocol, "packet %d at offset %d, want %d", h.Seqno, h.Offset, s.next)
	case h.Offset+int64(h.Length) > s.open.ChunkSize:
		return refuse(reasonProtocol, "packet %d ends at %d, the chunk at %d", h.Seqno, h.Offset+int64(h.Length), s.open.ChunkSize)
	case h.Flags&^flags != 0:
		return refuse(reasonProtocol, "packet %d has unknown flags %x", h.Seqno, h.Flags)
	case h.Flags&wire.FlagSeal != 0 && h.Flags&wire.FlagClose != 0:
		return refuse(reasonProtocol, "packet %d seals and closes", h.Seqno)
	case s.agreed == 0 && (s.seqno > 0 || cost > wire.EarlyBytesMax):
		return refuse(reasonWindow, "packet %d of %d bytes before the window was granted; one of at most %d is allowed",
			h.Seqno, h.Length, wire.EarlyBytesMax)
	case s.agreed > 0 && s.inflightCost+cost > s.agreed:
		return refuse(reasonWindow, "packet %d exceeds the window: %d bytes of it are taken, %d wanted, %d granted", h.Seqno, s.inflightCost, cost, s.agreed)
	}
	return cost
}

// dispatchData hands a verified packet to disk and downstream.
func (m *machine) dispatchData(p *packet) {
	s := m.session
	s.seqno, s.next = p.header.Seqno, p.header.Offset+int64(p.header.Length)
	s.inflightCost += p.cost
	s.ending = p.header.Flags&(wire.FlagSeal|wire.FlagClose) != 0
	if s.inflight.Len() == 0 { // the clocks of progress start with the first packet that waits
		s.lastStored, s.lastDownAck = m.now, m.now
	}
	s.inflight.Push(p)
	s.jobs++
	m.node.counters.bytesReceived.Add(uint64(p.header.Length))
	if s.hopsAfter > 0 {
		p.buffer.Retain()
		m.emit(effect{kind: effectForward, session: s, buffer: p.buffer})
	}
	m.emit(effect{kind: effectAppend, session: s, packet: p})
}

// onOpened tells that the own replica is open, or why not.
func (m *machine) onOpened(s *session, err error, now time.Duration) {
	m.now = now
	if s.over {
		return
	}
	if err != nil {
		m.count(reasonPipeline)
		m.failSession(0, err)
		return
	}
	s.opened = true
	s.lastStored = now
	m.maybeOpenAck(s.window)
}

// onDownOpened brings the downstream neighbour's OpenAck.
func (m *machine) onDownOpened(s *session, ack wire.OpenAck, now time.Duration) {
	m.now = now
	if s.over || s.downOpened {
		return
	}
	ack.Hops = s.bounded(ack.Hops)
	s.downstream = append(s.downstream[:0], ack.Hops...)
	if bad := wire.FirstBad(ack.Hops); bad >= 0 || len(ack.Hops) != s.hopsAfter || ack.WindowBytes < windowMin {
		m.count(reasonPipeline)
		if bad < 0 {
			m.failSession(1, fault.New(fault.Protocol, "open write", "its open ack has %d hops and a window of %d bytes", len(ack.Hops), ack.WindowBytes))
			return
		}
		m.failSession(-1, nil)
		return
	}
	s.downOpened = true
	s.lastDownAck = now
	m.maybeOpenAck(ack.WindowBytes)
}

// maybeOpenAck answers upstream when all hops are open. When the session's last
// packet is here already, nobody waits for the window: the answer leaves together
// with that packet's ack, which saves every hop a write and two wake-ups. It does
// not wait for longer than openAckHoldMax.
func (m *machine) maybeOpenAck(window int64) {
	s := m.session
	if unused := s.window - window; unused > 0 { // a narrower hop follows: keep only what can be used
		m.node.budget.shrink(unused)
		s.window = window
	}
	if !s.opened || !s.downOpened {
		return
	}
	s.agreed, s.openedAt = s.window, m.now
	if s.held = s.ending && s.ackedSeqno < s.seqno; !s.held {
		m.openAck(s)
	}
}

func (m *machine) openAck(s *session) {
	s.held = false
	hops := append(m.ack.Hops[:0], m.ownStatus(nil))
	hops = append(hops, s.downstream...)
	m.ack.Hops = hops
	m.reply(wire.Header{Op: wire.OpOpenAck}, &wire.OpenAck{BodyVersion: wire.BodyVersion, WindowBytes: s.agreed, Hops: hops})
}

// onStored tells that the disk is done with a packet. It is called once for
// every effectAppend, also after the session is over.
func (m *machine) onStored(s *session, p *packet, err error, now time.Duration) {
	m.now = now
	s.jobs--
	p.buffer = nil // the adapter released it when the write ended
	if s.over {
		m.maybeReleaseWindow(s)
		return
	}
	if err != nil {
		m.count(reasonPipeline)
		m.failSession(0, err)
		return
	}
	p.stored, p.storedAt = true, now
	s.storedSeqno, s.lastStored = p.header.Seqno, now
}

// onDownAck brings an ack from downstream; ack.Hops is used during the call only.
func (m *machine) onDownAck(s *session, ack wire.Ack, now time.Duration) {
	m.now = now
	if s.over {
		return
	}
	ack.Hops = s.bounded(ack.Hops)
	switch {
	case wire.FirstBad(ack.Hops) >= 0:
		s.downSeqno = max(s.downSeqno, min(ack.Seqno, s.seqno))
		s.downstream = append(s.downstream[:0], ack.Hops...)
		m.count(reasonPipeline)
		m.failSession(-1, nil)
		return
	case !s.downOpened || ack.Seqno > s.seqno || ack.Seqno < s.downSeqno || ack.Seqno == s.downSeqno && s.open.ReportMicros == 0 || len(ack.Hops) != s.hopsAfter:
		m.count(reasonPipeline)
		m.failSession(1, fault.New(fault.Protocol, "write", "it acked packet %d with %d hops; %d packets were sent, %d acked before",
			ack.Seqno, len(ack.Hops), s.seqno, s.downSeqno))
		return
	}
	for i := range ack.Hops { // between two acks of ours the slowest counts
		if s.downSeqno > s.ackedSeqno && i < len(s.downstream) {
			ack.Hops[i].Micros = max(ack.Hops[i].Micros, s.downstream[i].Micros)
			ack.Hops[i].TotalMicros = max(ack.Hops[i].TotalMicros, s.downstream[i].TotalMicros)
		}
	}
	s.downstream, s.lastDownSaid = append(s.downstream[:0], ack.Hops...), now
	if ack.Seqno > s.downSeqno { // else it is a report
		s.downSeqno, s.lastDownAck = ack.Seqno, now
	}
}

// onDownFailed tells that the neighbour cannot be reached or broke off.
func (m *machine) onDownFailed(s *session, err error, now time.Duration) {
	m.now = now
	if s.over {
		return
	}
	m.count(reasonPipeline)
	m.failSession(1, err)
}

// flush acks what has become ackable since the last call: one cumulative ack.
// The adapter calls it after each batch of events.
func (m *machine) flush(now time.Duration) {
	m.now = now
	if m.phase == phaseRecording {
		m.flushRecords()
		return
	}
	s := m.session
	if m.phase != phaseWriting || s.over || s.agreed == 0 {
		return
	}
	slowest, total, advanced := m.advance(s)
	if !advanced {
		return
	}
	own := m.ownStatus(nil)
	own.Micros, own.TotalMicros = micros(slowest), micros(total)
	m.sendAck(s, own)
	if s.ending && s.ackedSeqno == s.seqno {
		m.endSession()
	}
}

// advance takes the ackable packets out of the window. slowest is the longest
// time that one of them took on the own disk, total the longest from its arrival
// until now.
func (m *machine) advance(s *session) (slowest, total time.Duration, advanced bool) {
	target := s.storedSeqno
	if s.hopsAfter > 0 {
		target = min(target, s.downSeqno)
	}
	for s.inflight.Len() > 0 && (*s.inflight.At(0)).header.Seqno <= target {
		p := s.inflight.Pop()
		slowest, total = max(slowest, p.storedAt-p.firstSeen), max(total, m.now-p.firstSeen)
		s.inflightCost -= p.cost
		s.ackedSeqno, s.ackedLength = p.header.Seqno, p.header.Offset+int64(p.header.Length)
		advanced = true
		m.recycle(p)
	}
	return slowest, total, advanced
}

func (m *machine) sendAck(s *session, own wire.HopStatus) {
	if s.held {
		m.openAck(s)
	}
	m.ack.BodyVersion, m.ack.Seqno, m.ack.Length = wire.BodyVersion, s.ackedSeqno, s.ackedLength
	m.ack.Hops = append(append(m.ack.Hops[:0], own), s.downstream...)
	s.lastSaid = m.now
	m.reply(wire.Header{Op: wire.OpAck, Seqno: s.ackedSeqno}, &m.ack)
}

// endSession: everything is acked, the connection is idle again.
func (m *machine) endSession() {
	s := m.session
	if s.hopsAfter > 0 {
		m.emit(effect{kind: effectHangUp, session: s, clean: true})
	}
	m.node.counters.writesEnded.Add(1)
	s.over = true
	m.maybeReleaseWindow(s)
	m.session, m.phase = nil, phaseIdle
	m.servePending()
}

// failSession tells upstream which hop failed (0: this one, 1: its neighbour,
// -1: as downstream's last statuses say) after acking what can be acked, and
// ends the session and the connection.
func (m *machine) failSession(hop int, err error) {
	s := m.session
	m.advance(s)
	own := m.ownStatus(nil)
	switch hop {
	case 0:
		own = m.ownStatus(err)
		for i := range s.downstream {
			s.downstream[i].Micros, s.downstream[i].TotalMicros = 0, 0
		}
	case 1:
		failed := hopStatus(s.open.Downstream[0].NodeID, err)
		rest := s.downstream
		s.downstream = append([]wire.HopStatus{failed}, rest[min(1, len(rest)):]...)
	}
	if s.agreed == 0 || s.held { // the failure of a last packet whose OpenAck is held is one of the open
		s.held = false
		hops := append([]wire.HopStatus{own}, s.downstream...)
		m.reply(wire.Header{Op: wire.OpOpenAck}, &wire.OpenAck{BodyVersion: wire.BodyVersion, Hops: hops})
	} else {
		m.sendAck(s, own)
	}
	m.abortSession()
	m.linger()
}

// abortSession leaves the session where it is: the replica stays open.
func (m *machine) abortSession() {
	s := m.session
	s.over = true
	m.node.counters.writesBroken.Add(1)
	if s.hopsAfter > 0 {
		m.emit(effect{kind: effectHangUp, session: s})
	}
	m.emit(effect{kind: effectReleaseFile, session: s})
	for s.inflight.Len() > 0 {
		s.inflight.Pop() // disk or downstream still use its buffer and release it
	}
	m.maybeReleaseWindow(s)
	m.session, m.phase = nil, phaseIdle
}

// maybeReleaseWindow gives the window back once the disk holds none of its
// buffers any more.
func (m *machine) maybeReleaseWindow(s *session) {
	if s.over && s.jobs == 0 && s.window > 0 {
		m.node.budget.release(s.window)
		s.window = 0
	}
}

// tickSession names whoever keeps the session waiting for too long.
func (m *machine) tickSession() {
	s, l := m.session, &m.node.limits
	fail := func(hop int, kind fault.Kind, format string, args ...any) {
		m.count(reasonPipeline)
		m.failSession(hop, fault.New(kind, "write", format, args...))
	}
	down := l.stepTimeout(s.hopsAfter)
	switch {
	case !s.opened && m.now-s.began > l.StepTimeout:
		fail(0, fault.Disk, "the disk did not open the replica within %s", l.StepTimeout)
	case !s.downOpened && m.now-s.began > down:
		fail(1, fault.Unavailable, "no answer to open within %s", down)
	case s.agreed == 0:
	case s.held && m.now-s.openedAt >= openAckHoldMax:
		m.openAck(s)
	case s.storedSeqno < s.seqno && m.now-s.lastStored > l.StepTimeout:
		fail(0, fault.Disk, "the disk did not finish packet %d within %s", s.storedSeqno+1, l.StepTimeout)
	case s.hopsAfter > 0 && s.downSeqno < s.seqno && m.now-s.lastDownAck > down:
		fail(1, fault.Unavailable, "no ack of packet %d within %s", s.downSeqno+1, down)
	case s.inflight.Len() == 0 && m.now-m.lastReceived > l.SessionIdleTimeout:
		m.refuse(reasonIdle, fault.New(fault.Unavailable, "write", "nothing received for %s", l.SessionIdleTimeout))
	default:
		m.maybeReport(s)
	}
}

// maybeReport tells upstream where the oldest packet waits, if it asked for that
// and has heard nothing for a while.
func (m *machine) maybeReport(s *session) {
	every := time.Duration(s.open.ReportMicros) * time.Microsecond
	if every == 0 || s.agreed == 0 || s.held || s.inflight.Len() == 0 {
		return
	}
	oldest := *s.inflight.At(0)
	if m.now-max(s.lastSaid, oldest.firstSeen) < every {
		return
	}
	own := m.ownStatus(nil)
	own.TotalMicros = max(micros(m.now-oldest.firstSeen), 1)
	if own.Micros = own.TotalMicros; oldest.stored {
		own.Micros = micros(oldest.storedAt - oldest.firstSeen)
	}
	silent := m.now-s.lastDownSaid > 2*every
	for i := range s.downstream {
		if h := &s.downstream[i]; silent || h.TotalMicros == 0 {
			h.Micros, h.TotalMicros = 1, 1
		}
	}
	m.sendAck(s, own)
}

func (m *machine) ownStatus(err error) wire.HopStatus { return hopStatus(m.node.id, err) }

func hopStatus(nodeID string, err error) wire.HopStatus {
	s := wire.StatusOf(nodeID, "", err)
	return wire.HopStatus{NodeID: nodeID, Code: s.Code, Reason: s.Reason}
}

// bounded cuts what downstream says to what fits our own ack.
func (s *session) bounded(hops []wire.HopStatus) []wire.HopStatus {
	hops = hops[:min(len(hops), s.hopsAfter)]
	for i := range hops {
		h := &hops[i]
		h.NodeID, h.Reason = h.NodeID[:min(len(h.NodeID), hopNodeBytesMax)], h.Reason[:min(len(h.Reason), hopReasonBytesMax)]
	}
	return hops
}

func micros(d time.Duration) uint32 {
	return uint32(min(max(d.Microseconds(), 0), 1<<32-1))
}

// check panics when the session contradicts itself.
func (s *session) check() {
	target := s.storedSeqno
	if s.hopsAfter > 0 {
		target = min(target, s.downSeqno)
	}
	invariants.Assert(s.ackedSeqno <= target && target <= s.seqno, "acked %d, stored %d, downstream %d, received %d",
		s.ackedSeqno, s.storedSeqno, s.downSeqno, s.seqno)
	invariants.Assert(s.agreed <= s.window, "agreed window %d of %d", s.agreed, s.window)
	var cost int64
	for i := range s.inflight.Len() {
		cost += (*s.inflight.At(i)).cost
	}
	invariants.Assert(cost == s.inflightCost, "in flight %d, counted %d", cost, s.inflightCost)
	invariants.Assert(s.agreed == 0 || cost <= s.agreed, "in flight %d, granted %d", cost, s.agreed)
	invariants.Assert(s.jobs >= 0 && s.jobs <= s.inflight.Len(), "%d disk jobs for %d packets", s.jobs, s.inflight.Len())
}
