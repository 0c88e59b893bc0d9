package actor

import (
	"encoding/binary"
	"fmt"

	"github.com/ugorji/go/codec"
	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/internal/fault"
)

// frameHeaderBytes is the size of what stands before a frame's payload:
// length u32, kind u8, version u8, flags u16, xxh3-64 u64, little-endian.
const frameHeaderBytes = 16

// arenaBytes is the block from which encoded frames are cut, so that most
// records cost no allocation.
const arenaBytes = 64 << 10

// newHandle configures msgpack: structs are arrays, so field order is the
// format; strings and byte strings are told apart.
func newHandle() *codec.MsgpackHandle {
	h := new(codec.MsgpackHandle)
	h.WriteExt = true
	h.StructToArray = true
	h.MaxInitLen = recordItemsInit
	h.MaxDepth = 16
	return h
}

// frameEncoder encodes structs to frames. It keeps its encoder and buffers, so
// that a frame costs no allocation but its share of an arena.
type frameEncoder struct {
	encoder *codec.Encoder
	scratch []byte
	arena   []byte
}

func newFrameEncoder() *frameEncoder {
	e := &frameEncoder{scratch: make([]byte, 0, 4096)}
	e.encoder = codec.NewEncoderBytes(&e.scratch, newHandle())
	return e
}

// encode frames value, a pointer to a struct. The bytes are never written
// again. A payload above recordBytesMax is an error.
func (e *frameEncoder) encode(kind uint8, value any) ([]byte, error) {
	e.scratch = e.scratch[:0]
	if r, ok := value.(packed); ok {
		e.scratch = r.pack(e.scratch)
	} else if err := e.encodeStruct(value); err != nil {
		return nil, fmt.Errorf("encode record kind %d: %w", kind, err)
	}
	if len(e.scratch) > recordBytesMax {
		return nil, fmt.Errorf("record kind %d has %d bytes, at most %d are allowed", kind, len(e.scratch), recordBytesMax)
	}
	size := frameHeaderBytes + len(e.scratch)
	if size > cap(e.arena)-len(e.arena) {
		e.arena = make([]byte, 0, max(arenaBytes, size))
	}
	start := len(e.arena)
	e.arena = e.arena[:start+size]
	frame := e.arena[start : start+size : start+size]
	binary.LittleEndian.PutUint32(frame, uint32(len(e.scratch)))
	frame[4], frame[5] = kind, recordVersion
	frame[6], frame[7] = 0, 0
	copy(frame[frameHeaderBytes:], e.scratch)
	binary.LittleEndian.PutUint64(frame[8:], frameSum(frame))
	return frame, nil
}

// encodeStruct has the codec write value to the scratch buffer.
func (e *frameEncoder) encodeStruct(value any) error {
	e.encoder.ResetBytes(&e.scratch)
	return e.encoder.Encode(value)
}

// frameSum covers the first 8 header bytes (as the hash's seed) and the payload.
func frameSum(frame []byte) uint64 {
	return xxh3.HashSeed(frame[frameHeaderBytes:], binary.LittleEndian.Uint64(frame))
}

// cutFrame checks the frame at the start of data and splits it off. Errors are
// fault.CorruptData, or fault.Version for flags that this program lacks.
func cutFrame(data []byte) (kind, version uint8, payload, rest []byte, err error) {
	if len(data) < frameHeaderBytes {
		return 0, 0, nil, nil, fault.New(fault.CorruptData, "read record", "%d bytes left, a frame header has %d", len(data), frameHeaderBytes)
	}
	length := binary.LittleEndian.Uint32(data)
	if length > recordBytesMax {
		return 0, 0, nil, nil, fault.New(fault.CorruptData, "read record", "length %d is above the limit of %d", length, recordBytesMax)
	}
	if uint64(length) > uint64(len(data)-frameHeaderBytes) {
		return 0, 0, nil, nil, fault.New(fault.CorruptData, "read record", "length %d, but %d bytes are left", length, len(data)-frameHeaderBytes)
	}
	frame := data[:frameHeaderBytes+int(length)]
	if got, want := frameSum(frame), binary.LittleEndian.Uint64(frame[8:]); got != want {
		return 0, 0, nil, nil, fault.New(fault.CorruptData, "read record", "checksum %016x does not match the stored %016x", got, want)
	}
	kind, version = frame[4], frame[5]
	if flags := binary.LittleEndian.Uint16(frame[6:]); flags != 0 {
		return 0, 0, nil, nil, fault.New(fault.Version, "read record", "record kind %d has flags %#x, this program knows none", kind, flags)
	}
	if version == 0 {
		return 0, 0, nil, nil, fault.New(fault.CorruptData, "read record", "record kind %d has version 0", kind)
	}
	return kind, version, frame[frameHeaderBytes:], data[len(frame):], nil
}

// frameDecoder decodes payloads; it keeps its decoder.
type frameDecoder struct{ decoder *codec.Decoder }

func newFrameDecoder() *frameDecoder {
	return &frameDecoder{decoder: codec.NewDecoderBytes(nil, newHandle())}
}

// decode reads payload, which must be one msgpack array and nothing else, into
// value, a pointer to a zero struct. Elements that value lacks are skipped:
// a newer writer of the same version may have added them.
func (d *frameDecoder) decode(payload []byte, value any) error {
	if len(payload) == 0 || payload[0]&0xf0 != 0x90 && payload[0] != 0xdc && payload[0] != 0xdd {
		return fault.New(fault.CorruptData, "decode record", "the payload is no array")
	}
	d.decoder.ResetBytes(payload)
	if err := d.decoder.Decode(value); err != nil {
		return &fault.Error{Kind: fault.CorruptData, Op: "decode record", Reason: "the payload is malformed", Err: err}
	}
	if n := d.decoder.NumBytesRead(); n != len(payload) {
		return fault.New(fault.CorruptData, "decode record", "the payload has %d bytes after its end", len(payload)-n)
	}
	return nil
}

// decodeRecord reads one framed edit record that fills data.
func (d *frameDecoder) decodeRecord(data []byte) (record, error) {
	kind, version, payload, rest, err := cutFrame(data)
	if err != nil {
		return nil, err
	}
	if len(rest) != 0 {
		return nil, fault.New(fault.CorruptData, "read record", "%d bytes follow the frame", len(rest))
	}
	r := newRecord(kind)
	if r == nil || version > recordVersion {
		e := fault.New(fault.Version, "read record", "record kind %d version %d is not known", kind, version)
		e.Hint = "the log was written by a newer program; run that one"
		return nil, e
	}
	if f, ok := r.(fast); ok {
		if readFast(f, payload) {
			return r, nil
		}
		r = newRecord(kind)
	}
	if err := d.decode(payload, r); err != nil {
		return nil, err
	}
	return r, nil
}
