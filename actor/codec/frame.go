package codec

import (
	"encoding/binary"
	"fmt"

	"github.com/ugorji/go/codec"
	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/msgpack"
)

// newHandle configures msgpack: structs are arrays, so field order is the
// format; strings and byte strings are distinct.
func newHandle() *codec.MsgpackHandle {
	h := new(codec.MsgpackHandle)
	h.WriteExt = true
	h.StructToArray = true
	h.MaxInitLen = listItemsInit
	h.MaxDepth = 16
	return h
}

// Encoder encodes structs to frames. It keeps its codec and buffers, so that a
// frame costs no allocation but its share of an arena. Not for concurrent use.
type Encoder struct {
	codec   *codec.Encoder
	scratch []byte
	arena   []byte
}

// NewEncoder returns an encoder.
func NewEncoder() *Encoder {
	e := &Encoder{scratch: make([]byte, 0, 4096)}
	e.codec = codec.NewEncoderBytes(&e.scratch, newHandle())
	return e
}

// Record frames a record. The bytes are never written again. A payload above RecordBytesMax is an error.
func (e *Encoder) Record(r Record) ([]byte, error) { return e.frame(r.Kind(), r) }

// frame encodes value, a pointer to a struct.
func (e *Encoder) frame(kind Kind, value any) ([]byte, error) {
	if err := e.encode(value); err != nil {
		return nil, fmt.Errorf("encode record kind %d: %w", kind, err)
	}
	if len(e.scratch) > RecordBytesMax {
		return nil, fmt.Errorf("record kind %d has %d bytes, at most %d are allowed", kind, len(e.scratch),
			RecordBytesMax)
	}
	return WriteFrame(e.cut(frameHeaderBytes+len(e.scratch)), kind, Version, e.scratch), nil
}

// payload encodes value, a pointer to a struct, without a frame. The bytes are never written again.
func (e *Encoder) payload(value any) ([]byte, error) {
	if err := e.encode(value); err != nil {
		return nil, err
	}
	return append(e.cut(len(e.scratch)), e.scratch...), nil
}

// encode writes value to the scratch buffer.
func (e *Encoder) encode(value any) error {
	e.scratch = e.scratch[:0]
	if p, ok := value.(packed); ok {
		e.scratch = p.write(e.scratch)
		return nil
	}
	return e.encodeByCodec(value)
}

func (e *Encoder) encodeByCodec(value any) error {
	e.codec.ResetBytes(&e.scratch)
	return e.codec.Encode(value)
}

// cut takes room for size bytes from the arena.
func (e *Encoder) cut(size int) []byte {
	if size > cap(e.arena)-len(e.arena) {
		e.arena = make([]byte, 0, max(arenaBytes, size))
	}
	start := len(e.arena)
	e.arena = e.arena[:start+size]
	return e.arena[start : start : start+size]
}

// WriteFrame writes a frame to b, which is empty.
func WriteFrame(b []byte, kind Kind, version uint8, payload []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = append(b, byte(kind), version, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) // no flags; the sum comes last
	b = append(b, payload...)
	binary.LittleEndian.PutUint64(b[8:], frameSum(b))
	return b
}

// frameSum covers the first 8 header bytes (as the hash's seed) and the payload.
func frameSum(frame []byte) uint64 {
	return xxh3.HashSeed(frame[frameHeaderBytes:], binary.LittleEndian.Uint64(frame))
}

// Frame is one frame that was read. Payload is not copied.
type Frame struct {
	Kind    Kind
	Version uint8
	Payload []byte
}

// CutFrame checks the frame at the start of data and splits it off. Errors are
// fault.CorruptData, or fault.Version for flags that this program lacks.
func CutFrame(data []byte) (cut Frame, rest []byte, err error) {
	corrupt := func(format string, args ...any) (Frame, []byte, error) {
		return Frame{}, nil, fault.New(fault.CorruptData, "read record", format, args...)
	}
	if len(data) < frameHeaderBytes {
		return corrupt("%d bytes left, a frame header has %d", len(data), frameHeaderBytes)
	}
	length := binary.LittleEndian.Uint32(data)
	if length > RecordBytesMax {
		return corrupt("length %d is above the limit of %d", length, RecordBytesMax)
	}
	if uint64(length) > uint64(len(data)-frameHeaderBytes) {
		return corrupt("length %d, but %d bytes are left", length, len(data)-frameHeaderBytes)
	}
	frame := data[:frameHeaderBytes+int(length)]
	if got, want := frameSum(frame), binary.LittleEndian.Uint64(frame[8:]); got != want {
		return corrupt("checksum %016x does not match the stored %016x", got, want)
	}
	cut = Frame{Kind: Kind(frame[4]), Version: frame[5], Payload: frame[frameHeaderBytes:]}
	if flags := binary.LittleEndian.Uint16(frame[6:]); flags != 0 {
		return Frame{}, nil, fault.New(fault.Version, "read record",
			"record kind %d has flags %#x, this program knows none", cut.Kind, flags)
	}
	if cut.Version == 0 {
		return corrupt("record kind %d has version 0", cut.Kind)
	}
	return cut, data[len(frame):], nil
}

// Decoder decodes records; it keeps its codec. Not for concurrent use.
type Decoder struct {
	codec     *codec.Decoder
	newRecord func(Kind) Record
	reader    msgpack.Reader // here, since on a stack it would escape with every record
}

// NewDecoder returns a decoder. newRecord makes an empty record of a kind, or nil if the kind is not known.
func NewDecoder(newRecord func(Kind) Record) *Decoder {
	return &Decoder{codec: codec.NewDecoderBytes(nil, newHandle()), newRecord: newRecord}
}

// Record reads one framed edit record that fills data. It keeps nothing of data.
func (d *Decoder) Record(data []byte) (Record, error) {
	frame, rest, err := CutFrame(data)
	if err != nil {
		return nil, err
	}
	if len(rest) != 0 {
		return nil, fault.New(fault.CorruptData, "read record", "%d bytes follow the frame", len(rest))
	}
	record := d.newRecord(frame.Kind)
	if record == nil || frame.Version > Version {
		e := fault.New(fault.Version, "read record", "record kind %d version %d is not known", frame.Kind,
			frame.Version)
		e.Hint = "the log was written by a newer program; run that one"
		return nil, e
	}
	if p, ok := record.(packed); ok {
		d.reader.Reset(frame.Payload)
		if p.read(&d.reader); d.reader.Done() {
			return record, nil
		}
		record = d.newRecord(frame.Kind)
	}
	if err := d.decodeByCodec(frame.Payload, record); err != nil {
		return nil, err
	}
	return record, nil
}

// decodePage reads a checkpoint's payload to a page. The page's strings are cut from one: they keep the whole payload's
// memory, so what outlives it must be cloned. On an error the codec must try, on an empty page.
func (d *Decoder) decodePage(payload []byte, page packed) bool {
	d.reader.ResetShared(payload)
	page.read(&d.reader)
	return d.reader.Done()
}

// decodeByCodec decodes payload, which must be one msgpack array and nothing else, into value, a pointer to a zero
// struct. Elements that value lacks are skipped: a newer writer of the same version may have added them.
func (d *Decoder) decodeByCodec(payload []byte, value any) error {
	if len(payload) == 0 || payload[0]&0xf0 != 0x90 && payload[0] != 0xdc && payload[0] != 0xdd {
		return fault.New(fault.CorruptData, "decode record", "the payload is no array")
	}
	d.codec.ResetBytes(payload)
	if err := d.codec.Decode(value); err != nil {
		return &fault.Error{Kind: fault.CorruptData, Op: "decode record", Reason: "the payload is malformed", Err: err}
	}
	if n := d.codec.NumBytesRead(); n != len(payload) {
		return fault.New(fault.CorruptData, "decode record", "the payload has %d bytes after its end", len(payload)-n)
	}
	return nil
}
