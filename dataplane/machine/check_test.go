package machine

import (
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/invariants"
)

// check panics when the machine contradicts itself; tests call it after every step.
func (m *Machine) check() {
	invariants.Assert((m.phase == phaseWriting) == (m.session != nil && !m.session.over), "phase %s, session %v",
		m.phase, m.session)
	invariants.Assert(m.headFill < wire.HeaderBytes, "a whole header waits")
	invariants.Assert(m.current == nil || m.headFill == 0, "header and packet at once")
	if m.phase == phaseWriting {
		m.session.check()
	}
	invariants.Assert((m.phase == phaseRecording) == (m.records != nil && !m.records.over), "phase %s, records %v",
		m.phase, m.records)
	if m.phase == phaseRecording {
		m.records.check()
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
	invariants.Assert(cost == s.cost && cost <= s.window+s.loan, "records cost %d, counted %d, granted %d+%d", cost,
		s.cost, s.window, s.loan)
	invariants.Assert(pending == s.pending, "%d records pending, counted %d", pending, s.pending)
}

// check panics when the session contradicts itself.
func (s *WriteSession) check() {
	target := s.storedSeqno
	if s.hopsAfter > 0 {
		target = min(target, s.downSeqno)
	}
	invariants.Assert(s.ackedSeqno <= target && target <= s.seqno, "acked %d, stored %d, downstream %d, received %d",
		s.ackedSeqno, s.storedSeqno, s.downSeqno, s.seqno)
	invariants.Assert(s.agreed <= s.Window, "agreed window %d of %d", s.agreed, s.Window)
	var cost int64
	for i := range s.inflight.Len() {
		cost += (*s.inflight.At(i)).cost
	}
	invariants.Assert(cost == s.inflightCost, "in flight %d, counted %d", cost, s.inflightCost)
	invariants.Assert(s.agreed == 0 || cost <= s.agreed, "in flight %d, granted %d", cost, s.agreed)
	invariants.Assert(s.jobs >= 0 && s.jobs <= s.inflight.Len(), "%d disk jobs for %d packets", s.jobs,
		s.inflight.Len())
}
