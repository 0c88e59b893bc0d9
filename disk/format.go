package disk

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"

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
	formatVersion = 1
	sectorBytes   = 512
	sumBytes      = 8
	slotCount     = 3
	flushSlot     = 2 // index; 0 and 1 are the sync slots
	preludeBytes  = sectorBytes * (1 + slotCount)
	sumsOffset    = preludeBytes
	dataAlign     = 4096
)

var (
	headerMagic = [8]byte{'W', 'W', 'c', 'h', 'u', 'n', 'k', 0}
	slotMagic   = [8]byte{'W', 'W', 's', 'l', 'o', 't', 0, 0}
)

// layout says where things are in the file of a chunk of some size.
type layout struct {
	chunkSize  int64
	dataOffset int64
}

func layoutOf(chunkSize int64) layout {
	end := sumsOffset + sumBytes*(chunkSize/blockBytes)
	return layout{chunkSize: chunkSize, dataOffset: (end + dataAlign - 1) / dataAlign * dataAlign}
}

// sumAt is the offset in the file of the sum of a block.
func (l layout) sumAt(block int64) int64 { return sumsOffset + sumBytes*block }

// blocks of the chunk when it is full.
func (l layout) blocks() int64 { return l.chunkSize / blockBytes }

func checkChunkSize(size int64) error {
	if size < blockBytes || size > chunk.SizeMax || size%blockBytes != 0 {
		return fault.New(fault.Invalid, "create replica", "chunk size is %d bytes, must be a multiple of %d up to %d", size, blockBytes, chunk.SizeMax)
	}
	return nil
}

// header is the first sector: what never changes.
type header struct {
	id        chunk.ID
	chunkSize int64
}

// putHeader writes h into b[:sectorBytes].
func putHeader(b []byte, h header) {
	b = b[:sectorBytes]
	clear(b)
	copy(b, headerMagic[:])
	binary.LittleEndian.PutUint32(b[8:], formatVersion)
	binary.LittleEndian.PutUint32(b[12:], blockBytes)
	copy(b[16:32], h.id[:])
	binary.LittleEndian.PutUint64(b[32:], uint64(h.chunkSize))
	binary.LittleEndian.PutUint64(b[40:], uint64(layoutOf(h.chunkSize).dataOffset))
	sealSector(b)
}

// parseHeader reads a header from b[:sectorBytes]. Errors: fault.CorruptData,
// fault.Version.
func parseHeader(b []byte) (header, error) {
	const op = "parse chunk file header"
	b = b[:sectorBytes]
	if [8]byte(b) != headerMagic {
		return header{}, fault.New(fault.CorruptData, op, "magic is %x", b[:8])
	}
	if !sectorOK(b) {
		return header{}, fault.New(fault.CorruptData, op, "the sector does not match its checksum")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != formatVersion {
		return header{}, fault.New(fault.Version, op, "format version %d, this program knows %d", v, formatVersion)
	}
	h := header{id: chunk.ID(b[16:32]), chunkSize: int64(binary.LittleEndian.Uint64(b[32:]))}
	if n := binary.LittleEndian.Uint32(b[12:]); n != blockBytes {
		return header{}, fault.New(fault.Version, op, "checksum blocks of %d bytes, this program knows %d", n, blockBytes)
	}
	if checkChunkSize(h.chunkSize) != nil {
		return header{}, fault.New(fault.CorruptData, op, "chunk size %d", h.chunkSize)
	}
	if at := int64(binary.LittleEndian.Uint64(b[40:])); at != layoutOf(h.chunkSize).dataOffset {
		return header{}, fault.New(fault.CorruptData, op, "data offset %d, want %d", at, layoutOf(h.chunkSize).dataOffset)
	}
	return h, nil
}

// slot records a length of the replica and the sum of the block that ends
// there.
type slot struct {
	id         chunk.ID // of another chunk: the sector is not ours
	index      int      // 0..2: its place in the file
	counter    uint64   // order of all slots of a replica; from 1
	generation chunk.Generation
	promised   chunk.Generation // lowest generation that may write on; 0: any
	length     int64
	partial    uint64 // xxh3-64 of the bytes from the last block border to length; 0 on a border
}

// putSlot writes s into b[:sectorBytes], whose unused bytes must be 0.
func putSlot(b []byte, s slot) {
	b = b[:sectorBytes]
	copy(b, slotMagic[:])
	binary.LittleEndian.PutUint32(b[8:], formatVersion)
	binary.LittleEndian.PutUint32(b[12:], uint32(s.index))
	copy(b[16:32], s.id[:])
	binary.LittleEndian.PutUint64(b[32:], s.counter)
	binary.LittleEndian.PutUint64(b[40:], uint64(s.generation))
	binary.LittleEndian.PutUint64(b[48:], uint64(s.promised))
	binary.LittleEndian.PutUint64(b[56:], uint64(s.length))
	binary.LittleEndian.PutUint64(b[64:], s.partial)
	sealSector(b)
}

// parseSlot reads the slot at an index from b[:sectorBytes]. ok is false for
// anything but a whole slot of this chunk, at its place, that fits the chunk
// size; a torn or empty one is no error.
func parseSlot(b []byte, index int, h header) (s slot, ok bool) {
	b = b[:sectorBytes]
	if [8]byte(b) != slotMagic || !sectorOK(b) || binary.LittleEndian.Uint32(b[8:]) != formatVersion {
		return slot{}, false
	}
	s = slot{
		id: chunk.ID(b[16:32]), index: index,
		counter:    binary.LittleEndian.Uint64(b[32:]),
		generation: chunk.Generation(binary.LittleEndian.Uint64(b[40:])),
		promised:   chunk.Generation(binary.LittleEndian.Uint64(b[48:])),
		length:     int64(binary.LittleEndian.Uint64(b[56:])),
		partial:    binary.LittleEndian.Uint64(b[64:]),
	}
	ok = s.id == h.id && binary.LittleEndian.Uint32(b[12:]) == uint32(index) && s.counter > 0 &&
		s.length >= 0 && s.length <= h.chunkSize
	return s, ok
}

// sealSector writes the checksum of a sector into its last 8 bytes.
func sealSector(b []byte) {
	const body = sectorBytes - sumBytes
	binary.LittleEndian.PutUint64(b[body:], xxh3.Hash(b[:body]))
}

func sectorOK(b []byte) bool {
	const body = sectorBytes - sumBytes
	return binary.LittleEndian.Uint64(b[body:]) == xxh3.Hash(b[:body])
}
