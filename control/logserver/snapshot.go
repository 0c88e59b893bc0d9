package logserver

import (
	"encoding/binary"
	"fmt"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/internal/fault"
)

// Layout of the state machine's snapshot; docs/format/log.md has the picture.
const (
	snapshotMagic       = 0x534c5757 // "WWLS"
	snapshotVersion     = 1
	snapshotHeaderBytes = 40
	snapshotPointBytes  = 24
	snapshotBytesMax    = 1 << 30
)

// encode gives the bytes of a snapshot of m: the small state and the index
// into the log. The records stay in the log.
func (m *machine) encode() []byte {
	b := make([]byte, 0, snapshotHeaderBytes+len(m.holder)+len(m.points)*snapshotPointBytes+8)
	b = binary.LittleEndian.AppendUint32(b, snapshotMagic)
	b = append(b, snapshotVersion, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(m.holder)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(m.points)))
	b = binary.LittleEndian.AppendUint64(b, m.epoch)
	b = binary.LittleEndian.AppendUint64(b, m.lastTxid)
	b = binary.LittleEndian.AppendUint64(b, m.applied)
	b = append(b, m.holder...)
	for _, p := range m.points {
		b = binary.LittleEndian.AppendUint64(b, p.index)
		b = binary.LittleEndian.AppendUint64(b, p.epoch)
		b = binary.LittleEndian.AppendUint64(b, p.lastTxid)
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
		return machine{}, fault.New(fault.Version, "read log snapshot", "version %d; this build knows version %d", b[4], snapshotVersion)
	}
	holder, count := uint64(binary.LittleEndian.Uint16(b[6:])), binary.LittleEndian.Uint64(b[8:])
	rest := body[snapshotHeaderBytes:]
	if b[5] != 0 || holder > holderBytesMax || holder > uint64(len(rest)) ||
		(uint64(len(rest))-holder)%snapshotPointBytes != 0 || (uint64(len(rest))-holder)/snapshotPointBytes != count {
		return corrupt("lengths do not fit")
	}
	var m machine
	m.epoch = binary.LittleEndian.Uint64(b[16:])
	m.lastTxid = binary.LittleEndian.Uint64(b[24:])
	m.applied = binary.LittleEndian.Uint64(b[32:])
	m.holder = string(rest[:holder])
	rest = rest[holder:]
	last := point{}
	for range count {
		p := point{
			index:    binary.LittleEndian.Uint64(rest),
			epoch:    binary.LittleEndian.Uint64(rest[8:]),
			lastTxid: binary.LittleEndian.Uint64(rest[16:]),
		}
		if p.index <= last.index || p.epoch < last.epoch || p.lastTxid < last.lastTxid {
			return corrupt("the index is not in order")
		}
		m.points = append(m.points, p)
		last, rest = p, rest[snapshotPointBytes:]
	}
	if last.index > m.applied || last.epoch > m.epoch || last.lastTxid > m.lastTxid {
		return corrupt("the index goes beyond the state")
	}
	return m, nil
}
