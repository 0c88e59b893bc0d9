package logserver

import (
	"encoding/binary"
	"fmt"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/internal/fault"
)

// entryKind says what a raft entry of ours holds. The numbers are on disk.
type entryKind uint8

const (
	entryBatch   entryKind = 1 // records of one writer
	entryAcquire entryKind = 2 // a new epoch for a holder
)

// Layout of an entry; docs/format/log.md has the picture.
const (
	entryMagic        = 0x454c5757 // "WWLE"
	entryVersion      = 1
	entryHeaderBytes  = 32
	entrySumBytes     = 8
	recordHeaderBytes = 12
)

// entry is one decoded raft entry.
type entry struct {
	kind      entryKind
	epoch     uint64   // batch: the writer's
	firstTxid uint64   // batch: txid of records[0]
	records   [][]byte // batch: slices of the decoded bytes
	holder    string   // acquire: who
}

// lastTxid is the txid of a batch's last record.
func (e *entry) lastTxid() uint64 { return e.firstTxid + uint64(len(e.records)) - 1 }

// check tells whether an entry keeps the bounds that the decoder enforces.
// Errors: fault.Invalid.
func (e *entry) check() error {
	invalid := func(format string, args ...any) error {
		return fault.New(fault.Invalid, "append to log", format, args...)
	}
	if e.kind == entryAcquire {
		if len(e.holder) > holderBytesMax {
			return invalid("a holder's name of %d bytes; at most %d are allowed", len(e.holder), holderBytesMax)
		}
		return nil
	}
	if len(e.records) == 0 || len(e.records) > batchRecordsMax {
		return invalid("a batch of %d records; 1 to %d are allowed", len(e.records), batchRecordsMax)
	}
	if e.firstTxid == 0 || e.firstTxid+uint64(len(e.records)) < e.firstTxid {
		return invalid("first txid %d", e.firstTxid)
	}
	if e.epoch == 0 {
		return invalid("epoch 0")
	}
	total := 0
	for i, record := range e.records {
		if len(record) == 0 {
			return invalid("record %d of the batch is empty", i)
		}
		total += len(record)
	}
	if total > batchBytesMax {
		return invalid("a batch of %d bytes; at most %d are allowed", total, batchBytesMax)
	}
	return nil
}

// encode gives the bytes of a checked entry. Every record has its own sum,
// seeded with its txid so that a record in the wrong place does not verify.
func (e *entry) encode() []byte {
	size := entryHeaderBytes + entrySumBytes
	count := uint32(len(e.records))
	if e.kind == entryAcquire {
		size += len(e.holder)
		count = uint32(len(e.holder))
	}
	for _, record := range e.records {
		size += recordHeaderBytes + len(record)
	}
	b := make([]byte, 0, size)
	b = binary.LittleEndian.AppendUint32(b, entryMagic)
	b = append(b, entryVersion, byte(e.kind), 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(size))
	b = binary.LittleEndian.AppendUint32(b, count)
	b = binary.LittleEndian.AppendUint64(b, e.epoch)
	b = binary.LittleEndian.AppendUint64(b, e.firstTxid)
	b = append(b, e.holder...)
	for i, record := range e.records {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(record)))
		b = binary.LittleEndian.AppendUint64(b, recordSum(e.firstTxid+uint64(i), record))
		b = append(b, record...)
	}
	return binary.LittleEndian.AppendUint64(b, xxh3.Hash(b))
}

// recordSum is the checksum of a record under its txid.
func recordSum(txid uint64, record []byte) uint64 { return xxh3.HashSeed(record, txid) }

// decodeEntry checks and decodes the bytes of an entry; the records stay
// slices of b. Errors: fault.Version for a newer format, fault.CorruptData for
// anything else that encode cannot have written, with the txid of the first
// bad record where it is known.
func decodeEntry(b []byte) (entry, error) {
	corrupt := func(format string, args ...any) (entry, error) {
		return entry{}, &fault.Error{Kind: fault.CorruptData, Reason: "log entry: " + fmt.Sprintf(format, args...)}
	}
	if len(b) < entryHeaderBytes+entrySumBytes {
		return corrupt("%d bytes are too few", len(b))
	}
	if len(b) > entryBytesMax {
		return corrupt("%d bytes, more than %d", len(b), entryBytesMax)
	}
	if magic := binary.LittleEndian.Uint32(b); magic != entryMagic {
		return corrupt("bad magic %#08x", magic)
	}
	body, sum := b[:len(b)-entrySumBytes], binary.LittleEndian.Uint64(b[len(b)-entrySumBytes:])
	sumOK := xxh3.Hash(body) == sum
	if sumOK && b[4] != entryVersion {
		return entry{}, fault.New(fault.Version, "read log", "log entry of version %d; this build knows version %d", b[4], entryVersion)
	}
	e := entry{
		kind:      entryKind(b[5]),
		epoch:     binary.LittleEndian.Uint64(b[16:]),
		firstTxid: binary.LittleEndian.Uint64(b[24:]),
	}
	count := binary.LittleEndian.Uint32(b[12:])
	switch {
	case b[4] != entryVersion:
		return corrupt("checksum mismatch")
	case binary.LittleEndian.Uint32(b[8:]) != uint32(len(b)):
		return corrupt("it says %d bytes and has %d", binary.LittleEndian.Uint32(b[8:]), len(b))
	case b[6] != 0 || b[7] != 0:
		return corrupt("reserved bytes are set")
	}
	rest := body[entryHeaderBytes:]
	switch e.kind {
	case entryAcquire:
		if !sumOK {
			return corrupt("checksum mismatch")
		}
		if uint64(count) != uint64(len(rest)) || count > holderBytesMax || e.epoch != 0 || e.firstTxid != 0 {
			return corrupt("bad acquire entry")
		}
		e.holder = string(rest)
		return e, nil
	case entryBatch:
	default:
		return corrupt("unknown kind %d", b[5])
	}
	if count == 0 || count > batchRecordsMax {
		return corrupt("%d records", count)
	}
	e.records = make([][]byte, 0, min(int(count), len(rest)/recordHeaderBytes+1))
	for i := range uint64(count) {
		txid := e.firstTxid + i
		if len(rest) < recordHeaderBytes {
			return corrupt("it ends in front of txid %d", txid)
		}
		length, want := binary.LittleEndian.Uint32(rest), binary.LittleEndian.Uint64(rest[4:])
		rest = rest[recordHeaderBytes:]
		if length == 0 || uint64(length) > uint64(len(rest)) {
			return corrupt("length %d of txid %d, %d bytes are left", length, txid, len(rest))
		}
		record := rest[:length:length]
		if recordSum(txid, record) != want {
			return corrupt("checksum mismatch in txid %d", txid)
		}
		e.records = append(e.records, record)
		rest = rest[length:]
	}
	if len(rest) != 0 {
		return corrupt("%d bytes behind the last record", len(rest))
	}
	if !sumOK {
		return corrupt("checksum mismatch")
	}
	if err := e.check(); err != nil {
		return corrupt("%v", err)
	}
	return e, nil
}
