package machine

import (
	"errors"
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/bufpool"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/invariants"
	"github.com/whispering-woods/ww/internal/record"
)

// RecordSession is one record session: a client's records on their way to the
// sink.
//
//	opening ──sink has the file──▶ appending ──a record fails, the peer goes──▶ over
type RecordSession struct {
	Open       wire.OpenRecords
	began      time.Duration
	window     int64 // granted by the budget, held until the sink is done with every record
	loan       int64 // taken from the budget for one record that is larger than the window
	cost       int64 // of the records begun and not acked: at most window+loan
	opened     bool
	over       bool
	acked      uint64      // sequence; 0 before the first record
	next       uint64      // sequence wanted; 0: the first one may be any
	assembling *RecordTask // its pieces are coming
	inflight   []*RecordTask
	pending    int // records that the sink has
	lastAck    time.Duration
}

// RecordTask is one record.
type RecordTask struct {
	session  *RecordSession
	Sequence uint64
	Flags    wire.Flags
	Size     int   // payload bytes
	rest     int64 // payload bytes still to come
	cost     int64
	Pieces   []*bufpool.Buffer // whole packets; released when the sink is done

	finished bool // the sink's answer has come
	Offset   int64
	Err      error
}

// serveOpenRecords begins a session.
func (m *Machine) serveOpenRecords(payload []byte) error {
	s := &RecordSession{began: m.now}
	if err := wire.DecodeBody(payload, &s.Open); err != nil {
		return err
	}
	refused := func(r Reason, err error) {
		m.countRefusal(r)
		m.replyRecordsOpened(err)
		m.linger()
	}
	if err := s.Open.Validate(); err != nil {
		refused(reasonProtocol, err)
		return nil
	}
	wish := m.node.Limits.RecordWindowBytes
	if s.Open.WindowBytes > 0 {
		wish = min(wish, s.Open.WindowBytes)
	}
	window, ok := m.node.Budget.grant(wish)
	if !ok {
		refused(reasonBusy, fault.New(fault.Busy, "open records", "all %d bytes of windows or %d sessions of this datanode are taken",
			m.node.Limits.WindowBudgetBytes, m.node.Limits.SessionsMax))
		return nil
	}
	s.window = window
	m.records, m.phase = s, phaseRecording
	m.emit(Effect{Kind: EffectOpenRecords, Records: s})
	return nil
}

// redirectOf is where an error of the sink sends the client.
func redirectOf(err error) wire.Hop {
	var redirect interface{ Redirect() wire.Hop }
	if errors.As(err, &redirect) {
		return redirect.Redirect()
	}
	return wire.Hop{}
}

func (m *Machine) replyRecordsOpened(err error) {
	body := wire.RecordsOpened{BodyVersion: wire.BodyVersion, Status: wire.StatusOf(m.node.ID, "", err), Redirect: redirectOf(err)}
	if err == nil {
		body.WindowBytes = m.records.window
	}
	m.reply(wire.Header{Op: wire.OpRecordsOpened}, &body)
}

// OnRecordsOpened tells that the sink took the session, or why not.
func (m *Machine) OnRecordsOpened(s *RecordSession, err error, now time.Duration) {
	m.now = now
	if s.over {
		return
	}
	if err != nil {
		m.countRefusal(reasonRecords)
		m.failRecords(err)
		return
	}
	s.opened = true
	m.LastReceived = now // the idle time begins
	m.replyRecordsOpened(nil)
}

// acceptRecord checks the header of a piece of a record, and takes room for the
// whole record with the first one.
func (m *Machine) acceptRecord(h wire.Header) bool {
	refuse := func(r Reason, kind fault.Kind, format string, args ...any) bool {
		m.Refuse(r, fault.New(kind, "append record", format, args...))
		return false
	}
	s := m.records
	if m.phase != phaseRecording || !s.opened {
		return refuse(reasonProtocol, fault.Protocol, "a record outside a record session")
	}
	total := int64(h.Length) + h.Offset
	switch {
	case h.Flags&^wire.FlagSync != 0:
		return refuse(reasonProtocol, fault.Protocol, "record %d has unknown flags %x", h.Seqno, h.Flags)
	case total > record.PayloadBytesMax:
		return refuse(reasonOversized, fault.Invalid, "record %d of at least %d bytes, the limit is %d", h.Seqno, total, record.PayloadBytesMax)
	case h.Offset > 0 && h.Length != wire.RecordPieceBytes:
		return refuse(reasonProtocol, fault.Protocol, "a piece of record %d has %d bytes, want %d", h.Seqno, h.Length, wire.RecordPieceBytes)
	}
	if t := s.assembling; t != nil {
		if h.Seqno != t.Sequence || h.Flags != t.Flags || total != t.rest || h.Length == 0 {
			return refuse(reasonProtocol, fault.Protocol, "record %d with %d bytes to come, inside record %d with %d to come", h.Seqno, total, t.Sequence, t.rest)
		}
		return true
	}
	if h.Seqno == 0 || (s.next != 0 && h.Seqno != s.next) {
		return refuse(reasonProtocol, fault.Protocol, "record %d, want %d", h.Seqno, s.next)
	}
	cost := wire.RecordCost(int(total))
	if over := s.cost + cost - s.window; over > 0 {
		if s.cost > 0 {
			return refuse(reasonWindow, fault.Protocol, "record %d exceeds the window: %d bytes of it are taken, %d wanted, %d granted", h.Seqno, s.cost, cost, s.window)
		}
		if !m.node.Budget.lend(over) {
			return refuse(reasonBusy, fault.Busy, "no memory for record %d of %d bytes now", h.Seqno, total)
		}
		s.loan = over
	}
	if s.next == 0 {
		s.acked = h.Seqno - 1
	}
	s.cost += cost
	s.next = h.Seqno + 1
	s.assembling = &RecordTask{session: s, Sequence: h.Seqno, Flags: h.Flags, Size: int(total), rest: total, cost: cost}
	return true
}

// dispatchRecord takes a verified piece, and hands the record over when it is
// whole.
func (m *Machine) dispatchRecord(p *Packet) {
	s := m.records
	t := s.assembling
	t.Pieces = append(t.Pieces, p.Buffer)
	t.rest -= int64(p.Header.Length)
	p.Buffer = nil
	m.recycle(p)
	if t.rest > 0 {
		return
	}
	s.assembling = nil
	s.inflight = append(s.inflight, t)
	s.pending++
	m.node.counters.Records.Add(1)
	m.emit(Effect{Kind: EffectRecord, Records: s, Record: t})
}

// OnRecordDone brings the sink's answer. It is called once for every
// effectRecord, also after the session is over.
func (m *Machine) OnRecordDone(t *RecordTask, now time.Duration) {
	m.now = now
	s := t.session
	s.pending--
	t.finished = true
	if s.over {
		m.maybeReleaseRecords(s)
	}
}

// flushRecords acks what has become ackable: the finished records at the front.
func (m *Machine) flushRecords() {
	s := m.records
	for !s.over {
		count := 0
		offsets := m.recordAck.Offsets[:0]
		for count < len(s.inflight) && count < wire.RecordOffsetsMax && s.inflight[count].finished && s.inflight[count].Err == nil {
			t := s.inflight[count]
			offsets = append(offsets, t.Offset)
			s.acked = t.Sequence
			s.cost -= t.cost
			count++
		}
		if count == 0 {
			break
		}
		n := copy(s.inflight, s.inflight[count:])
		clear(s.inflight[n:])
		s.inflight = s.inflight[:n]
		s.lastAck = m.now
		if s.loan > 0 && s.cost <= s.window {
			m.node.Budget.shrink(s.loan)
			s.loan = 0
		}
		m.recordAck = wire.RecordAck{BodyVersion: wire.BodyVersion, Sequence: s.acked, Offsets: offsets}
		m.reply(wire.Header{Op: wire.OpRecordAck, Seqno: s.acked}, &m.recordAck)
	}
	if !s.over && len(s.inflight) > 0 && s.inflight[0].finished {
		m.countRefusal(reasonRecords)
		m.failRecords(s.inflight[0].Err)
	}
}

// failRecords tells the client what failed and ends the session and the
// connection.
func (m *Machine) failRecords(err error) {
	s := m.records
	if s.opened {
		m.reply(wire.Header{Op: wire.OpRecordAck, Seqno: s.acked}, &wire.RecordAck{BodyVersion: wire.BodyVersion, Sequence: s.acked,
			Status: wire.StatusOf(m.node.ID, "", err), Redirect: redirectOf(err)})
	} else {
		m.replyRecordsOpened(err)
	}
	m.abortRecords()
	m.linger()
}

// abortRecords leaves the session where it is: what the sink has it may still
// append.
func (m *Machine) abortRecords() {
	s := m.records
	s.over = true
	if t := s.assembling; t != nil {
		for _, b := range t.Pieces {
			b.Release()
		}
		s.assembling = nil
	}
	s.inflight = nil
	m.emit(Effect{Kind: EffectCloseRecords, Records: s})
	m.maybeReleaseRecords(s)
	m.records, m.phase = nil, phaseIdle
}

// maybeReleaseRecords gives the window back once the sink holds no buffer.
func (m *Machine) maybeReleaseRecords(s *RecordSession) {
	if s.over && s.pending == 0 && s.window > 0 {
		m.node.Budget.shrink(s.loan)
		m.node.Budget.release(s.window)
		s.window, s.loan = 0, 0
	}
}

// tickRecords ends sessions that take too long to open, stop in the middle of a
// record, or say nothing.
func (m *Machine) tickRecords() {
	s, l := m.records, &m.node.Limits
	switch {
	case !s.opened && m.now-s.began > l.RecordsOpenTimeout():
		m.Refuse(reasonRecords, fault.New(fault.Unavailable, "open records", "the file could not be opened within %s", l.RecordsOpenTimeout()))
	case s.assembling != nil && m.now-m.LastReceived > l.ReceiveTimeout:
		m.Refuse(reasonStalled, fault.New(fault.Unavailable, "append record", "half a record, and nothing more for %s", l.ReceiveTimeout))
	case s.opened && s.assembling == nil && len(s.inflight) == 0 && m.now-max(m.LastReceived, s.lastAck) > l.SessionIdleTimeout:
		m.Refuse(reasonIdle, fault.New(fault.Unavailable, "append record", "nothing received for %s", l.SessionIdleTimeout))
	}
}

// check panics when the session contradicts itself.
func (s *RecordSession) check() {
	var cost int64
	pending := 0
	for _, t := range s.inflight {
		cost += t.cost
		if !t.finished {
			pending++
		}
	}
	if s.assembling != nil {
		cost += s.assembling.cost
	}
	invariants.Assert(cost == s.cost && cost <= s.window+s.loan, "records cost %d, counted %d, granted %d+%d", cost, s.cost, s.window, s.loan)
	invariants.Assert(pending == s.pending, "%d records pending, counted %d", pending, s.pending)
}
