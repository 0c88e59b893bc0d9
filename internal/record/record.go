// Package record frames the records of a record-append file (GFS §3.3): many clients append to one file at once,
// each record lands whole and at least once, and a reader tells records from the remains of failed attempts.
//
// The package only encodes and decodes. It owns no file, no socket and no
// goroutine. The format is described in docs/format/record.md.
package record

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/internal/fault"
)

const (
	// Magic opens the checked part of a frame: "WwR1" in little-endian order.
	Magic uint32 = 0x31527757
	// Version of the frame that this code writes.
	Version uint8 = 1
	// HeaderBytes is the size of a frame without its payload.
	HeaderBytes = 56
	// PayloadBytesMax bounds one record.
	PayloadBytesMax = 16 << 20
	// ResyncBytes is the raster on which writing starts again after a failure, and on which a reader that meets
	// bytes which are no frame looks again. It divides every chunk size.
	ResyncBytes = 64 << 10
)

// WriterID names one appending client: 16 random bytes.
type WriterID [16]byte

// Header is what a frame says of its record.
type Header struct {
	Writer   WriterID
	Sequence uint64 // of the writer, from 1, rising by 1; a retry repeats it
	Offset   int64  // of the frame's first byte in its file
	Length   int    // payload bytes, 0..PayloadBytesMax
}

// Layout, little endian:
//
//	0 sum u64 | 8 magic u32 | 12 version u8 | 13 kind u8 (1) | 14 reserved u16 (0) |
//	16 length u32 | 20 reserved u32 (0) | 24 writer [16] | 40 sequence u64 | 48 offset u64 | 56 payload
//
// sum is xxh3-64 of bytes 8..56+length. The offset keeps a frame that is part
// of another record's payload from being taken for a record.

const kindRecord = 1

// AppendFrame appends the frame of one record to b and returns it. Error:
// fault.Invalid for a payload over PayloadBytesMax.
func AppendFrame(data []byte, header Header, payload []byte) ([]byte, error) {
	if len(payload) > PayloadBytesMax {
		return data, fault.New(fault.Invalid, "append record", "record of %d bytes, the limit is %d",
			len(payload), PayloadBytesMax)
	}
	start := len(data)
	data = append(data, make([]byte, HeaderBytes)...)
	fields := data[start:]
	binary.LittleEndian.PutUint32(fields[8:], Magic)
	fields[12], fields[13] = Version, kindRecord
	binary.LittleEndian.PutUint32(fields[16:], uint32(len(payload)))
	copy(fields[24:40], header.Writer[:])
	binary.LittleEndian.PutUint64(fields[40:], header.Sequence)
	binary.LittleEndian.PutUint64(fields[48:], uint64(header.Offset))
	data = append(data, payload...)
	fields = data[start:]
	binary.LittleEndian.PutUint64(fields, xxh3.Hash(fields[8:]))
	return data, nil
}

// ParseHeader reads a frame's header from b[:HeaderBytes] that stands at offset in its file. It does not verify the
// sum, which covers the payload too. Error: fault.CorruptData when no frame begins here.
func ParseHeader(data []byte, offset int64) (Header, error) {
	const op = "read record header"
	_ = data[HeaderBytes-1]
	header := Header{
		Sequence: binary.LittleEndian.Uint64(data[40:]),
		Offset:   int64(binary.LittleEndian.Uint64(data[48:])),
		Length:   int(binary.LittleEndian.Uint32(data[16:])),
	}
	copy(header.Writer[:], data[24:40])
	switch {
	case binary.LittleEndian.Uint32(data[8:]) != Magic:
		return Header{}, fault.New(fault.CorruptData, op, "no record begins at offset %d", offset)
	case data[12] != Version:
		return Header{}, fault.New(fault.CorruptData, op, "record version %d at offset %d, this reader knows %d",
			data[12], offset, Version)
	case data[13] != kindRecord || binary.LittleEndian.Uint16(data[14:]) != 0 ||
		binary.LittleEndian.Uint32(data[20:]) != 0:
		return Header{}, fault.New(fault.CorruptData, op, "impossible record header at offset %d", offset)
	case header.Length > PayloadBytesMax:
		return Header{}, fault.New(fault.CorruptData, op, "record of %d bytes at offset %d, the limit is %d",
			header.Length, offset, PayloadBytesMax)
	case header.Offset != offset:
		return Header{}, fault.New(fault.CorruptData, op, "a record of offset %d stands at offset %d",
			header.Offset, offset)
	}
	return header, nil
}

// Verify checks a whole frame (header and payload in one piece) against its sum. Error: fault.CorruptData.
func Verify(frame []byte) error {
	if got, want := xxh3.Hash(frame[8:]), binary.LittleEndian.Uint64(frame); got != want {
		return fault.New(fault.CorruptData, "verify record", "checksum is %016x, the record says %016x", got, want)
	}
	return nil
}

// NextStart is where a writer goes on after a failure, and where a reader looks next when the bytes at offset are
// no frame: the next multiple of ResyncBytes above offset.
func NextStart(offset int64) int64 { return (offset/ResyncBytes + 1) * ResyncBytes }
