package logserver

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/control/logserver/entry"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// Layout of the state machine's snapshot; docs/format/log.md has the picture.
const (
	snapshotMagic       = 0x534c5757 // "WWLS"
	snapshotVersion     = 1
	snapshotHeaderBytes = 40
	snapshotPointBytes  = 24
	snapshotBytesMax    = 1 << 30
)

// machine is the state with a sparse index into the log.
type machine struct {
	entry.State
	applied uint64        // raft index of the last entry stepped through
	points  []entry.Point // rising in index and, not strictly, in lastTxid
	cut     bool          // the log in front of the first point is gone, or may be
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

// before is the last known point in front of the record with a txid: reading on from there finds the record. The
// zero point is the empty log; false if the record is cut off.
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

// encode returns the bytes of a snapshot of m: the small state and the index into the log. The records stay in the log.
func (m *machine) encode() []byte {
	b := make([]byte, 0, snapshotHeaderBytes+len(m.Holder)+len(m.points)*snapshotPointBytes+8)
	b = binary.LittleEndian.AppendUint32(b, snapshotMagic)
	b = append(b, snapshotVersion, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(m.Holder)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(m.points)))
	b = binary.LittleEndian.AppendUint64(b, m.Epoch)
	b = binary.LittleEndian.AppendUint64(b, m.LastTxid)
	b = binary.LittleEndian.AppendUint64(b, m.applied)
	b = append(b, m.Holder...)
	for _, p := range m.points {
		b = binary.LittleEndian.AppendUint64(b, p.Index)
		b = binary.LittleEndian.AppendUint64(b, p.Epoch)
		b = binary.LittleEndian.AppendUint64(b, p.LastTxid)
	}
	return binary.LittleEndian.AppendUint64(b, xxh3.Hash(b))
}

// decodeMachine checks and decodes a snapshot. Errors: fault.CorruptData, fault.Version.
func decodeMachine(b []byte) (machine, error) {
	corrupt := func(format string, args ...any) (machine, error) {
		return machine{}, &fault.Error{Kind: fault.CorruptData, Reason: "log snapshot: " + fmt.Sprintf(format, args...)}
	}
	if len(b) < snapshotHeaderBytes+8 {
		return corrupt("%d bytes are too few", len(b))
	}
	if binary.LittleEndian.Uint32(b) != snapshotMagic {
		return corrupt("bad magic")
	}
	body := b[:len(b)-8]
	if xxh3.Hash(body) != binary.LittleEndian.Uint64(b[len(body):]) {
		return corrupt("checksum mismatch")
	}
	if b[4] != snapshotVersion {
		return machine{}, fault.New(fault.Version, "read log snapshot", "version %d; this build knows version %d", b[4],
			snapshotVersion)
	}
	holder, count := uint64(binary.LittleEndian.Uint16(b[6:])), binary.LittleEndian.Uint64(b[8:])
	rest := body[snapshotHeaderBytes:]
	if b[5] != 0 || holder > limits.HolderBytesMax || holder > uint64(len(rest)) ||
		(uint64(len(rest))-holder)%snapshotPointBytes != 0 || (uint64(len(rest))-holder)/snapshotPointBytes != count {
		return corrupt("lengths do not fit")
	}
	var restored machine
	restored.Epoch = binary.LittleEndian.Uint64(b[16:])
	restored.LastTxid = binary.LittleEndian.Uint64(b[24:])
	restored.applied = binary.LittleEndian.Uint64(b[32:])
	restored.Holder = string(rest[:holder])
	rest = rest[holder:]
	last := entry.Point{}
	for range count {
		p := entry.Point{
			Index:    binary.LittleEndian.Uint64(rest),
			Epoch:    binary.LittleEndian.Uint64(rest[8:]),
			LastTxid: binary.LittleEndian.Uint64(rest[16:]),
		}
		if p.Index <= last.Index || p.Epoch < last.Epoch || p.LastTxid < last.LastTxid {
			return corrupt("the index is not in order")
		}
		restored.points = append(restored.points, p)
		last, rest = p, rest[snapshotPointBytes:]
	}
	if last.Index > restored.applied || last.Epoch > restored.Epoch || last.LastTxid > restored.LastTxid {
		return corrupt("the index goes beyond the state")
	}
	return restored, nil
}
