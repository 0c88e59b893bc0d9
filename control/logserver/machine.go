package logserver

import (
	"cmp"
	"slices"
	"sort"

	"github.com/whispering-woods/ww/control/logserver/entry"
)

// machine is the state with a sparse index into the log.
type machine struct {
	entry.State
	applied uint64        // raft index of the last entry stepped through
	points  []entry.Point // rising in index and, not strictly, in lastTxid
	// cut: the log in front of the first point is gone, or may be.
	cut bool
}

// apply steps through the entry at a raft index.
func (m *machine) apply(index uint64, e *entry.Entry) error {
	err := m.Step(e)
	m.applied = index
	if n := len(m.points); n == 0 || index >= m.points[n-1].Index+pointStride {
		m.points = append(m.points, entry.Point{Index: index, Epoch: m.Epoch, LastTxid: m.LastTxid})
	}
	return err
}

// before is the last known point in front of the record with a txid: reading
// on from there finds the record. The zero point is the empty log; false if the
// record is cut off.
func (m *machine) before(txid uint64) (entry.Point, bool) {
	n := sort.Search(len(m.points), func(i int) bool { return m.points[i].LastTxid >= txid })
	if n == 0 {
		return entry.Point{}, !m.cut
	}
	return m.points[n-1], true
}

// firstTxid is the first one that can be read.
func (m *machine) firstTxid() uint64 {
	if !m.cut || len(m.points) == 0 {
		return 1
	}
	return m.points[0].LastTxid + 1
}

// rebase adds points that are known otherwise, in any order, and forgets those
// that a log which begins with raft entry first cannot be read from.
func (m *machine) rebase(first uint64, known []entry.Point) {
	all := append(slices.Clone(m.points), known...)
	slices.SortFunc(all, func(a, b entry.Point) int { return cmp.Compare(a.Index, b.Index) })
	all = slices.CompactFunc(all, func(a, b entry.Point) bool { return a.Index == b.Index })
	all = slices.DeleteFunc(all, func(p entry.Point) bool { return p.Index+1 < first || p.Index > m.applied })
	m.points, m.cut = all, m.cut || first > 1 // what is cut never comes back
}
