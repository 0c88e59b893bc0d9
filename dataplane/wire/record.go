package wire

import (
	"unicode/utf8"

	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/record"
)

const (
	// RecordPieceBytes is the payload of every packet of a record but its last
	// one, which has 0..RecordPieceBytes (0 only for an empty record).
	RecordPieceBytes = PayloadBytesMax
	// PathBytesMax bounds the path in OpenRecords.
	PathBytesMax = 4096
	// RecordOffsetsMax bounds the records that one RecordAck acknowledges.
	RecordOffsetsMax = 4096
)

// OpenRecords starts a record session on the connection: the datanode appends
// the client's records, and those of other clients, to one file.
type OpenRecords struct {
	_struct     struct{} `codec:",toarray"`
	BodyVersion uint8
	Path        string
	WriterID    []byte // 16, see record.WriterID
	WindowBytes int64  // window that the sender would like; 0 no wish
	ClientName  string
}

// RecordsOpened answers OpenRecords. After an error the connection ends.
type RecordsOpened struct {
	_struct     struct{} `codec:",toarray"`
	BodyVersion uint8
	Status      Status
	// RecordCost of the records that may be sent and not yet acked. A record of
	// any size may be sent while nothing is unacked.
	WindowBytes int64
	Redirect    Hop // with an error, the datanode to ask instead; its address is empty when there is none
}

// RecordAck acknowledges the records up to Sequence: the last len(Offsets) ones, in order. With an error, record
// Sequence+1 and all after it failed as far as this datanode knows, and the connection ends.
type RecordAck struct {
	_struct     struct{} `codec:",toarray"`
	BodyVersion uint8
	Sequence    uint64  // of the last record acknowledged
	Offsets     []int64 // in the file, of the records' frames
	Status      Status
	Redirect    Hop // as in RecordsOpened
}

// RecordCost is how much of a record session's window a record takes: the WindowCost of its packets.
func RecordCost(payloadBytes int) int64 {
	whole := max(payloadBytes-1, 0) / RecordPieceBytes
	return int64(whole)*RecordPieceBytes + WindowCost(payloadBytes-whole*RecordPieceBytes)
}

// AppendRecord appends all packets of one record to b. flags may be FlagSync; it stands in every packet. Error:
// fault.Invalid for a payload over record.PayloadBytesMax.
func AppendRecord(b []byte, sequence uint64, flags Flags, payload []byte) ([]byte, error) {
	if len(payload) > record.PayloadBytesMax {
		return b, fault.New(fault.Invalid, "append record", "record of %d bytes, the limit is %d", len(payload),
			record.PayloadBytesMax)
	}
	for {
		piece := payload[:min(len(payload), RecordPieceBytes)]
		payload = payload[len(piece):]
		var header [HeaderBytes]byte
		PutHeader(header[:], Header{Op: OpRecord, Flags: flags, Length: uint32(len(piece)), Seqno: sequence,
			Offset: int64(len(payload))})
		start := len(b)
		b = append(b, header[:]...)
		b = append(b, piece...)
		Seal(b[start:])
		if len(payload) == 0 {
			return b, nil
		}
	}
}

// Validate checks ranges and lengths. Error: fault.Invalid.
func (o *OpenRecords) Validate() error {
	const op = "open records"
	switch {
	case len(o.WriterID) != len(record.WriterID{}):
		return badBody(op, "writer id has %d bytes", len(o.WriterID))
	case o.Path == "" || len(o.Path) > PathBytesMax || o.Path[0] != '/' || !utf8.ValidString(o.Path):
		return badBody(op, "path of %d bytes, want an absolute one of 1 to %d in UTF-8", len(o.Path), PathBytesMax)
	case o.WindowBytes < 0:
		return badBody(op, "window %d", o.WindowBytes)
	case len(o.ClientName) > nameBytesMax:
		return badBody(op, "client name of %d bytes, limit %d", len(o.ClientName), nameBytesMax)
	}
	return nil
}

// Validate checks an answer that came from the network. Error: fault.Protocol.
func (o *RecordsOpened) Validate() error {
	if o.Status.Code == 0 && o.WindowBytes < EarlyBytesMax {
		return fault.New(fault.Protocol, "open records", "window of %d bytes", o.WindowBytes)
	}
	return nil
}

// Validate checks an ack that came from the network. Error: fault.Protocol.
func (a *RecordAck) Validate() error {
	const op = "record ack"
	if len(a.Offsets) > RecordOffsetsMax || uint64(len(a.Offsets)) > a.Sequence {
		return fault.New(fault.Protocol, op, "%d offsets up to sequence %d", len(a.Offsets), a.Sequence)
	}
	for _, offset := range a.Offsets {
		if offset < 0 {
			return fault.New(fault.Protocol, op, "offset %d", offset)
		}
	}
	return nil
}
