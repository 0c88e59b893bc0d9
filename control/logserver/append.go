package logserver

import (
	"context"
	"errors"
	"io"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/logserver/entry"
)

// flight is a batch between its arrival and its acknowledgement, or the end of
// the stream.
type flight struct {
	future raft.ApplyFuture // nil: the stream ends here
	err    error            // with no future: why; nil for the client's orderly end
	last   uint64           // txid
	bytes  int64            // of records
}

// appendCall is the server's end of an Append stream. Two goroutines run in it:
// receive takes batches in and gives them to raft in the order of their arrival;
// run waits for each in the same order and acknowledges it.
type appendCall struct {
	server  *Server
	stream  grpc.BidiStreamingServer[controlpb.AppendBatch, controlpb.AppendAck]
	flights chan flight
}

// run lives until the stream ends. The first refusal ends it; batches behind it
// fail too, since they do not fit without it.
func (c *appendCall) run() error {
	health := c.server.health
	if err := health.refusal(); err != nil {
		return err
	}
	c.server.watchers.Go(c.receive)
	for {
		select {
		case <-health.stopping:
			return health.refusal()
		case <-c.stream.Context().Done():
			return c.stream.Context().Err()
		case f := <-c.flights:
			if f.future == nil {
				return f.err
			}
			if err := c.settle(f); err != nil {
				return err
			}
			if err := c.stream.Send(&controlpb.AppendAck{LastTxid: f.last}); err != nil {
				return err
			}
		}
	}
}

// receive reads the stream until it ends or a batch is bad. It lives until the
// handler has returned, and then settles what the handler left behind.
func (c *appendCall) receive() {
	ctx := c.stream.Context()
	for ctx.Err() == nil {
		f := c.start(ctx)
		select {
		case c.flights <- f:
		case <-ctx.Done():
			if f.future != nil {
				_ = c.settle(f)
			}
		}
		if f.future == nil {
			break
		}
	}
	<-ctx.Done()
	for {
		select {
		case f := <-c.flights:
			if f.future != nil {
				_ = c.settle(f)
			}
		default:
			return
		}
	}
}

// start reads one batch and gives it to raft.
func (c *appendCall) start(ctx context.Context) flight {
	s := c.server
	batch, err := c.stream.Recv()
	if errors.Is(err, io.EOF) {
		return flight{}
	}
	if err != nil {
		return flight{err: err}
	}
	e := entry.Entry{Kind: entry.Batch, Epoch: batch.Epoch, FirstTxid: batch.FirstTxid, Records: batch.Records}
	if err := e.Check(); err != nil {
		return flight{err: err}
	}
	// The state machine decides; but what is refused now will be refused then,
	// and need not fill the log.
	if now := s.fsm.view(); e.Epoch < now.Epoch {
		return flight{err: now.Fenced(e.Epoch)}
	}
	f := flight{last: e.LastTxid()}
	for _, record := range e.Records {
		f.bytes += int64(len(record))
	}
	if err := s.inFlight.Acquire(ctx, f.bytes); err != nil {
		return flight{err: err}
	}
	if err := s.gate.enter(s.health.refusal); err != nil {
		s.inFlight.Release(f.bytes)
		return flight{err: err}
	}
	f.future = s.group.raft.Apply(e.Encode(), s.o.ApplyTimeout)
	return f
}

// settle waits until a batch is durable or refused, and releases what start took
// for it.
func (c *appendCall) settle(f flight) error {
	defer c.server.gate.leave()
	defer c.server.inFlight.Release(f.bytes)
	if err := f.future.Error(); err != nil {
		return c.server.explain(raftFault("append to log", err))
	}
	return f.future.Response().(outcome).err
}
