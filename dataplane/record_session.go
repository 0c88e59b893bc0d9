package dataplane

import (
	"errors"
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/bufpool"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/invariants"
	"github.com/whispering-woods/ww/internal/record"
)

// recordSession is one record session: a client's records on their way to the
// sink.
//
//	opening ──sink has the file──▶ appending ──a record fails, the peer goes──▶ over
type recordSession struct {
	open       wire.OpenRecords
	began      time.Duration
	window     int64 // granted by the budget, held until the sink is done with every record
	loan       int64 // taken from the budget for one record that is larger than the window
	cost       int64 // of the records begun and not acked: at most window+loan
	opened     bool
	over       bool
	acked      uint64      // sequence; 0 before the first record
	next       uint64      // sequence wanted; 0: the first one may be any
	assembling *recordTask // its pieces are coming
	inflight   []*recordTask
	pending    int // records that the sink has
	lastAck    time.Duration
}

// recordTask is one record.
type recordTask struct {
	session  *recordSession
	sequence uint64
	flags    wire.Flags
	size     int   // payload bytes
	rest     int64 // payload bytes still to come
	cost     int64
	pieces   []*bufpool.Buffer // whole packets; released when the sink is done

	finished bool // the sink's answer has come
	offset   int64
	err      error
}

// serveOpenRecords begins a session.
func (m *machine) serveOpenRecords(payload []byte) error {
	s := &recordSession{began: m.now}
	if err := wire.DecodeBody(payload, &s.open); err != nil {
		return err
	}
	refused := func(r reason, err error) {
		m.count(r)
		m.replyRecordsOpened(err)
		m.linger()
	}
	if err := s.open.Validate(); err != nil {
		refused(reasonProtocol, err)
		return nil
	}
	wish := m.node.limits.RecordWindowBytes
	if s.open.WindowBytes > 0 {
		wish = min(wish, s.open.WindowBytes)
	}
	window, ok := m.node.budget.grant(wish)
	if !ok {
		refused(reasonBusy, fault.New(fault.Busy, "open records", "all %d bytes of windows or %d sessions of this datanode are taken",
			m.node.limits.WindowBudgetBytes, m.node.limits.SessionsMax))
		return nil
	}
	s.window = window
	m.records, m.phase = s, phaseRecording
	m.emit(effect{kind: effectOpenRecords, records: s})
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

func (m *machine) replyRecordsOpened(err error) {
	body := wire.RecordsOpened{BodyVersion: wire.BodyVersion, Status: wire.StatusOf(m.node.id, "", err), Redirect: redirectOf(err)}
	if err == nil {
		body.WindowBytes = m.records.window
	}
	m.reply(wire.Header{Op: wire.OpRecordsOpened}, &body)
}

// onRecordsOpened tells that the sink took the session, or why not.
func (m *machine) onRecordsOpened(s *recordSession, err error, now time.Duration) {
	m.now = now
	if s.over {
		return
	}
	if err != nil {
		m.count(reasonRecords)
		m.failRecords(err)
		return
	}
	s.opened = true
	m.lastReceived = now // the idle time begins
	m.replyRecordsOpened(nil)
}

// acceptRecord checks the header of a piece of a record, and takes room for the
// whole record with the first one.
func (m *machine) acceptRecord(h wire.Header) bool {
	refuse := func(r reason, kind fault.Kind, format string, args ...any) bool {
		m.refuse(r, fault.New(kind, "append record", format, args...))
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
		if h.Seqno != t.sequence || h.Flags != t.flags || total != t.rest || h.Length == 0 {
			return refuse(reasonProtocol, fault.Protocol, "record %d with %d bytes to come, inside record %d with %d to come", h.Seqno, total, t.sequence, t.rest)
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
		if !m.node.budget.lend(over) {
			return refuse(reasonBusy, fault.Busy, "no memory for record %d of %d bytes now", h.Seqno, total)
		}
		s.loan = over
	}
	if s.next == 0 {
		s.acked = h.Seqno - 1
	}
	s.cost += cost
	s.next = h.Seqno + 1
	s.assembling = &recordTask{session: s, sequence: h.Seqno, flags: h.Flags, size: int(total), rest: total, cost: cost}
	return true
}

// dispatchRecord takes a verified piece, and hands the record over when it is
// whole.
func (m *machine) dispatchRecord(p *packet) {
	s := m.records
	t := s.assembling
	t.pieces = append(t.pieces, p.buffer)
	t.rest -= int64(p.header.Length)
	p.buffer = nil
	m.recycle(p)
	if t.rest > 0 {
		return
	}
	s.assembling = nil
	s.inflight = append(s.inflight, t)
	s.pending++
	m.node.counters.records.Add(1)
	m.emit(effect{kind: effectRecord, records: s, record: t})
}

// onRecordDone brings the sink's answer. It is called once for every
// effectRecord, also after the session is over.
func (m *machine) onRecordDone(t *recordTask, now time.Duration) {
	m.now = now
	s := t.session
	s.pending--
	t.finished = true
	if s.over {
		m.maybeReleaseRecords(s)
	}
}

// flushRecords acks what has become ackable: the finished records at the front.
func (m *machine) flushRecords() {
	s := m.records
	for !s.over {
		count := 0
		offsets := m.recordAck.Offsets[:0]
		for count < len(s.inflight) && count < wire.RecordOffsetsMax && s.inflight[count].finished && s.inflight[count].err == nil {
			t := s.inflight[count]
			offsets = append(offsets, t.offset)
			s.acked = t.sequence
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
			m.node.budget.shrink(s.loan)
			s.loan = 0
		}
		m.recordAck = wire.RecordAck{BodyVersion: wire.BodyVersion, Sequence: s.acked, Offsets: offsets}
		m.reply(wire.Header{Op: wire.OpRecordAck, Seqno: s.acked}, &m.recordAck)
	}
	if !s.over && len(s.inflight) > 0 && s.inflight[0].finished {
		m.count(reasonRecords)
		m.failRecords(s.inflight[0].err)
	}
}

// failRecords tells the client what failed and ends the session and the
// connection.
func (m *machine) failRecords(err error) {
	s := m.records
	if s.opened {
		m.reply(wire.Header{Op: wire.OpRecordAck, Seqno: s.acked}, &wire.RecordAck{BodyVersion: wire.BodyVersion, Sequence: s.acked,
			Status: wire.StatusOf(m.node.id, "", err), Redirect: redirectOf(err)})
	} else {
		m.replyRecordsOpened(err)
	}
	m.abortRecords()
	m.linger()
}

// abortRecords leaves the session where it is: what the sink has it may still
// append.
func (m *machine) abortRecords() {
	s := m.records
	s.over = true
	if t := s.assembling; t != nil {
		for _, b := range t.pieces {
			b.Release()
		}
		s.assembling = nil
	}
	s.inflight = nil
	m.emit(effect{kind: effectCloseRecords, records: s})
	m.maybeReleaseRecords(s)
	m.records, m.phase = nil, phaseIdle
}

// maybeReleaseRecords gives the window back once the sink holds no buffer.
func (m *machine) maybeReleaseRecords(s *recordSession) {
	if s.over && s.pending == 0 && s.window > 0 {
		m.node.budget.shrink(s.loan)
		m.node.budget.release(s.window)
		s.window, s.loan = 0, 0
	}
}

// tickRecords ends sessions that take too long to open, stop in the middle of a
// record, or say nothing.
func (m *machine) tickRecords() {
	s, l := m.records, &m.node.limits
	switch {
	case !s.opened && m.now-s.began > l.recordsOpenTimeout():
		m.refuse(reasonRecords, fault.New(fault.Unavailable, "open records", "the file could not be opened within %s", l.recordsOpenTimeout()))
	case s.assembling != nil && m.now-m.lastReceived > l.ReceiveTimeout:
		m.refuse(reasonStalled, fault.New(fault.Unavailable, "append record", "half a record, and nothing more for %s", l.ReceiveTimeout))
	case s.opened && s.assembling == nil && len(s.inflight) == 0 && m.now-max(m.lastReceived, s.lastAck) > l.SessionIdleTimeout:
		m.refuse(reasonIdle, fault.New(fault.Unavailable, "append record", "nothing received for %s", l.SessionIdleTimeout))
	}
}

// check panics when the session contradicts itself.
func (s *recordSession) check() {
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
