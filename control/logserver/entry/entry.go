package entry

import (
	"encoding/binary"
	"fmt"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// Kind says what a raft entry of ours holds. The numbers are on disk.
type Kind uint8

// Kinds of entries.
const (
	Batch   Kind = 1 // records of one writer
	Acquire Kind = 2 // a new epoch for a holder
)

// Layout of an entry; docs/format/log.md has the picture.
const (
	magic             = 0x454c5757 // "WWLE"
	version           = 1
	headerBytes       = 32
	sumBytes          = 8
	recordHeaderBytes = 12
)

// Entry is one decoded raft entry.
type Entry struct {
	Kind      Kind
	Epoch     uint64   // batch: the writer's
	FirstTxid uint64   // batch: txid of records[0]
	Records   [][]byte // batch: slices of the decoded bytes
	Holder    string   // acquire: who
}

// LastTxid is the txid of a batch's last record.
func (e *Entry) LastTxid() uint64 { return e.FirstTxid + uint64(len(e.Records)) - 1 }

// Check reports whether an entry keeps the bounds that the decoder enforces. Errors: fault.Invalid.
func (e *Entry) Check() error {
	invalid := func(format string, args ...any) error {
		return fault.New(fault.Invalid, "append to log", format, args...)
	}
	if e.Kind == Acquire {
		if len(e.Holder) > limits.HolderBytesMax {
			return invalid("a holder's name of %d bytes; at most %d are allowed", len(e.Holder), limits.HolderBytesMax)
		}
		return nil
	}
	if len(e.Records) == 0 || len(e.Records) > limits.BatchRecordsMax {
		return invalid("a batch of %d records; 1 to %d are allowed", len(e.Records), limits.BatchRecordsMax)
	}
	if e.FirstTxid == 0 || e.FirstTxid+uint64(len(e.Records)) < e.FirstTxid {
		return invalid("first txid %d", e.FirstTxid)
	}
	if e.Epoch == 0 {
		return invalid("epoch 0")
	}
	total := 0
	for i, record := range e.Records {
		if len(record) == 0 {
			return invalid("record %d of the batch is empty", i)
		}
		total += len(record)
	}
	if total > limits.BatchBytesMax {
		return invalid("a batch of %d bytes; at most %d are allowed", total, limits.BatchBytesMax)
	}
	return nil
}

// Encode returns the bytes of a checked entry. Every record has its own sum,
// seeded with its txid so that a record in the wrong place does not verify.
func (e *Entry) Encode() []byte {
	size := headerBytes + sumBytes
	count := uint32(len(e.Records))
	if e.Kind == Acquire {
		size += len(e.Holder)
		count = uint32(len(e.Holder))
	}
	for _, record := range e.Records {
		size += recordHeaderBytes + len(record)
	}
	b := make([]byte, 0, size)
	b = binary.LittleEndian.AppendUint32(b, magic)
	b = append(b, version, byte(e.Kind), 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(size))
	b = binary.LittleEndian.AppendUint32(b, count)
	b = binary.LittleEndian.AppendUint64(b, e.Epoch)
	b = binary.LittleEndian.AppendUint64(b, e.FirstTxid)
	b = append(b, e.Holder...)
	for i, record := range e.Records {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(record)))
		b = binary.LittleEndian.AppendUint64(b, recordSum(e.FirstTxid+uint64(i), record))
		b = append(b, record...)
	}
	return binary.LittleEndian.AppendUint64(b, xxh3.Hash(b))
}

// recordSum is the checksum of a record under its txid.
func recordSum(txid uint64, record []byte) uint64 { return xxh3.HashSeed(record, txid) }

// Decode checks and decodes the bytes of an entry; the records stay slices of b. Errors: fault.Version for a newer
// format, fault.CorruptData for anything else that encode cannot have written, with the txid of the first bad
// record where it is known.
func Decode(b []byte) (Entry, error) {
	corrupt := func(format string, args ...any) (Entry, error) {
		return Entry{}, &fault.Error{Kind: fault.CorruptData, Reason: "log entry: " + fmt.Sprintf(format, args...)}
	}
	if len(b) < headerBytes+sumBytes {
		return corrupt("%d bytes are too few", len(b))
	}
	if len(b) > BytesMax {
		return corrupt("%d bytes, more than %d", len(b), BytesMax)
	}
	if found := binary.LittleEndian.Uint32(b); found != magic {
		return corrupt("bad magic %#08x", found)
	}
	body, sum := b[:len(b)-sumBytes], binary.LittleEndian.Uint64(b[len(b)-sumBytes:])
	sumOK := xxh3.Hash(body) == sum
	if sumOK && b[4] != version {
		return Entry{}, fault.New(fault.Version, "read log", "log entry of version %d; this build knows version %d",
			b[4], version)
	}
	decoded := Entry{
		Kind:      Kind(b[5]),
		Epoch:     binary.LittleEndian.Uint64(b[16:]),
		FirstTxid: binary.LittleEndian.Uint64(b[24:]),
	}
	count := binary.LittleEndian.Uint32(b[12:])
	switch {
	case b[4] != version:
		return corrupt("checksum mismatch")
	case binary.LittleEndian.Uint32(b[8:]) != uint32(len(b)):
		return corrupt("it says %d bytes and has %d", binary.LittleEndian.Uint32(b[8:]), len(b))
	case b[6] != 0 || b[7] != 0:
		return corrupt("reserved bytes are set")
	}
	rest := body[headerBytes:]
	switch decoded.Kind {
	case Acquire:
		if !sumOK {
			return corrupt("checksum mismatch")
		}
		if uint64(count) != uint64(len(rest)) || count > limits.HolderBytesMax || decoded.Epoch != 0 ||
			decoded.FirstTxid != 0 {
			return corrupt("bad acquire entry")
		}
		decoded.Holder = string(rest)
		return decoded, nil
	case Batch:
	default:
		return corrupt("unknown kind %d", b[5])
	}
	if count == 0 || count > limits.BatchRecordsMax {
		return corrupt("%d records", count)
	}
	decoded.Records = make([][]byte, 0, min(int(count), len(rest)/recordHeaderBytes+1))
	for i := range uint64(count) {
		txid := decoded.FirstTxid + i
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
		decoded.Records = append(decoded.Records, record)
		rest = rest[length:]
	}
	if len(rest) != 0 {
		return corrupt("%d bytes behind the last record", len(rest))
	}
	if !sumOK {
		return corrupt("checksum mismatch")
	}
	if err := decoded.Check(); err != nil {
		return corrupt("%v", err)
	}
	return decoded, nil
}
