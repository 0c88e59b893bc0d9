package logserver

import (
	"cmp"
	"fmt"
	"slices"
	"sort"

	"github.com/whispering-woods/ww/internal/fault"
)

// state is the replicated state machine: who may write, and where the log
// ends. It is a pure function of the entries, in order: every server, the
// verifier and every Tail that steps through the same entries agree on which
// of them were accepted.
type state struct {
	epoch    uint64 // highest acquired; 0 = none yet
	holder   string // who acquired it
	lastTxid uint64 // of the last accepted batch; 0 = none
}

// step applies one entry. It returns nil if the entry was accepted; else why
// not, and the state has not changed. Errors: fault.Fenced, fault.Gap,
// fault.Protocol.
func (s *state) step(e *entry) error {
	const op = "append to log"
	if e.kind == entryAcquire {
		s.epoch++
		s.holder = e.holder
		return nil
	}
	switch {
	case e.epoch < s.epoch:
		return s.fenced(e.epoch)
	case e.epoch > s.epoch:
		return fault.New(fault.Protocol, op, "epoch %d was never acquired, the highest is %d", e.epoch, s.epoch)
	case e.firstTxid != s.lastTxid+1:
		err := fault.New(fault.Gap, op, "the batch starts at txid %d, the log expects txid %d", e.firstTxid, s.lastTxid+1)
		err.Hint = "replay the log and append behind its last txid"
		return err
	}
	s.lastTxid = e.lastTxid()
	return nil
}

// fenced is the refusal of a lower epoch.
func (s *state) fenced(epoch uint64) error {
	return &fault.Error{Kind: fault.Fenced, Op: "append to log", Holder: s.holder,
		Reason: fmt.Sprintf("epoch %d ended, epoch %d is in force", epoch, s.epoch),
		Hint:   "another namenode took over: stop serving"}
}

// point is a known position: the state after the entry at raft index index.
type point struct {
	index    uint64
	epoch    uint64
	lastTxid uint64
}

// state gives the state at the point; the holder is not kept.
func (p point) state() state { return state{epoch: p.epoch, lastTxid: p.lastTxid} }

// machine is the state with a sparse index into the log.
type machine struct {
	state
	applied uint64  // raft index of the last entry stepped through
	points  []point // rising in index and, not strictly, in lastTxid
	// cut: the log in front of the first point is gone, or may be.
	cut bool
}

// apply steps through the entry at a raft index.
func (m *machine) apply(index uint64, e *entry) error {
	err := m.step(e)
	m.applied = index
	if n := len(m.points); n == 0 || index >= m.points[n-1].index+pointStride {
		m.points = append(m.points, point{index: index, epoch: m.epoch, lastTxid: m.lastTxid})
	}
	return err
}

// before is the last known point in front of the record with a txid: reading
// on from there meets the record. The zero point is the empty log; false if the
// record is cut off.
func (m *machine) before(txid uint64) (point, bool) {
	n := sort.Search(len(m.points), func(i int) bool { return m.points[i].lastTxid >= txid })
	if n == 0 {
		return point{}, !m.cut
	}
	return m.points[n-1], true
}

// firstTxid is the first one that can be read.
func (m *machine) firstTxid() uint64 {
	if !m.cut || len(m.points) == 0 {
		return 1
	}
	return m.points[0].lastTxid + 1
}

// rebase adds points that are known otherwise, in any order, and forgets those
// that a log which begins with raft entry first cannot be read from.
func (m *machine) rebase(first uint64, known []point) {
	all := append(slices.Clone(m.points), known...)
	slices.SortFunc(all, func(a, b point) int { return cmp.Compare(a.index, b.index) })
	all = slices.CompactFunc(all, func(a, b point) bool { return a.index == b.index })
	all = slices.DeleteFunc(all, func(p point) bool { return p.index+1 < first || p.index > m.applied })
	m.points, m.cut = all, m.cut || first > 1 // what is cut never comes back
}
