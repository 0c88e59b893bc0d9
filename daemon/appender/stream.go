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
	// broken, guarded by the appender's mutex: a record of this stream failed, so no later one may be written.
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

func (s *stream) enqueue(incoming dataplane.Record, done func(offset int64, err error)) error {
	appender := s.file.appender
	appender.mu.Lock()
	defer appender.mu.Unlock()
	switch {
	case s.broken != nil:
	case appender.mu.stopped:
		s.broken = appender.stoppingError(s.file.path)
	case incoming.Size < 0 || incoming.Size > record.PayloadBytesMax:
		s.broken = fault.New(fault.Invalid, op, "record of %d bytes, the limit is %d", incoming.Size,
			record.PayloadBytesMax)
	case appender.mu.queuedBytes+int64(incoming.Size) > appender.limits.QueueBytesMax:
		s.broken = &fault.Error{Kind: fault.Busy, Op: op, Path: s.file.path,
			Reason: "too many records wait in this datanode"}
	default:
		appender.mu.queuedBytes += int64(incoming.Size)
		s.file.queue = append(s.file.queue, entry{s, incoming, done})
		s.file.wakeUp()
	}
	return s.broken
}

// Close ends the session; what is queued is still written.
func (s *stream) Close() {
	appender := s.file.appender
	appender.mu.Lock()
	defer appender.mu.Unlock()
	s.file.streams--
	s.file.wakeUp()
}
