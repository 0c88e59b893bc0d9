package chunkfile

import (
	"encoding/binary"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// The chunk file, version 1; docs/format/chunk-file.md has the tables. All numbers are little endian.
//
//	   0  header            512 B
//	 512  sync slot 0       512 B
//	1024  sync slot 1       512 B
//	1536  flush slot        512 B
//	2048  block sums        8 B per 64 KiB block of the chunk size
//	data offset             raw bytes of the chunk
const (
	SectorBytes = 512 // what a disk writes whole or not at all
	SumBytes    = 8   // the room of one xxh3-64

	blockBytes    = chunk.ChecksumBlockBytes
	formatVersion = 1
	slotCount     = 3
	flushSlot     = 2 // index; 0 and 1 are the sync slots
	preludeBytes  = SectorBytes * (1 + slotCount)
	sumsOffset    = preludeBytes
	dataAlign     = 4096
)

var (
	headerMagic = [8]byte{'W', 'W', 'c', 'h', 'u', 'n', 'k', 0}
	slotMagic   = [8]byte{'W', 'W', 's', 'l', 'o', 't', 0, 0}
)

// Layout says where things are in the file of a chunk of some size.
type Layout struct {
	ChunkSize int64 // most bytes that the chunk may get
}

// DataOffset is where in the file byte 0 of the chunk is.
func (l Layout) DataOffset() int64 {
	return (l.sumAt(l.blocks()) + dataAlign - 1) / dataAlign * dataAlign
}

// sumAt is the offset in the file of the sum of a block.
func (l Layout) sumAt(block int64) int64 { return sumsOffset + SumBytes*block }

// blocks of the chunk when it is full.
func (l Layout) blocks() int64 { return l.ChunkSize / blockBytes }

// CheckSize refuses what is no chunk size. Error: fault.Invalid.
func CheckSize(size int64) error {
	if reason := limits.CheckChunkSize(size); reason != "" {
		return fault.New(fault.Invalid, "create replica", "%s", reason)
	}
	return nil
}

// Header is the first sector: what never changes.
type Header struct {
	ID chunk.ID
	Layout
}

// putHeader writes h into b[:SectorBytes].
func putHeader(b []byte, h Header) {
	b = b[:SectorBytes]
	clear(b)
	copy(b, headerMagic[:])
	binary.LittleEndian.PutUint32(b[8:], formatVersion)
	binary.LittleEndian.PutUint32(b[12:], blockBytes)
	copy(b[16:32], h.ID[:])
	binary.LittleEndian.PutUint64(b[32:], uint64(h.ChunkSize))
	binary.LittleEndian.PutUint64(b[40:], uint64(h.DataOffset()))
	SealSector(b)
}

// parseHeader reads a header from b[:SectorBytes]. Errors: fault.CorruptData, fault.Version.
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
	header := Header{ID: chunk.ID(b[16:32]), Layout: Layout{int64(binary.LittleEndian.Uint64(b[32:]))}}
	if n := binary.LittleEndian.Uint32(b[12:]); n != blockBytes {
		return Header{}, fault.New(fault.Version, op, "checksum blocks of %d bytes, this program knows %d", n,
			blockBytes)
	}
	if CheckSize(header.ChunkSize) != nil {
		return Header{}, fault.New(fault.CorruptData, op, "chunk size %d", header.ChunkSize)
	}
	if at := int64(binary.LittleEndian.Uint64(b[40:])); at != header.DataOffset() {
		return Header{}, fault.New(fault.CorruptData, op, "data offset %d, want %d", at, header.DataOffset())
	}
	return header, nil
}

// slot records an end of the replica.
type slot struct {
	id       chunk.ID         // of another chunk: the sector is not ours
	index    int              // 0..2: its place in the file
	counter  uint64           // order of all slots of a replica; from 1
	promised chunk.Generation // lowest generation that may write on; 0: any
	End
}

// putSlot writes s into b[:SectorBytes], whose unused bytes must be 0.
func putSlot(b []byte, s slot) {
	b = b[:SectorBytes]
	copy(b, slotMagic[:])
	binary.LittleEndian.PutUint32(b[8:], formatVersion)
	binary.LittleEndian.PutUint32(b[12:], uint32(s.index))
	copy(b[16:32], s.id[:])
	binary.LittleEndian.PutUint64(b[32:], s.counter)
	binary.LittleEndian.PutUint64(b[40:], uint64(s.Generation))
	binary.LittleEndian.PutUint64(b[48:], uint64(s.promised))
	binary.LittleEndian.PutUint64(b[56:], uint64(s.Length))
	binary.LittleEndian.PutUint64(b[64:], s.Partial)
	SealSector(b)
}

// parseSlot reads the slot at an index from b[:SectorBytes]. ok is false for anything but a whole slot of
// this chunk, at its place, that fits the chunk size; a torn or empty one is no error.
func parseSlot(b []byte, index int, header Header) (found slot, ok bool) {
	b = b[:SectorBytes]
	if [8]byte(b) != slotMagic || !SectorOK(b) || binary.LittleEndian.Uint32(b[8:]) != formatVersion {
		return slot{}, false
	}
	found = slot{
		id: chunk.ID(b[16:32]), index: index,
		counter:  binary.LittleEndian.Uint64(b[32:]),
		promised: chunk.Generation(binary.LittleEndian.Uint64(b[48:])),
		End: End{Generation: chunk.Generation(binary.LittleEndian.Uint64(b[40:])),
			Length: int64(binary.LittleEndian.Uint64(b[56:])), Partial: binary.LittleEndian.Uint64(b[64:])},
	}
	ok = found.id == header.ID && binary.LittleEndian.Uint32(b[12:]) == uint32(index) && found.counter > 0 &&
		found.Length >= 0 && found.Length <= header.ChunkSize
	return found, ok
}
