package chunkfile

import (
	"encoding/binary"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// The chunk file, version 1; docs/format/chunk-file.md has the tables. All
// numbers are little endian.
//
//	   0  header            512 B
//	 512  sync slot 0       512 B
//	1024  sync slot 1       512 B
//	1536  flush slot        512 B
//	2048  block sums        8 B per 64 KiB block of the chunk size
//	data offset             raw bytes of the chunk
const (
	blockBytes    = chunk.ChecksumBlockBytes
	formatVersion = 1
	SectorBytes   = 512
	SumBytes      = 8
	slotCount     = 3
	FlushSlot     = 2 // index; 0 and 1 are the sync slots
	PreludeBytes  = SectorBytes * (1 + slotCount)
	SumsOffset    = PreludeBytes
	dataAlign     = 4096
)

var (
	headerMagic = [8]byte{'W', 'W', 'c', 'h', 'u', 'n', 'k', 0}
	slotMagic   = [8]byte{'W', 'W', 's', 'l', 'o', 't', 0, 0}
)

// Layout says where things are in the file of a chunk of some size.
type Layout struct {
	ChunkSize  int64
	DataOffset int64
}

func LayoutOf(chunkSize int64) Layout {
	end := SumsOffset + SumBytes*(chunkSize/blockBytes)
	return Layout{ChunkSize: chunkSize, DataOffset: (end + dataAlign - 1) / dataAlign * dataAlign}
}

// SumAt is the offset in the file of the sum of a block.
func (l Layout) SumAt(block int64) int64 { return SumsOffset + SumBytes*block }

// Blocks of the chunk when it is full.
func (l Layout) Blocks() int64 { return l.ChunkSize / blockBytes }

func CheckSize(size int64) error {
	if size < blockBytes || size > chunk.SizeMax || size%blockBytes != 0 {
		return fault.New(fault.Invalid, "create replica", "chunk size is %d bytes, must be a multiple of %d up to %d", size, blockBytes, chunk.SizeMax)
	}
	return nil
}

// Header is the first sector: what never changes.
type Header struct {
	ID        chunk.ID
	ChunkSize int64
}

// PutHeader writes h into b[:sectorBytes].
func PutHeader(b []byte, h Header) {
	b = b[:SectorBytes]
	clear(b)
	copy(b, headerMagic[:])
	binary.LittleEndian.PutUint32(b[8:], formatVersion)
	binary.LittleEndian.PutUint32(b[12:], blockBytes)
	copy(b[16:32], h.ID[:])
	binary.LittleEndian.PutUint64(b[32:], uint64(h.ChunkSize))
	binary.LittleEndian.PutUint64(b[40:], uint64(LayoutOf(h.ChunkSize).DataOffset))
	SealSector(b)
}

// parseHeader reads a header from b[:sectorBytes]. Errors: fault.CorruptData,
// fault.Version.
func parseHeader(b []byte) (Header, error) {
	const op = "parse chunk file header"
	b = b[:SectorBytes]
	if [8]byte(b) != headerMagic {
		return Header{}, fault.New(fault.CorruptData, op, "magic is %x", b[:8])
	}
	if !SectorOK(b) {
		return Header{}, fault.New(fault.CorruptData, op, "the sector does not match its checksum")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != formatVersion {
		return Header{}, fault.New(fault.Version, op, "format version %d, this program knows %d", v, formatVersion)
	}
	h := Header{ID: chunk.ID(b[16:32]), ChunkSize: int64(binary.LittleEndian.Uint64(b[32:]))}
	if n := binary.LittleEndian.Uint32(b[12:]); n != blockBytes {
		return Header{}, fault.New(fault.Version, op, "checksum blocks of %d bytes, this program knows %d", n, blockBytes)
	}
	if CheckSize(h.ChunkSize) != nil {
		return Header{}, fault.New(fault.CorruptData, op, "chunk size %d", h.ChunkSize)
	}
	if at := int64(binary.LittleEndian.Uint64(b[40:])); at != LayoutOf(h.ChunkSize).DataOffset {
		return Header{}, fault.New(fault.CorruptData, op, "data offset %d, want %d", at, LayoutOf(h.ChunkSize).DataOffset)
	}
	return h, nil
}

// Slot records a length of the replica and the sum of the block that ends
// there.
type Slot struct {
	ID         chunk.ID // of another chunk: the sector is not ours
	Index      int      // 0..2: its place in the file
	Counter    uint64   // order of all slots of a replica; from 1
	Generation chunk.Generation
	Promised   chunk.Generation // lowest generation that may write on; 0: any
	Length     int64
	Partial    uint64 // xxh3-64 of the bytes from the last block border to length; 0 on a border
}

// PutSlot writes s into b[:sectorBytes], whose unused bytes must be 0.
func PutSlot(b []byte, s Slot) {
	b = b[:SectorBytes]
	copy(b, slotMagic[:])
	binary.LittleEndian.PutUint32(b[8:], formatVersion)
	binary.LittleEndian.PutUint32(b[12:], uint32(s.Index))
	copy(b[16:32], s.ID[:])
	binary.LittleEndian.PutUint64(b[32:], s.Counter)
	binary.LittleEndian.PutUint64(b[40:], uint64(s.Generation))
	binary.LittleEndian.PutUint64(b[48:], uint64(s.Promised))
	binary.LittleEndian.PutUint64(b[56:], uint64(s.Length))
	binary.LittleEndian.PutUint64(b[64:], s.Partial)
	SealSector(b)
}

// parseSlot reads the slot at an index from b[:sectorBytes]. ok is false for
// anything but a whole slot of this chunk, at its place, that fits the chunk
// size; a torn or empty one is no error.
func parseSlot(b []byte, index int, h Header) (s Slot, ok bool) {
	b = b[:SectorBytes]
	if [8]byte(b) != slotMagic || !SectorOK(b) || binary.LittleEndian.Uint32(b[8:]) != formatVersion {
		return Slot{}, false
	}
	s = Slot{
		ID: chunk.ID(b[16:32]), Index: index,
		Counter:    binary.LittleEndian.Uint64(b[32:]),
		Generation: chunk.Generation(binary.LittleEndian.Uint64(b[40:])),
		Promised:   chunk.Generation(binary.LittleEndian.Uint64(b[48:])),
		Length:     int64(binary.LittleEndian.Uint64(b[56:])),
		Partial:    binary.LittleEndian.Uint64(b[64:]),
	}
	ok = s.ID == h.ID && binary.LittleEndian.Uint32(b[12:]) == uint32(index) && s.Counter > 0 &&
		s.Length >= 0 && s.Length <= h.ChunkSize
	return s, ok
}
