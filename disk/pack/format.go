package pack

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// The pack segment, version 1; docs/format/pack.md has the tables. All numbers are little endian, everything
// begins on a sector.
//
//	   0  segment header       512 B
//	 512  record header        512 B
//	1024  data of the chunk    padded with zeros to whole sectors
//	   …  record header …
const (
	packVersion = 1
	packSuffix  = ".pack"
)

var (
	segmentMagic = [8]byte{'W', 'W', 'p', 'a', 'c', 'k', 0, 0}
	recordMagic  = [8]byte{'W', 'W', 'r', 'e', 'c', 'o', 'r', 'd'}
)

// RecordBytes is the room of a record with length bytes of data.
func RecordBytes(length int64) int64 {
	return chunkfile.SectorBytes + (length+chunkfile.SectorBytes-1)/chunkfile.SectorBytes*chunkfile.SectorBytes
}

// segmentName identifies a segment.
type segmentName struct {
	sequence uint64 // order of the segments of a volume, from 1
	// key seeds the sums of the record headers. It is random, so that bytes that a client stored never pass
	// for a record when damage has to be skipped.
	key uint64
}

// String is "<sequence, 16 hex digits>_<key, 16 hex digits>.pack".
func (n segmentName) String() string {
	return fmt.Sprintf("%016x_%016x%s", n.sequence, n.key, packSuffix)
}

// parseSegmentName reads a name that String made.
func parseSegmentName(text string) (name segmentName, ok bool) {
	stem, ok := strings.CutSuffix(text, packSuffix)
	if !ok {
		return segmentName{}, false
	}
	sequenceText, keyText, _ := strings.Cut(stem, "_")
	sequence, err := strconv.ParseUint(sequenceText, 16, 64)
	if err != nil {
		return segmentName{}, false
	}
	key, err := strconv.ParseUint(keyText, 16, 64)
	if err != nil {
		return segmentName{}, false
	}
	name = segmentName{sequence: sequence, key: key}
	return name, name.sequence > 0 && name.String() == text
}

// putSegmentHeader writes the first sector of a segment into b[:sectorBytes].
func putSegmentHeader(b []byte, n segmentName) {
	b = b[:chunkfile.SectorBytes]
	clear(b)
	copy(b, segmentMagic[:])
	binary.LittleEndian.PutUint32(b[8:], packVersion)
	binary.LittleEndian.PutUint32(b[12:], chunkfile.SectorBytes)
	binary.LittleEndian.PutUint64(b[16:], n.sequence)
	binary.LittleEndian.PutUint64(b[24:], n.key)
	chunkfile.SealSector(b)
}

// parseSegmentHeader checks the first sector of the segment named n. Errors: fault.CorruptData (the records
// may still be good: they do not depend on it), fault.Version.
func parseSegmentHeader(b []byte, name segmentName) error {
	const op = "parse segment header"
	b = b[:chunkfile.SectorBytes]
	if [8]byte(b) != segmentMagic || !chunkfile.SectorOK(b) {
		return fault.New(fault.CorruptData, op, "magic %x, or the sector does not match its checksum", b[:8])
	}
	if v, align := binary.LittleEndian.Uint32(b[8:]),
		binary.LittleEndian.Uint32(b[12:]); v != packVersion || align != chunkfile.SectorBytes {
		return fault.New(fault.Version, op, "format version %d in sectors of %d bytes, this program knows %d and %d",
			v, align, packVersion, chunkfile.SectorBytes)
	}
	if binary.LittleEndian.Uint64(b[16:]) != name.sequence || binary.LittleEndian.Uint64(b[24:]) != name.key {
		return fault.New(fault.CorruptData, op, "it is that of another segment")
	}
	return nil
}

// Record is one replica in a segment: what its header says.
type Record struct {
	ID         chunk.ID
	Generation chunk.Generation
	ChunkSize  int64
	Length     int64  // of the data: 0..DataBytesMax
	Sum        uint64 // xxh3-64 of the data
	Offset     int64  // of the header in the segment
	// durable: everything before this offset was on the disk when the record was written. A gap there is
	// damage; from there on it may be a batch that power failure tore.
	durable int64
	// removed is when the replica was deleted, to the millisecond; zero while it lives. It is set in place:
	// the header is one sector, which a disk writes whole or not at all.
	removed time.Time
}

// bytes is the room that the record takes.
func (r Record) bytes() int64 { return RecordBytes(r.Length) }

// end is the offset behind the record.
func (r Record) end() int64 { return r.Offset + r.bytes() }

// putRecord writes the header of r, in segment n, into b[:sectorBytes].
func putRecord(b []byte, name segmentName, record Record) {
	b = b[:chunkfile.SectorBytes]
	clear(b)
	copy(b, recordMagic[:])
	binary.LittleEndian.PutUint32(b[8:], packVersion)
	binary.LittleEndian.PutUint32(b[12:], uint32(record.Length))
	copy(b[16:32], record.ID[:])
	binary.LittleEndian.PutUint64(b[32:], uint64(record.Generation))
	binary.LittleEndian.PutUint64(b[40:], uint64(record.ChunkSize))
	binary.LittleEndian.PutUint64(b[48:], record.Sum)
	binary.LittleEndian.PutUint64(b[56:], name.sequence)
	binary.LittleEndian.PutUint64(b[64:], uint64(record.Offset))
	binary.LittleEndian.PutUint64(b[72:], uint64(record.durable))
	if !record.removed.IsZero() {
		binary.LittleEndian.PutUint64(b[80:], uint64(record.removed.UnixMilli()))
	}
	const body = chunkfile.SectorBytes - chunkfile.SumBytes
	binary.LittleEndian.PutUint64(b[body:], xxh3.HashSeed(b[:body], name.key))
}

// parseRecord reads the header at an offset of segment n from b[:sectorBytes]. Errors: fault.CorruptData for
// anything that putRecord does not write there, fault.Version for what a later program wrote.
func parseRecord(b []byte, name segmentName, offset int64) (Record, error) {
	const op = "parse record header"
	b = b[:chunkfile.SectorBytes]
	if [8]byte(b) != recordMagic {
		return Record{}, errNoRecord
	}
	const body = chunkfile.SectorBytes - chunkfile.SumBytes
	if binary.LittleEndian.Uint64(b[body:]) != xxh3.HashSeed(b[:body], name.key) {
		return Record{}, fault.New(fault.CorruptData, op, "the sector does not match its checksum")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != packVersion {
		return Record{}, fault.New(fault.Version, op, "format version %d, this program knows %d", v, packVersion)
	}
	record := Record{ID: chunk.ID(b[16:32]), Generation: chunk.Generation(binary.LittleEndian.Uint64(b[32:])),
		ChunkSize: int64(binary.LittleEndian.Uint64(b[40:])), Length: int64(binary.LittleEndian.Uint32(b[12:])),
		Sum: binary.LittleEndian.Uint64(b[48:]), Offset: int64(binary.LittleEndian.Uint64(b[64:])),
		durable: int64(binary.LittleEndian.Uint64(b[72:]))}
	at := binary.LittleEndian.Uint64(b[80:])
	if at != 0 {
		record.removed = time.UnixMilli(int64(at))
	}
	switch {
	case binary.LittleEndian.Uint64(b[56:]) != name.sequence || record.Offset != offset:
		return Record{}, fault.New(fault.CorruptData, op, "it belongs to another place")
	case record.ID.IsZero() || record.Generation == 0 || chunkfile.CheckSize(record.ChunkSize) != nil ||
		record.Length > min(record.ChunkSize, DataBytesMax) ||
		record.durable < 0 || record.durable > offset || at >= 1<<48:
		return Record{}, fault.New(fault.CorruptData, op, "chunk %s, generation %d, %d of %d bytes, durable to %d",
			record.ID, record.Generation, record.Length, record.ChunkSize, record.durable)
	}
	return record, nil
}

// errNoRecord: there is no header at all, which is ordinary behind the last one.
var errNoRecord = fault.New(fault.CorruptData, "parse record header", "there is none")
