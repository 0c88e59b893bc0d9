package record

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/whispering-woods/ww/internal/fault"
)

// Record is one record of a file.
type Record struct {
	Header
	Sum     uint64 // the frame's checksum
	Payload []byte // valid until the scanner's next call
}

// Scanner reads the records of a file in order, skips what failed attempts left behind, and drops the duplicates
// that retries made: of one writer it delivers rising sequences only. One goroutine at a time.
type Scanner struct {
	source io.ReaderAt
	offset int64 // next frame is expected here
	limit  func() (int64, error)
	frame  []byte
	last   map[WriterID]uint64

	skipped    int64
	duplicates int64
}

// NewScanner reads from source, starting at a frame's offset (or 0). limit returns how many bytes of source may be
// read now; it is called again whenever the scanner reaches it, so a growing file can be followed.
func NewScanner(source io.ReaderAt, offset int64, limit func() (int64, error)) *Scanner {
	return &Scanner{source: source, offset: offset, limit: limit, last: make(map[WriterID]uint64)}
}

// Offset is where the next record is looked for; a later scanner can start there.
func (s *Scanner) Offset() int64 { return s.offset }

// ContinueAt makes the scanner go on at the offset of another frame. It still drops
// the records that it delivered before.
func (s *Scanner) ContinueAt(offset int64) { s.offset = offset }

// Skipped counts the bytes that belonged to no record.
func (s *Scanner) Skipped() int64 { return s.skipped }

// Duplicates counts the records that a retry had written again.
func (s *Scanner) Duplicates() int64 { return s.duplicates }

// Next returns the next record. io.EOF: none is complete yet; call again once the file has grown. Other errors are
// those of the source; after one the scanner can be called again.
func (s *Scanner) Next() (Record, error) {
	for {
		limit, err := s.limit()
		if err != nil {
			return Record{}, err
		}
		header, err := s.read(limit)
		switch {
		case errors.Is(err, fault.CorruptData):
			next := NextStart(s.offset)
			if next > limit { // perhaps a record that is still being written
				return Record{}, io.EOF
			}
			s.skipped += next - s.offset
			s.offset = next
			continue
		case err != nil:
			return Record{}, err
		}
		s.offset += int64(HeaderBytes + header.Length)
		if header.Sequence <= s.last[header.Writer] {
			s.duplicates++
			continue
		}
		s.last[header.Writer] = header.Sequence
		return Record{Header: header, Sum: binary.LittleEndian.Uint64(s.frame), Payload: s.frame[HeaderBytes:]}, nil
	}
}

// read brings the frame at s.offset into s.frame. io.EOF: it is not complete
// below limit. fault.CorruptData: no frame is here.
func (s *Scanner) read(limit int64) (Header, error) {
	if limit-s.offset < HeaderBytes {
		return Header{}, s.unlessPast(limit)
	}
	s.frame = grow(s.frame, HeaderBytes)
	if err := s.fill(0); err != nil {
		return Header{}, err
	}
	header, err := ParseHeader(s.frame, s.offset)
	if err != nil {
		return Header{}, err
	}
	if limit-s.offset < int64(HeaderBytes+header.Length) {
		return Header{}, s.unlessPast(limit)
	}
	s.frame = grow(s.frame, HeaderBytes+header.Length)
	if err := s.fill(HeaderBytes); err != nil {
		return Header{}, err
	}
	return header, Verify(s.frame)
}

// unlessPast decides what an incomplete frame means: a writer that begins again does so on the raster, so an incomplete
// frame with bytes after the next raster point may be a remnant; the header alone can't tell, and the bytes beyond do.
func (s *Scanner) unlessPast(limit int64) error {
	next := NextStart(s.offset)
	if limit-next < HeaderBytes {
		return io.EOF
	}
	header := make([]byte, HeaderBytes)
	for ; limit-next >= HeaderBytes; next += ResyncBytes {
		if err := readFull(s.source, header, next); err != nil {
			return err
		}
		if _, err := ParseHeader(header, next); err == nil {
			return fault.New(fault.CorruptData, "read record", "the record at offset %d was cut off", s.offset)
		}
	}
	return io.EOF
}

func (s *Scanner) fill(from int) error {
	return readFull(s.source, s.frame[from:], s.offset+int64(from))
}

// readFull fills p. The limit promised the bytes, so a short read is an error.
func readFull(source io.ReaderAt, p []byte, offset int64) error {
	n, err := source.ReadAt(p, offset)
	switch {
	case n == len(p):
		return nil
	case err == nil, errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}

func grow(b []byte, n int) []byte {
	if cap(b) >= n {
		return b[:n]
	}
	c := make([]byte, n, max(n, 2*cap(b)))
	copy(c, b)
	return c
}
