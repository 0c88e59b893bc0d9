package machine

import (
	"errors"
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/bufpool"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/record"
)

// RecordSession is one record session: a client's records on their way to the sink.
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
	session := &RecordSession{began: m.now}
	if err := wire.DecodeBody(payload, &session.Open); err != nil {
		return err
	}
	refused := func(r Reason, err error) {
		m.countRefusal(r)
		m.replyRecordsOpened(err)
		m.linger()
	}
	if err := session.Open.Validate(); err != nil {
		refused(reasonProtocol, err)
		return nil
	}
	wish := m.node.Limits.RecordWindowBytes
	if session.Open.WindowBytes > 0 {
		wish = min(wish, session.Open.WindowBytes)
	}
	window, ok := m.node.Budget.grant(wish)
	if !ok {
		refused(reasonBusy, fault.New(fault.Busy, "open records",
			"all %d bytes of windows or %d sessions of this datanode are taken",
			m.node.Limits.WindowBudgetBytes, m.node.Limits.SessionsMax))
		return nil
	}
	session.window = window
	m.records, m.phase = session, phaseRecording
	m.emit(Effect{Kind: EffectOpenRecords, Records: session})
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
	body := wire.RecordsOpened{BodyVersion: wire.BodyVersion, Status: wire.StatusOf(m.node.ID, "", err),
		Redirect: redirectOf(err)}
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

// acceptRecord checks the header of a piece of a record, and takes room for the whole record with the first one.
func (m *Machine) acceptRecord(header wire.Header) bool {
	refuse := func(r Reason, kind fault.Kind, format string, args ...any) bool {
		m.Refuse(r, fault.New(kind, "append record", format, args...))
		return false
	}
	session := m.records
	if m.phase != phaseRecording || !session.opened {
		return refuse(reasonProtocol, fault.Protocol, "a record outside a record session")
	}
	total := int64(header.Length) + header.Offset
	switch {
	case header.Flags&^wire.FlagSync != 0:
		return refuse(reasonProtocol, fault.Protocol, "record %d has unknown flags %x", header.Seqno, header.Flags)
	case total > record.PayloadBytesMax:
		return refuse(reasonOversized, fault.Invalid, "record %d of at least %d bytes, the limit is %d", header.Seqno,
			total, record.PayloadBytesMax)
	case header.Offset > 0 && header.Length != wire.RecordPieceBytes:
		return refuse(reasonProtocol, fault.Protocol, "a piece of record %d has %d bytes, want %d", header.Seqno,
			header.Length, wire.RecordPieceBytes)
	}
	if t := session.assembling; t != nil {
		if header.Seqno != t.Sequence || header.Flags != t.Flags || total != t.rest || header.Length == 0 {
			return refuse(reasonProtocol, fault.Protocol,
				"record %d with %d bytes to come, inside record %d with %d to come",
				header.Seqno, total, t.Sequence, t.rest)
		}
		return true
	}
	if header.Seqno == 0 || (session.next != 0 && header.Seqno != session.next) {
		return refuse(reasonProtocol, fault.Protocol, "record %d, want %d", header.Seqno, session.next)
	}
	cost := wire.RecordCost(int(total))
	if over := session.cost + cost - session.window; over > 0 {
		if session.cost > 0 {
			return refuse(reasonWindow, fault.Protocol,
				"record %d exceeds the window: %d bytes of it are taken, %d wanted, %d granted",
				header.Seqno, session.cost, cost, session.window)
		}
		if !m.node.Budget.lend(over) {
			return refuse(reasonBusy, fault.Busy, "no memory for record %d of %d bytes now", header.Seqno, total)
		}
		session.loan = over
	}
	if session.next == 0 {
		session.acked = header.Seqno - 1
	}
	session.cost += cost
	session.next = header.Seqno + 1
	session.assembling = &RecordTask{session: session, Sequence: header.Seqno, Flags: header.Flags, Size: int(total),
		rest: total, cost: cost}
	return true
}

// dispatchRecord takes a verified piece, and passes the record on when it is whole.
func (m *Machine) dispatchRecord(p *Packet) {
	session := m.records
	task := session.assembling
	task.Pieces = append(task.Pieces, p.Buffer)
	task.rest -= int64(p.Header.Length)
	p.Buffer = nil
	m.recycle(p)
	if task.rest > 0 {
		return
	}
	session.assembling = nil
	session.inflight = append(session.inflight, task)
	session.pending++
	m.node.counters.Records.Add(1)
	m.emit(Effect{Kind: EffectRecord, Records: session, Record: task})
}

// OnRecordDone brings the sink's answer. It is called once for every EffectRecord, also after the session is over.
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
	session := m.records
	for !session.over {
		count := 0
		offsets := m.recordAck.Offsets[:0]
		for count < len(session.inflight) && count < wire.RecordOffsetsMax && session.inflight[count].finished &&
			session.inflight[count].Err == nil {
			t := session.inflight[count]
			offsets = append(offsets, t.Offset)
			session.acked = t.Sequence
			session.cost -= t.cost
			count++
		}
		if count == 0 {
			break
		}
		n := copy(session.inflight, session.inflight[count:])
		clear(session.inflight[n:])
		session.inflight = session.inflight[:n]
		session.lastAck = m.now
		if session.loan > 0 && session.cost <= session.window {
			m.node.Budget.shrink(session.loan)
			session.loan = 0
		}
		m.recordAck = wire.RecordAck{BodyVersion: wire.BodyVersion, Sequence: session.acked, Offsets: offsets}
		m.reply(wire.Header{Op: wire.OpRecordAck, Seqno: session.acked}, &m.recordAck)
	}
	if !session.over && len(session.inflight) > 0 && session.inflight[0].finished {
		m.countRefusal(reasonRecords)
		m.failRecords(session.inflight[0].Err)
	}
}

// failRecords tells the client what failed and ends the session and the connection.
func (m *Machine) failRecords(err error) {
	s := m.records
	if s.opened {
		m.reply(wire.Header{Op: wire.OpRecordAck, Seqno: s.acked},
			&wire.RecordAck{BodyVersion: wire.BodyVersion, Sequence: s.acked,
				Status: wire.StatusOf(m.node.ID, "", err), Redirect: redirectOf(err)})
	} else {
		m.replyRecordsOpened(err)
	}
	m.abortRecords()
	m.linger()
}

// abortRecords leaves the session where it is: what the sink has it may still append.
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

// tickRecords ends sessions that take too long to open, stop in the middle of a record, or say nothing.
func (m *Machine) tickRecords() {
	s, limits := m.records, &m.node.Limits
	refuse := func(r Reason, op, format string, waited time.Duration) {
		m.Refuse(r, fault.New(fault.Unavailable, op, format, waited))
	}
	idle := s.opened && s.assembling == nil && len(s.inflight) == 0
	switch {
	case !s.opened && m.now-s.began > limits.RecordsOpenTimeout():
		refuse(reasonRecords, "open records", "the file could not be opened within %s", limits.RecordsOpenTimeout())
	case s.assembling != nil && m.now-m.LastReceived > limits.ReceiveTimeout:
		refuse(reasonStalled, "append record", "half a record, and nothing more for %s", limits.ReceiveTimeout)
	case idle && m.now-max(m.LastReceived, s.lastAck) > limits.SessionIdleTimeout:
		refuse(reasonIdle, "append record", "nothing received for %s", limits.SessionIdleTimeout)
	}
}
