package logserver

import (
	"encoding/binary"
	"fmt"

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

// encode returns the bytes of a snapshot of m: the small state and the index
// into the log. The records stay in the log.
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

// decodeMachine checks and decodes a snapshot. Errors: fault.CorruptData,
// fault.Version.
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
