package appender

import (
	"github.com/whispering-woods/ww/dataplane"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/record"
)

// stream is one client's session with a file. Its methods never block.
type stream struct {
	file   *file
	writer record.WriterID
	// broken, guarded by the appender's mutex: a record of this stream failed,
	// so no later one may be written.
	broken error
}

var _ dataplane.RecordStream = (*stream)(nil)

// entry is a record that waits.
type entry struct {
	stream *stream
	record dataplane.Record
	done   func(offset int64, err error)
}

// Append queues a record.
func (s *stream) Append(r dataplane.Record, done func(offset int64, err error)) {
	if err := s.enqueue(r, done); err != nil {
		done(0, err)
	}
}

func (s *stream) enqueue(r dataplane.Record, done func(offset int64, err error)) error {
	a := s.file.appender
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case s.broken != nil:
	case a.mu.stopped:
		s.broken = a.stoppingError(s.file.path)
	case r.Size < 0 || r.Size > record.PayloadBytesMax:
		s.broken = fault.New(fault.Invalid, op, "record of %d bytes, the limit is %d", r.Size, record.PayloadBytesMax)
	case a.mu.queuedBytes+int64(r.Size) > a.limits.QueueBytesMax:
		s.broken = &fault.Error{Kind: fault.Busy, Op: op, Path: s.file.path, Reason: "too many records wait in this datanode"}
	default:
		a.mu.queuedBytes += int64(r.Size)
		s.file.queue = append(s.file.queue, entry{s, r, done})
		s.file.wakeUp()
	}
	return s.broken
}

// Close ends the session; what is queued is still written.
func (s *stream) Close() {
	a := s.file.appender
	a.mu.Lock()
	defer a.mu.Unlock()
	s.file.streams--
	s.file.wakeUp()
}
