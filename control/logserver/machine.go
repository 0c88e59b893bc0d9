package logserver

import (
	"cmp"
	"slices"
	"sort"
)

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
