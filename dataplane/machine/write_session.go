package machine

import (
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/queue"
)

// WriteSession is one write session: a replica being written on this node, and
// perhaps a neighbour that gets the same bytes.
//
//	opening ──own open ok, downstream ok──▶ streaming ──seal or close──▶ ending ──acked──▶ over
//	   └───────────────── any failure, the peer goes ──────────────────────────────────────▶ over
type WriteSession struct {
	Chunk         chunk.ID
	Open          wire.OpenWrite
	hopsAfter     int
	began         time.Duration
	Window        int64  // granted by the budget, held until the last disk job has ended
	agreed        int64  // smallest window of all hops, as acked upstream; 0 before OpenAck
	inflightCost  int64  // costs of the packets in inflight
	next          int64  // offset of the next byte; received bytes end here
	seqno         uint64 // of the last packet received
	ending        bool   // the packet with FlagSeal or FlagClose has been received
	over          bool   // ended or aborted
	opened        bool   // own replica
	DownOpened    bool   // downstream; true from the start without one
	openAckHeld   bool   // the OpenAck is due since openedAt, and waits for the last packet's ack
	openedAt      time.Duration
	ackedSeqno    uint64 // ackedSeqno <= min(storedSeqno, downSeqno) <= seqno
	ackedLength   int64
	storedSeqno   uint64
	downSeqno     uint64
	jobs          int                 // packets given to the disk whose result has not come
	inflight      queue.FIFO[*Packet] // received, not acked, in order
	downstream    []wire.HopStatus    // last heard, with the largest times since the last ack
	lastStored    time.Duration
	lastDownAck   time.Duration
	lastDownHeard time.Duration // an ack or a report
	downAlive     time.Duration // downstream said anything, or began to owe something
	downOpening   []string      // downstream: nodes that have not opened yet, as heard last
	lastAckSent   time.Duration // to upstream, likewise
	lastAppended  time.Duration
}

// serveOpenWrite begins a session: own open and downstream's go on at once.
func (m *Machine) serveOpenWrite(payload []byte) error {
	session := &WriteSession{began: m.now}
	if err := wire.DecodeBody(payload, &session.Open); err != nil {
		return err
	}
	refused := func(r Reason, err error) {
		m.countRefusal(r)
		m.reply(wire.Header{Op: wire.OpOpenAck}, &wire.OpenAck{BodyVersion: wire.BodyVersion,
			Hops: []wire.HopStatus{m.ownStatus(err)}})
		m.linger()
	}
	if err := session.Open.Validate(); err != nil {
		refused(reasonProtocol, err)
		return nil
	}
	window, ok := m.node.Budget.grant(windowWish(&session.Open))
	if !ok {
		refused(reasonBusy, fault.New(fault.Busy, "open write",
			"all %d bytes of windows or %d write sessions of this datanode are taken",
			m.node.Limits.WindowBudgetBytes, m.node.Limits.SessionsMax))
		return nil
	}
	m.node.counters.WritesStarted.Add(1)
	session.Chunk, _ = chunk.IDFrom(session.Open.ChunkID)
	session.Window, session.next, session.ackedLength = window, session.Open.Offset, session.Open.Offset
	session.hopsAfter = len(session.Open.Downstream)
	session.DownOpened = session.hopsAfter == 0
	session.lastStored, session.lastDownAck, session.lastAppended = m.now, m.now, m.now
	session.downAlive = m.now
	m.session, m.phase = session, phaseWriting
	m.emit(Effect{Kind: EffectOpen, Session: session})
	if session.hopsAfter > 0 {
		m.emit(Effect{Kind: EffectDial, Session: session})
	}
	return nil
}

// acceptData checks the header of a Data packet and returns its cost; -1 when it was refused.
func (m *Machine) acceptData(header wire.Header) int64 {
	refuse := func(r Reason, format string, args ...any) int64 {
		m.Refuse(r, fault.New(fault.Protocol, "write", format, args...))
		return -1
	}
	const flags = wire.FlagSync | wire.FlagSeal | wire.FlagClose
	session := m.session
	if m.phase != phaseWriting || session.ending {
		return refuse(reasonProtocol, "data outside a write session")
	}
	cost := wire.WindowCost(int(header.Length))
	switch {
	case header.Seqno != session.seqno+1:
		return refuse(reasonProtocol, "packet %d after packet %d", header.Seqno, session.seqno)
	case header.Offset != session.next:
		return refuse(reasonProtocol, "packet %d at offset %d, want %d", header.Seqno, header.Offset, session.next)
	case header.Offset+int64(header.Length) > session.Open.ChunkSize:
		return refuse(reasonProtocol, "packet %d ends at %d, the chunk at %d", header.Seqno,
			header.Offset+int64(header.Length), session.Open.ChunkSize)
	case header.Flags&^flags != 0:
		return refuse(reasonProtocol, "packet %d has unknown flags %x", header.Seqno, header.Flags)
	case header.Flags&wire.FlagSeal != 0 && header.Flags&wire.FlagClose != 0:
		return refuse(reasonProtocol, "packet %d seals and closes", header.Seqno)
	case session.agreed == 0 && (session.seqno > 0 || cost > wire.EarlyBytesMax):
		return refuse(reasonWindow, "packet %d of %d bytes before the window was granted; one of at most %d is allowed",
			header.Seqno, header.Length, wire.EarlyBytesMax)
	case session.agreed > 0 && session.inflightCost+cost > session.agreed:
		return refuse(reasonWindow, "packet %d exceeds the window: %d bytes of it are taken, %d wanted, %d granted",
			header.Seqno, session.inflightCost, cost, session.agreed)
	}
	return cost
}

// dispatchData passes a verified packet on to disk and downstream.
func (m *Machine) dispatchData(packet *Packet) {
	session := m.session
	// The clocks of progress, here and downstream, start with the first packet that waits there.
	if session.storedSeqno == session.seqno {
		session.lastStored = m.now
	}
	if session.downSeqno == session.seqno {
		session.lastDownAck = m.now
		if session.DownOpened {
			session.downAlive = m.now
		}
	}
	session.seqno, session.next = packet.Header.Seqno, packet.Header.Offset+int64(packet.Header.Length)
	session.inflightCost += packet.cost
	session.ending = packet.Header.Flags&(wire.FlagSeal|wire.FlagClose) != 0
	session.inflight.Push(packet)
	session.jobs++
	m.node.counters.BytesReceived.Add(uint64(packet.Header.Length))
	if session.hopsAfter > 0 {
		packet.Buffer.Retain()
		m.emit(Effect{Kind: EffectForward, Session: session, Buffer: packet.Buffer})
	}
	m.emit(Effect{Kind: EffectAppend, Session: session, Packet: packet})
}

// OnOpened tells that the own replica is open, or why not.
func (m *Machine) OnOpened(session *WriteSession, err error, now time.Duration) {
	m.now = now
	if session.over {
		return
	}
	if err != nil {
		m.countRefusal(ReasonPipeline)
		m.failSession(0, err)
		return
	}
	session.opened = true
	session.lastStored = now
	m.maybeReplyOpenAck(session.Window)
}

// OnDownOpened brings the downstream neighbour's OpenAck.
func (m *Machine) OnDownOpened(session *WriteSession, ack wire.OpenAck, now time.Duration) {
	m.now = now
	if session.over || session.DownOpened {
		return
	}
	ack.Hops = session.clipStatuses(ack.Hops)
	session.downstream = append(session.downstream[:0], ack.Hops...)
	if bad := wire.FirstBad(ack.Hops); bad >= 0 || len(ack.Hops) != session.hopsAfter || ack.WindowBytes < WindowMin {
		m.countRefusal(ReasonPipeline)
		if bad < 0 {
			m.failSession(1, fault.New(fault.Protocol, "open write",
				"its open ack has %d hops and a window of %d bytes", len(ack.Hops), ack.WindowBytes))
			return
		}
		m.failSession(-1, nil)
		return
	}
	session.DownOpened, session.downOpening = true, nil
	session.lastDownAck, session.downAlive = now, now
	m.maybeReplyOpenAck(ack.WindowBytes)
}

// maybeReplyOpenAck answers upstream when all hops are open. When the session's last packet is here already, nobody
// waits for the window: the answer leaves together with that packet's ack, which saves every hop a write and two
// wake-ups. It does not wait for longer than openAckHoldMax.
//
// Warning: a peer that waits for the OpenAck before it sends the rest would wait for ever, so it is held only if the
// last packet (FlagSeal or FlagClose) has come. A failure meanwhile is one of the open (failSession). The scenarios
// the_open_ack_does_not_wait_when_more_packets_follow and the_open_ack_does_not_wait_for_a_slow_disk see a violation.
func (m *Machine) maybeReplyOpenAck(window int64) {
	s := m.session
	if unused := s.Window - window; unused > 0 { // a narrower hop follows: keep only what can be used
		m.node.Budget.shrink(unused)
		s.Window = window
	}
	if !s.opened || !s.DownOpened {
		return
	}
	s.agreed, s.openedAt = s.Window, m.now
	if s.openAckHeld = s.ending && s.ackedSeqno < s.seqno; !s.openAckHeld {
		m.replyOpenAck(s)
	}
}

func (m *Machine) replyOpenAck(s *WriteSession) {
	s.openAckHeld = false
	hops := append(m.ack.Hops[:0], m.ownStatus(nil))
	hops = append(hops, s.downstream...)
	m.ack.Hops = hops
	m.reply(wire.Header{Op: wire.OpOpenAck}, &wire.OpenAck{BodyVersion: wire.BodyVersion, WindowBytes: s.agreed,
		Hops: hops})
}

// OnStored tells that the disk is done with a packet. It is called once for
// every EffectAppend, also after the session is over.
func (m *Machine) OnStored(session *WriteSession, packet *Packet, err error, now time.Duration) {
	m.now = now
	session.jobs--
	packet.Buffer = nil // the adapter released it when the write ended
	if session.over {
		m.maybeReleaseWindow(session)
		return
	}
	if err != nil {
		m.countRefusal(ReasonPipeline)
		m.failSession(0, err)
		return
	}
	packet.stored, packet.storedAt = true, now
	session.storedSeqno, session.lastStored = packet.Header.Seqno, now
}

// OnDownAck brings an ack from downstream; ack.Hops is used during the call only.
func (m *Machine) OnDownAck(session *WriteSession, ack wire.Ack, now time.Duration) {
	m.now = now
	if session.over {
		return
	}
	ack.Hops = session.clipStatuses(ack.Hops)
	switch {
	case wire.FirstBad(ack.Hops) >= 0:
		session.downSeqno = max(session.downSeqno, min(ack.Seqno, session.seqno))
		session.downstream = append(session.downstream[:0], ack.Hops...)
		m.countRefusal(ReasonPipeline)
		m.failSession(-1, nil)
		return
	case !session.DownOpened || ack.Seqno > session.seqno || ack.Seqno < session.downSeqno ||
		ack.Seqno == session.downSeqno && session.Open.ReportMicros == 0 || len(ack.Hops) != session.hopsAfter:
		m.countRefusal(ReasonPipeline)
		m.failSession(1, fault.New(fault.Protocol, "write",
			"it acked packet %d with %d hops; %d packets were sent, %d acked before",
			ack.Seqno, len(ack.Hops), session.seqno, session.downSeqno))
		return
	}
	if ack.Seqno > session.downSeqno {
		m.noteLink(session, &ack.Hops[0])
	}
	for i := range ack.Hops { // between two acks of ours the slowest counts
		if session.downSeqno > session.ackedSeqno && i < len(session.downstream) {
			ack.Hops[i].Micros = max(ack.Hops[i].Micros, session.downstream[i].Micros)
			ack.Hops[i].TotalMicros = max(ack.Hops[i].TotalMicros, session.downstream[i].TotalMicros)
		}
	}
	session.downstream, session.lastDownHeard = append(session.downstream[:0], ack.Hops...), now
	session.downAlive = now
	if ack.Seqno > session.downSeqno { // else it is a report
		session.downSeqno, session.lastDownAck = ack.Seqno, now
	}
}

// OnDownAlive tells that the neighbour said that it lives.
func (m *Machine) OnDownAlive(s *WriteSession, alive wire.Alive, now time.Duration) {
	m.now = now
	s.downAlive = now
	s.downOpening = alive.Opening[:min(len(alive.Opening), s.hopsAfter)]
	for i, id := range s.downOpening {
		s.downOpening[i] = id[:min(len(id), hopNodeBytesMax)]
	}
}

// OnDownFailed tells that the neighbour cannot be reached or broke off.
func (m *Machine) OnDownFailed(s *WriteSession, err error, now time.Duration) {
	m.now = now
	if s.over {
		return
	}
	m.countRefusal(ReasonPipeline)
	m.failSession(1, err)
}

// Flush acks what has become ackable since the last call: one cumulative ack.
// The adapter calls it after each batch of events.
func (m *Machine) Flush(now time.Duration) {
	m.now = now
	if m.phase == phaseRecording {
		m.flushRecords()
		return
	}
	session := m.session
	if m.phase != phaseWriting || session.over || session.agreed == 0 {
		return
	}
	slowest, total, advanced := m.advance(session)
	if !advanced {
		return
	}
	own := m.ownStatus(nil)
	own.Micros, own.TotalMicros = micros(slowest), micros(total)
	m.replyAck(session, own)
	if session.ending && session.ackedSeqno == session.seqno {
		m.endSession()
	}
}

// advance takes the ackable packets out of the window. slowest is the longest time that one of them took on the own
// disk, total the longest from its arrival until now.
func (m *Machine) advance(s *WriteSession) (slowest, total time.Duration, advanced bool) {
	target := s.storedSeqno
	if s.hopsAfter > 0 {
		target = min(target, s.downSeqno)
	}
	for s.inflight.Len() > 0 && (*s.inflight.At(0)).Header.Seqno <= target {
		p := s.inflight.Pop()
		slowest, total = max(slowest, p.storedAt-p.firstSeen), max(total, m.now-p.firstSeen)
		s.inflightCost -= p.cost
		s.ackedSeqno, s.ackedLength = p.Header.Seqno, p.Header.Offset+int64(p.Header.Length)
		advanced = true
		m.recycle(p)
	}
	return slowest, total, advanced
}

func (m *Machine) replyAck(s *WriteSession, own wire.HopStatus) {
	if s.openAckHeld {
		m.replyOpenAck(s)
	}
	m.ack.BodyVersion, m.ack.Seqno, m.ack.Length = wire.BodyVersion, s.ackedSeqno, s.ackedLength
	m.ack.Hops = append(append(m.ack.Hops[:0], own), s.downstream...)
	s.lastAckSent = m.now
	m.reply(wire.Header{Op: wire.OpAck, Seqno: s.ackedSeqno}, &m.ack)
}

// endSession: everything is acked, the connection is idle again.
func (m *Machine) endSession() {
	s := m.session
	if s.hopsAfter > 0 {
		m.emit(Effect{Kind: EffectHangUp, Session: s, Clean: true})
	}
	m.node.counters.WritesEnded.Add(1)
	s.over = true
	m.maybeReleaseWindow(s)
	m.session, m.phase = nil, phaseIdle
	m.servePending()
}

// failSession tells upstream which hop failed (0: this one, 1: its neighbour, -1: as downstream's last statuses
// say) after acking what can be acked, and ends the session and the connection.
func (m *Machine) failSession(hop int, err error) {
	session := m.session
	m.advance(session)
	own := m.ownStatus(nil)
	switch hop {
	case 0:
		own = m.ownStatus(err)
		for i := range session.downstream {
			session.downstream[i].Micros, session.downstream[i].TotalMicros = 0, 0
		}
	case 1:
		failed := hopStatus(session.Open.Downstream[0].NodeID, err)
		rest := session.downstream
		session.downstream = append([]wire.HopStatus{failed}, rest[min(1, len(rest)):]...)
	}
	if session.agreed == 0 ||
		session.openAckHeld { // the failure of a last packet whose OpenAck is held is one of the open
		session.openAckHeld = false
		hops := append([]wire.HopStatus{own}, session.downstream...)
		m.reply(wire.Header{Op: wire.OpOpenAck}, &wire.OpenAck{BodyVersion: wire.BodyVersion, Hops: hops})
	} else {
		m.replyAck(session, own)
	}
	m.abortSession()
	m.linger()
}

// abortSession leaves the session where it is: the replica stays open.
func (m *Machine) abortSession() {
	s := m.session
	s.over = true
	m.node.counters.WritesBroken.Add(1)
	if s.hopsAfter > 0 {
		m.emit(Effect{Kind: EffectHangUp, Session: s})
	}
	m.emit(Effect{Kind: EffectReleaseFile, Session: s})
	for s.inflight.Len() > 0 {
		s.inflight.Pop() // disk or downstream still use its buffer and release it
	}
	m.maybeReleaseWindow(s)
	m.session, m.phase = nil, phaseIdle
}

// maybeReleaseWindow gives the window back once the disk holds none of its buffers any more.
func (m *Machine) maybeReleaseWindow(s *WriteSession) {
	if s.over && s.jobs == 0 && s.Window > 0 {
		m.node.Budget.release(s.Window)
		s.Window = 0
	}
}

// tickSession names whoever keeps the session waiting for too long. late: this process was held up.
func (m *Machine) tickSession(late bool) {
	session, limits := m.session, &m.node.Limits
	if late {
		session.downAlive = m.now
	}
	fail := func(hop int, kind fault.Kind, format string, args ...any) {
		m.countRefusal(ReasonPipeline)
		m.failSession(hop, fault.New(kind, "write", format, args...))
	}
	down := limits.stepTimeout(session.hopsAfter)
	switch {
	case !session.opened && m.now-session.began > limits.StepTimeout:
		fail(0, fault.Disk, "the disk did not open the replica within %s", limits.StepTimeout)
	case session.downOwes() && m.now-session.downAlive > limits.SilenceTimeout:
		fail(1, fault.Unavailable, "it has said nothing for %s", limits.SilenceTimeout)
	case !session.DownOpened && m.now-session.began > down:
		fail(1, fault.Unavailable, "no answer to open within %s", down)
	case session.agreed == 0:
	case session.openAckHeld && m.now-session.openedAt >= openAckHoldMax:
		m.replyOpenAck(session)
	case session.storedSeqno < session.seqno && m.now-session.lastStored > limits.StepTimeout:
		fail(0, fault.Disk, "the disk did not finish packet %d within %s", session.storedSeqno+1, limits.StepTimeout)
	case session.downOwes() && m.now-session.lastDownAck > down:
		fail(1, fault.Unavailable, "no ack of packet %d within %s", session.downSeqno+1, down)
	case session.inflight.Len() == 0 && m.now-m.LastReceived > limits.SessionIdleTimeout:
		m.Refuse(reasonIdle, fault.New(fault.Unavailable, "write", "nothing received for %s",
			limits.SessionIdleTimeout))
	default:
		m.maybeReport(session)
	}
}

// downOwes tells whether the next hop has to say something.
func (s *WriteSession) downOwes() bool {
	return s.hopsAfter > 0 && (!s.DownOpened || s.downSeqno < s.seqno)
}

// maybeReport tells upstream where the oldest packet waits, if it asked for that and has heard nothing for a while.
func (m *Machine) maybeReport(session *WriteSession) {
	every := time.Duration(session.Open.ReportMicros) * time.Microsecond
	if every == 0 || session.agreed == 0 || session.openAckHeld || session.inflight.Len() == 0 {
		return
	}
	oldest := *session.inflight.At(0)
	if m.now-max(session.lastAckSent, oldest.firstSeen) < every {
		return
	}
	own := m.ownStatus(nil)
	own.TotalMicros = max(micros(m.now-oldest.firstSeen), 1)
	if own.Micros = own.TotalMicros; oldest.stored {
		own.Micros = micros(oldest.storedAt - oldest.firstSeen)
	}
	silent := m.now-session.lastDownHeard > 2*every
	for i := range session.downstream {
		if h := &session.downstream[i]; silent || h.TotalMicros == 0 {
			h.Micros, h.TotalMicros = 1, 1
		}
	}
	m.replyAck(session, own)
}

func (m *Machine) ownStatus(err error) wire.HopStatus { return hopStatus(m.node.ID, err) }

func hopStatus(nodeID string, err error) wire.HopStatus {
	s := wire.StatusOf(nodeID, "", err)
	return wire.HopStatus{NodeID: nodeID, Code: s.Code, Reason: s.Reason}
}

// clipStatuses cuts what downstream says to what fits our own ack.
func (s *WriteSession) clipStatuses(hops []wire.HopStatus) []wire.HopStatus {
	hops = hops[:min(len(hops), s.hopsAfter)]
	for i := range hops {
		h := &hops[i]
		h.NodeID = h.NodeID[:min(len(h.NodeID), hopNodeBytesMax)]
		h.Reason = h.Reason[:min(len(h.Reason), hopReasonBytesMax)]
	}
	return hops
}

func micros(d time.Duration) uint32 { return uint32(min(max(d.Microseconds(), 0), 1<<32-1)) }
