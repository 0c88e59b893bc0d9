package copies

import (
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/internal/chunk"
)

// Of docs/format/pack.md, read apart from the code that is tested.
const (
	sectorBytes = 512
	windowBytes = 256 << 10
)

// segment is what is known of a pack segment: where its records are. Their headers are read again for every look,
// because a deletion changes them in place.
type segment struct {
	path          string
	sequence, key uint64
	end           int64 // behind the last record
	records       map[chunk.ID][]place
}

// place is where a record was met.
type place struct {
	offset     int64
	generation chunk.Generation
}

// parseSegment takes the name of a segment apart.
func parseSegment(directory, name string) (*segment, bool) {
	stem, ok := strings.CutSuffix(name, ".pack")
	sequenceText, keyText, cut := strings.Cut(stem, "_")
	sequence, sequenceErr := strconv.ParseUint(sequenceText, 16, 64)
	key, keyErr := strconv.ParseUint(keyText, 16, 64)
	return &segment{path: filepath.Join(directory, name), sequence: sequence, key: key, end: sectorBytes,
		records: map[chunk.ID][]place{}}, ok && cut && sequenceErr == nil && keyErr == nil
}

// packed is the header of a record.
type packed struct {
	id         chunk.ID
	generation chunk.Generation
	length     int64
	sum        uint64
	removed    bool
}

// parse reads a record's header; ok is false for anything else.
func (s *segment) parse(b []byte, offset int64) (packed, bool) {
	number := binary.LittleEndian
	const body = sectorBytes - 8
	if string(b[:8]) != "WWrecord" || number.Uint64(b[body:]) != xxh3.HashSeed(b[:body], s.key) ||
		number.Uint64(b[56:]) != s.sequence || number.Uint64(b[64:]) != uint64(offset) {
		return packed{}, false
	}
	return packed{
		id: chunk.ID(b[16:32]), generation: chunk.Generation(number.Uint64(b[32:])),
		length: int64(number.Uint32(b[12:])), sum: number.Uint64(b[48:]), removed: number.Uint64(b[80:]) != 0,
	}, true
}

// follow looks for records behind the last one that is known.
func (s *segment) follow(file io.ReaderAt) {
	window := make([]byte, windowBytes)
	for {
		n, _ := file.ReadAt(window, s.end)
		next := int64(0)
		for next+sectorBytes <= int64(n) {
			record, ok := s.parse(window[next:next+sectorBytes], s.end+next)
			if !ok {
				s.end += next
				return
			}
			s.records[record.id] = append(s.records[record.id], place{s.end + next, record.generation})
			next += sectorBytes + (record.length+sectorBytes-1)/sectorBytes*sectorBytes
		}
		s.end += next
		if n < len(window) {
			return
		}
	}
}

// newest returns the record of a chunk that was written last, and its bytes; nil if it was removed or is torn.
func (s *segment) newest(file *os.File, id chunk.ID) (record packed, data []byte, found bool) {
	places := s.records[id]
	header := make([]byte, sectorBytes)
	for i := len(places) - 1; i >= 0; i-- {
		if _, err := file.ReadAt(header, places[i].offset); err != nil {
			continue // cut off by a start
		}
		record, ok := s.parse(header, places[i].offset)
		if !ok {
			continue
		}
		data := make([]byte, record.length)
		_, err := file.ReadAt(data, places[i].offset+sectorBytes)
		if record.removed || err != nil || xxh3.Hash(data) != record.sum {
			return record, nil, true
		}
		return record, data, true
	}
	return packed{}, nil, false
}
