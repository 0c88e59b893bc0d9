package machine

import (
	"encoding/binary"
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/bufpool"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/invariants"
)

// Node is what all machines of a server share. Safe for concurrent use.
type Node struct {
	ID       string
	Limits   Limits
	Buffers  *bufpool.Pool
	Budget   *budget
	counters *Counters
	links    links
}

// NewNode returns what the machines of one server share.
func NewNode(id string, limits Limits, counters *Counters) *Node {
	return &Node{ID: id, Limits: limits, Buffers: bufpool.New(), Budget: newBudget(&limits), counters: counters}
}

// phase is what a connection is doing.
type phase uint8

const (
	phaseIdle      phase = iota // waiting for a request
	phaseWriting                // a write session: see session.state
	phaseReading                // a running read owns the write side
	phaseQuerying               // a stat, recovery or copy is being answered
	phaseRecording              // a record session
	phaseLingering              // refused: the peer's bytes are dropped until it goes
	phaseDead                   // closed; only late disk results arrive
)

func (p phase) String() string {
	return [...]string{"idle", "writing", "reading", "querying", "recording", "lingering", "dead"}[p]
}

// Machine is the protocol of one connection. Bytes go in by Receive, results by the On… methods, time by Tick;
// what is to be done comes out of TakeEffects. It is owned by one event loop.
//
// Every byte is taken at once: a packet is put together in its one pooled buffer while it arrives.
type Machine struct {
	node    *Node
	encoder *wire.Encoder
	now     time.Duration // of the present call, since the server's start

	phase   phase
	session *WriteSession  // phaseWriting
	records *RecordSession // phaseRecording
	pending []*Packet      // whole requests that wait for phaseIdle
	reason  Reason         // why the connection was refused

	// The packet being received: head fills first, then current's buffer.
	head     [wire.HeaderBytes]byte
	headFill int
	headSeen time.Duration // when the first byte in head came
	current  *Packet
	fill     int // bytes in current's buffer

	LastReceived time.Duration
	lastReply    time.Duration
	lastTick     time.Duration
	alive        bool   // the request that is served has FlagAlive
	progress     uint64 // of the copy that is served: see wire.Alive
	lingerUntil  time.Duration
	lingered     int // bytes dropped

	effects, spare []Effect
	out            []byte // memory behind the replies of one round
	free           []*Packet
	ack            wire.Ack       // reused
	recordAck      wire.RecordAck // reused
	BindPacket     func(*Packet)  // gives a new packet its carrier; nil: none
}

// New returns the machine of a new connection.
func New(n *Node, now time.Duration) *Machine {
	return &Machine{node: n, encoder: wire.NewEncoder(), now: now, LastReceived: now}
}

// TakeEffects returns the effects so far, valid until the call after the next one, and false when there are none.
func (m *Machine) TakeEffects() ([]Effect, bool) {
	if len(m.effects) == 0 {
		return nil, false
	}
	taken := m.effects
	clear(m.spare)
	m.effects, m.spare = m.spare[:0], taken
	return taken, true
}

func (m *Machine) emit(e Effect) { m.effects = append(m.effects, e) }

// reply queues one packet for the peer. It leaves in one write with the reply before it, if nothing is to be done
// between them and both are short: what waits for a peer that does not read is looked at after each write.
func (m *Machine) reply(h wire.Header, body any) {
	m.lastReply = m.now
	start := len(m.out)
	out, err := m.encoder.AppendPacket(m.out, h, body)
	invariants.Assert(err == nil, "encode a reply: %v", err)
	m.out = out
	if n := len(m.effects); n > 0 && m.effects[n-1].Kind == EffectReply {
		if first := start - len(m.effects[n-1].Reply); len(out)-first <= joinedBytesMax {
			m.effects[n-1].Reply = out[first:]
			return
		}
	}
	m.emit(Effect{Kind: EffectReply, Reply: out[start:]})
}

// RepliesWritten lets the memory of replies be used again: the adapter has written or copied all that it has taken.
// An idle machine gives back what it held for a session with many packets under way.
func (m *Machine) RepliesWritten() {
	if len(m.effects) > 0 { // there may be replies among them, made meanwhile
		return
	}
	if cap(m.out) > replyBytesKept {
		m.out = nil
	}
	m.out = m.out[:0]
	if m.phase != phaseIdle {
		return
	}
	if len(m.free) > packetsKept {
		m.free = append([]*Packet(nil), m.free[:packetsKept]...)
	}
	if cap(m.effects) > effectsKept {
		m.effects = nil
	}
	if cap(m.spare) > effectsKept { // they were carried out
		m.spare = nil
	}
}

// Receive takes bytes from the peer, all of them, and keeps none of p.
func (m *Machine) Receive(data []byte, now time.Duration) {
	m.now, m.LastReceived = now, now
	for len(data) > 0 {
		switch {
		case m.phase == phaseDead:
			return
		case m.phase == phaseLingering:
			m.lingered += len(data)
			if m.lingered > lingerBytesMax {
				m.emit(Effect{Kind: EffectClose})
			}
			return
		case m.current == nil:
			if m.headFill == 0 {
				m.headSeen = now
			}
			n := copy(m.head[m.headFill:], data)
			m.headFill += n
			data = data[n:]
			if m.headFill >= 4 && binary.LittleEndian.Uint32(m.head[:]) != wire.Magic {
				m.Refuse(reasonGarbage, fault.New(fault.Protocol, "data server",
					"the peer does not speak the data protocol"))
				continue
			}
			if m.headFill == wire.HeaderBytes {
				m.beginPacket()
			}
		default:
			n := copy(m.current.Buffer.Bytes()[m.fill:], data)
			m.fill += n
			data = data[n:]
		}
		if m.current != nil && m.fill == len(m.current.Buffer.Bytes()) {
			m.finishPacket()
		}
	}
}

// Space is the memory that the next bytes of the packet being received go to, for an adapter that puts them there
// itself and then calls Filled; empty when a header is due.
func (m *Machine) Space() []byte {
	if m.current == nil {
		return nil
	}
	return m.current.Buffer.Bytes()[m.fill:]
}

// Filled tells that the first n bytes of Space have come, 1 or more.
func (m *Machine) Filled(n int, now time.Duration) {
	m.now, m.LastReceived = now, now
	m.fill += n
	if m.fill == len(m.current.Buffer.Bytes()) {
		m.finishPacket()
	}
}

// beginPacket looks at a whole header before anything is allocated for it.
func (m *Machine) beginPacket() {
	header, err := wire.ParseHeader(m.head[:])
	if err != nil {
		m.Refuse(headerReason(m.head[:], err), err)
		return
	}
	var cost int64
	switch header.Op {
	case wire.OpData:
		if cost = m.acceptData(header); cost < 0 {
			return
		}
	case wire.OpRecord:
		if !m.acceptRecord(header) {
			return
		}
	default:
		if !m.acceptRequest(header) {
			return
		}
	}
	p := m.newPacket()
	p.Header, p.cost, p.firstSeen = header, cost, m.headSeen
	p.Buffer = m.node.Buffers.Get(wire.HeaderBytes + int(header.Length))
	m.fill = copy(p.Buffer.Bytes(), m.head[:])
	m.headFill, m.current = 0, p
}

// headerReason tells the refusals of ParseHeader apart for the counters.
func headerReason(head []byte, err error) Reason {
	switch {
	case fault.KindOf(err) == fault.Version:
		return reasonVersion
	case binary.LittleEndian.Uint32(head[16:]) > wire.BodyBytesMax:
		return reasonOversized
	}
	return reasonProtocol
}

// acceptRequest checks the header of a packet that is not Data.
func (m *Machine) acceptRequest(h wire.Header) bool {
	refuse := func(r Reason, format string, args ...any) bool {
		m.Refuse(r, fault.New(fault.Protocol, "data server", format, args...))
		return false
	}
	operation, known := requests[h.Op]
	switch {
	case !known:
		return refuse(reasonProtocol, "op %d is not a request", h.Op)
	case int(h.Length) > m.node.Limits.RequestBytesMax:
		return refuse(reasonOversized, "%s of %d bytes, limit %d", operation.name, h.Length,
			m.node.Limits.RequestBytesMax)
	case m.phase == phaseWriting && !m.session.ending:
		return refuse(reasonProtocol, "%s inside a write session", operation.name)
	case m.phase == phaseRecording:
		return refuse(reasonProtocol, "%s inside a record session", operation.name)
	case m.phase != phaseIdle && len(m.pending) >= m.node.Limits.PendingRequestsMax:
		return refuse(reasonProtocol, "more than %d requests wait", m.node.Limits.PendingRequestsMax)
	}
	return true
}

// finishPacket verifies the packet that just became whole and acts on it.
func (m *Machine) finishPacket() {
	packet := m.current
	m.current, m.fill = nil, 0
	if err := wire.Verify(packet.Buffer.Bytes()); err != nil {
		m.recycle(packet)
		m.Refuse(reasonCorrupt, err)
		return
	}
	packet.dispatched = m.now
	switch {
	case packet.Header.Op == wire.OpData:
		m.dispatchData(packet)
	case packet.Header.Op == wire.OpRecord:
		m.dispatchRecord(packet)
	case m.phase == phaseIdle:
		m.serve(packet)
	case m.node.Budget.reserve(packet.bufferBytes()):
		m.pending = append(m.pending, packet)
	default:
		m.recycle(packet)
		m.Refuse(reasonBusy, fault.New(fault.Busy, "data server", "no memory for a waiting request"))
	}
}

// servePending goes on with the next waiting request.
func (m *Machine) servePending() {
	for m.phase == phaseIdle && len(m.pending) > 0 {
		p := m.pending[0]
		m.pending = m.pending[:copy(m.pending, m.pending[1:])]
		m.node.Budget.shrink(p.bufferBytes())
		m.serve(p)
	}
}

// Refuse ends the conversation: the peer gets the reason, if the write side is free, and what it still sends is
// dropped until it goes or the linger time is over.
func (m *Machine) Refuse(r Reason, err error) {
	if m.phase == phaseLingering || m.phase == phaseDead {
		return
	}
	m.countRefusal(r)
	switch m.phase {
	case phaseWriting:
		m.failSession(0, err)
		return
	case phaseRecording:
		m.failRecords(err)
		return
	case phaseReading: // the reply that a read is writing cannot be interrupted in good order
		m.emit(Effect{Kind: EffectCancelRead})
		m.close()
		return
	}
	status := wire.StatusOf(m.node.ID, "", err)
	m.reply(wire.Header{Op: wire.OpError}, &status)
	m.linger()
}

// linger stops the conversation after what has been replied so far.
func (m *Machine) linger() {
	m.dropReceived()
	m.phase = phaseLingering
	m.lingerUntil = m.now + m.node.Limits.LingerTimeout
	m.emit(Effect{Kind: EffectLinger})
}

func (m *Machine) countRefusal(r Reason) {
	if m.reason == reasonNone {
		m.reason = r
		m.node.counters.Refuse(r)
	}
}

// dropReceived gives back what has been received and will not be acted on.
func (m *Machine) dropReceived() {
	if m.current != nil {
		m.recycle(m.current)
		m.current = nil
	}
	m.headFill, m.fill = 0, 0
	for _, p := range m.pending {
		m.node.Budget.shrink(p.bufferBytes())
		m.recycle(p)
	}
	clear(m.pending)
	m.pending = m.pending[:0]
}

// OnDisconnected ends the machine: the connection is gone. Replicas of a write
// session stay open, for pipeline or lease recovery.
func (m *Machine) OnDisconnected(now time.Duration) {
	m.now = now
	if m.phase == phaseDead {
		return
	}
	if m.current != nil || m.headFill > 0 {
		m.countRefusal(reasonTruncated)
	}
	m.abort()
	m.dropReceived()
	m.phase = phaseDead
}

// abort leaves the session or read that runs where it is.
func (m *Machine) abort() {
	switch m.phase {
	case phaseWriting:
		m.abortSession()
	case phaseRecording:
		m.abortRecords()
	case phaseReading:
		m.emit(Effect{Kind: EffectCancelRead})
	}
}

// Tick looks at every timeout that may be due.
func (m *Machine) Tick(now time.Duration) {
	m.now = now
	late := now-m.lastTick > tickLateMost
	m.lastTick = now
	limits := &m.node.Limits
	switch {
	case m.phase == phaseDead:
	case m.phase == phaseLingering:
		if now >= m.lingerUntil {
			m.emit(Effect{Kind: EffectClose})
		}
	case (m.current != nil || m.headFill > 0) && now-m.LastReceived > limits.ReceiveTimeout:
		m.Refuse(reasonStalled, fault.New(fault.Unavailable, "data server", "half a packet, and nothing more for %s",
			limits.ReceiveTimeout))
	case m.phase == phaseWriting:
		m.tickSession(late)
	case m.phase == phaseRecording:
		m.tickRecords()
	case m.phase == phaseIdle && now-m.LastReceived > limits.IdleTimeout:
		m.countRefusal(reasonIdle)
		m.phase = phaseLingering
		m.emit(Effect{Kind: EffectClose})
	}
	m.maybeSayAlive()
}

// maybeSayAlive tells a peer that asked for it that what it waits for is worked on.
func (m *Machine) maybeSayAlive() {
	if m.alive && m.now-m.lastReply >= wire.AliveEvery && m.owes() {
		alive := wire.Alive{BodyVersion: wire.BodyVersion, Progress: m.progress}
		if m.phase == phaseWriting && m.session.agreed == 0 {
			alive.Opening = m.session.downOpening
			if !m.session.opened {
				alive.Opening = append([]string{m.node.ID}, alive.Opening...)
			}
		}
		m.reply(wire.Header{Op: wire.OpAlive}, &alive)
	}
}

// owes tells whether the peer waits for something. Half a packet counts: on a slow link it takes long to come, and the
// peer waits for its ack since it began to send.
func (m *Machine) owes() bool {
	receiving := m.current != nil || m.headFill > 0
	switch m.phase {
	case phaseQuerying:
		return true
	case phaseWriting:
		s := m.session
		return receiving || s.agreed == 0 || s.openAckHeld || s.inflight.Len() > 0
	case phaseRecording:
		s := m.records
		return receiving || !s.opened || s.assembling != nil || len(s.inflight) > 0
	}
	return false
}

// newPacket returns a packet struct, used or new, with no buffer.
func (m *Machine) newPacket() *Packet {
	if n := len(m.free); n > 0 {
		p := m.free[n-1]
		m.free = m.free[:n-1]
		return p
	}
	p := &Packet{}
	if m.BindPacket != nil {
		m.BindPacket(p)
	}
	return p
}

// recycle takes a packet back, and its buffer if it still has it.
func (m *Machine) recycle(p *Packet) {
	if p.Buffer != nil {
		p.Buffer.Release()
	}
	p.Buffer = nil
	p.Header, p.cost, p.stored = wire.Header{}, 0, false
	m.free = append(m.free, p)
}

// bufferBytes is the memory that the packet occupies.
func (p *Packet) bufferBytes() int64 { return wire.WindowCost(int(p.Header.Length)) }
