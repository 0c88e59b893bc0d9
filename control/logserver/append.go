package logserver

import (
	"context"
	"errors"
	"io"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc"

	"github.com/whispering-woods/ww/control/controlpb"
)

// appendStream is the server's end of an Append call.
type appendStream = grpc.BidiStreamingServer[controlpb.AppendBatch, controlpb.AppendAck]

// flight is a batch between its arrival and its acknowledgement, or the end of
// the stream.
type flight struct {
	future raft.ApplyFuture // nil: the stream ends here
	err    error            // with no future: why; nil for the client's orderly end
	last   uint64
	bytes  int64
}

// Append implements controlpb.EditLogServer. One goroutine takes batches in
// and hands them to raft in the order of their arrival; this one waits for
// each in the same order and acknowledges it. The first refusal ends the
// stream; batches behind it fail too, since they do not fit without it.
func (v *service) Append(stream appendStream) error {
	s := v.server
	if err := s.refusal(); err != nil {
		return err
	}
	flights := make(chan flight, inFlightPerStream)
	s.group.Go(func() { s.takeBatches(stream, flights) })
	for {
		select {
		case <-s.stopping:
			return s.refusal()
		case <-stream.Context().Done():
			return stream.Context().Err()
		case f := <-flights:
			if f.future == nil {
				return f.err
			}
			if err := s.settle(f); err != nil {
				return err
			}
			if err := stream.Send(&controlpb.AppendAck{LastTxid: f.last}); err != nil {
				return err
			}
		}
	}
}

// takeBatches reads the stream until it ends or a batch is bad. It lives until
// the handler has returned, and then settles what the handler left behind.
func (s *Server) takeBatches(stream appendStream, flights chan flight) {
	ctx := stream.Context()
	for ctx.Err() == nil {
		f := s.takeBatch(ctx, stream)
		select {
		case flights <- f:
		case <-ctx.Done():
			if f.future != nil {
				_ = s.settle(f)
			}
		}
		if f.future == nil {
			break
		}
	}
	<-ctx.Done()
	for {
		select {
		case f := <-flights:
			if f.future != nil {
				_ = s.settle(f)
			}
		default:
			return
		}
	}
}

// takeBatch reads one batch and starts it.
func (s *Server) takeBatch(ctx context.Context, stream appendStream) flight {
	batch, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return flight{}
	}
	if err != nil {
		return flight{err: err}
	}
	e := entry{kind: entryBatch, epoch: batch.Epoch, firstTxid: batch.FirstTxid, records: batch.Records}
	if err := e.check(); err != nil {
		return flight{err: err}
	}
	// The state machine decides; but what is refused now will be refused then,
	// and need not fill the log.
	if now := s.fsm.view(); e.epoch < now.epoch {
		return flight{err: now.fenced(e.epoch)}
	}
	f := flight{last: e.lastTxid()}
	for _, record := range e.records {
		f.bytes += int64(len(record))
	}
	if err := s.inFlight.Acquire(ctx, f.bytes); err != nil {
		return flight{err: err}
	}
	if err := s.enter(); err != nil {
		s.inFlight.Release(f.bytes)
		return flight{err: err}
	}
	f.future = s.raft.Apply(e.encode(), s.o.ApplyTimeout)
	return f
}

// settle waits until a batch is durable or refused and gives its room back.
func (s *Server) settle(f flight) error {
	defer s.leave()
	defer s.inFlight.Release(f.bytes)
	if err := f.future.Error(); err != nil {
		return s.explain(raftFault("append to log", err))
	}
	return f.future.Response().(outcome).err
}

// enter lets a caller hand something to raft; leave must follow once raft has
// answered. raft may lose what is in its queue when it shuts down, and would
// leave the caller waiting for ever: so it is shut down only when nobody is
// inside (drain).
func (s *Server) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refusalLocked(); err != nil {
		return err
	}
	s.mu.inside++
	return nil
}

func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.inside--
	if s.mu.inside == 0 && s.mu.outside != nil {
		close(s.mu.outside)
		s.mu.outside = nil
	}
}

// drain waits until nobody is inside. Only after closing or failure is set:
// then nobody enters, and raft, which still runs, answers everybody.
func (s *Server) drain() {
	s.mu.Lock()
	if s.mu.inside == 0 {
		s.mu.Unlock()
		return
	}
	if s.mu.outside == nil {
		s.mu.outside = make(chan struct{})
	}
	outside := s.mu.outside
	s.mu.Unlock()
	<-outside
}
