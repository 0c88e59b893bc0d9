package client

import (
	"context"
	"io"

	"github.com/whispering-woods/ww/client/internal/lifetime"
	"github.com/whispering-woods/ww/internal/bufpool"
)

// readahead fetches segments of a file before they are asked for. It belongs to one FileReader, whose lock guards it;
// each running segment has a goroutine, at most depth of them.
//
// Random reads cost little: a segment after a jump is one checksum block, and only reading on from it makes the next
// ones larger and fetches ahead.
type readahead struct {
	reader   *FileReader
	depth    int        // segments at once
	largest  int64      // bytes of a segment
	segments []*segment // adjacent, in order; the first holds the position
	grown    int64      // bytes of the next segment
	run      int        // segments read through since the last jump
}

// segment is one range being fetched, or fetched.
type segment struct {
	offset int64
	buffer *bufpool.Buffer
	cancel context.CancelFunc
	done   chan struct{} // closed when the rest is set
	n      int           // verified bytes
	err    error
}

// newReadahead bounds the segments by a sum of bytes; a negative one means only what is wanted, in checksum blocks.
func newReadahead(r *FileReader, bytes int64) *readahead {
	a := &readahead{reader: r, depth: 1, largest: segmentFirstBytes, grown: segmentFirstBytes}
	if bytes > 0 {
		a.largest = min(max(bytes/2, segmentFirstBytes), segmentBytes)
		a.depth = max(1, int(bytes/a.largest))
	}
	return a
}

// read copies what is at position to p. n > 0 comes without error.
func (a *readahead) read(p []byte, position int64) (int, error) {
	if int64(len(p)) >= a.largest && !a.holds(position) {
		n, err := a.reader.readAt(a.reader.life, p, position) // as large as a segment: no copy
		if n > 0 && err == io.EOF {                           //nolint:errorlint // a wrapped io.EOF is a failure
			err = nil
		}
		return n, err
	}
	piece, err := a.next(position)
	return copy(p, piece), err
}

// holds reports whether position is in a segment.
func (a *readahead) holds(position int64) bool {
	for _, s := range a.segments {
		if position >= s.offset && position < s.offset+int64(len(s.buffer.Bytes())) {
			return true
		}
	}
	return false
}

// next returns verified bytes at position, valid until the next call; none only with an error.
func (a *readahead) next(position int64) ([]byte, error) {
	if !a.holds(position) {
		a.drop()
		a.grown, a.run = segmentFirstBytes, 0
	}
	for len(a.segments) > 0 && position >= a.segments[0].end() {
		a.segments[0].release()
		a.segments = a.segments[1:]
		a.run++
	}
	if len(a.segments) == 0 && !a.fetch(position) {
		if _, err := a.reader.view.Extend(a.reader.life, false); err != nil {
			return nil, err
		}
		if !a.fetch(position) {
			return nil, io.EOF
		}
	}
	if a.run > 0 {
		for len(a.segments) < a.depth && a.fetch(a.segments[len(a.segments)-1].end()) {
		}
	}
	s := a.segments[0]
	<-s.done
	if at := int(position - s.offset); at < s.n {
		return s.buffer.Bytes()[at:s.n], nil
	}
	err := s.err
	a.drop()
	if err == nil {
		err = io.EOF // cannot be: a segment without error is full
	}
	return nil, err
}

// fetch starts a segment at offset, aligned to its own size so that later ones hold whole blocks; false at the end of
// what is visible.
func (a *readahead) fetch(offset int64) bool {
	length := a.reader.view.Length()
	if offset >= length {
		return false
	}
	end := min((offset/a.grown+1)*a.grown, length)
	a.grown = min(a.grown*4, a.largest)
	ctx, cancel := context.WithCancel(a.reader.life)
	client := a.reader.client
	s := &segment{offset: offset, buffer: client.buffers.Get(int(end - offset)), cancel: cancel,
		done: make(chan struct{})}
	if !client.life.Start(func() {
		defer close(s.done)
		s.n, s.err = a.reader.readAt(ctx, s.buffer.Bytes(), offset)
	}) {
		s.err = lifetime.ErrClosed
		close(s.done)
	}
	a.segments = append(a.segments, s)
	return true
}

func (s *segment) end() int64 { return s.offset + int64(len(s.buffer.Bytes())) }

// release ends the segment; its buffer goes back when nothing reads into it.
func (s *segment) release() {
	s.cancel()
	<-s.done
	s.buffer.Release()
}

// drop ends all segments.
func (a *readahead) drop() {
	for _, s := range a.segments {
		s.cancel()
	}
	for _, s := range a.segments {
		s.release()
	}
	a.segments = nil
}
