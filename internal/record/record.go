// Package record frames the records of a record-append file (GFS §3.3): many
// clients append to one file at once, each record lands whole and at least
// once, and a reader tells records from the remains of failed attempts.
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
	// ResyncBytes is the raster on which writing starts again after a failure,
	// and on which a reader that meets bytes which are no frame looks again. It
	// divides every chunk size.
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
func AppendFrame(b []byte, h Header, payload []byte) ([]byte, error) {
	if len(payload) > PayloadBytesMax {
		return b, fault.New(fault.Invalid, "append record", "record of %d bytes, the limit is %d", len(payload), PayloadBytesMax)
	}
	start := len(b)
	b = append(b, make([]byte, HeaderBytes)...)
	f := b[start:]
	binary.LittleEndian.PutUint32(f[8:], Magic)
	f[12], f[13] = Version, kindRecord
	binary.LittleEndian.PutUint32(f[16:], uint32(len(payload)))
	copy(f[24:40], h.Writer[:])
	binary.LittleEndian.PutUint64(f[40:], h.Sequence)
	binary.LittleEndian.PutUint64(f[48:], uint64(h.Offset))
	b = append(b, payload...)
	f = b[start:]
	binary.LittleEndian.PutUint64(f, xxh3.Hash(f[8:]))
	return b, nil
}

// ParseHeader reads a frame's header from b[:HeaderBytes] that stands at
// offset in its file. It does not verify the sum, which covers the payload
// too. Error: fault.CorruptData when no frame begins here.
func ParseHeader(b []byte, offset int64) (Header, error) {
	const op = "read record header"
	_ = b[HeaderBytes-1]
	h := Header{
		Sequence: binary.LittleEndian.Uint64(b[40:]),
		Offset:   int64(binary.LittleEndian.Uint64(b[48:])),
		Length:   int(binary.LittleEndian.Uint32(b[16:])),
	}
	copy(h.Writer[:], b[24:40])
	switch {
	case binary.LittleEndian.Uint32(b[8:]) != Magic:
		return Header{}, fault.New(fault.CorruptData, op, "no record begins at offset %d", offset)
	case b[12] != Version:
		return Header{}, fault.New(fault.CorruptData, op, "record version %d at offset %d, this reader knows %d", b[12], offset, Version)
	case b[13] != kindRecord || binary.LittleEndian.Uint16(b[14:]) != 0 || binary.LittleEndian.Uint32(b[20:]) != 0:
		return Header{}, fault.New(fault.CorruptData, op, "impossible record header at offset %d", offset)
	case h.Length > PayloadBytesMax:
		return Header{}, fault.New(fault.CorruptData, op, "record of %d bytes at offset %d, the limit is %d", h.Length, offset, PayloadBytesMax)
	case h.Offset != offset:
		return Header{}, fault.New(fault.CorruptData, op, "a record of offset %d stands at offset %d", h.Offset, offset)
	}
	return h, nil
}

// Verify checks a whole frame (header and payload in one piece) against its
// sum. Error: fault.CorruptData.
func Verify(frame []byte) error {
	if got, want := xxh3.Hash(frame[8:]), binary.LittleEndian.Uint64(frame); got != want {
		return fault.New(fault.CorruptData, "verify record", "checksum is %016x, the record says %016x", got, want)
	}
	return nil
}

// NextStart is where a writer goes on after a failure, and where a reader looks
// next when the bytes at offset are no frame: the next multiple of ResyncBytes
// above offset.
func NextStart(offset int64) int64 { return (offset/ResyncBytes + 1) * ResyncBytes }
