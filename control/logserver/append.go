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

// flight is a batch between its arrival and its acknowledgement, or the end of the stream.
type flight struct {
	future raft.ApplyFuture // nil: the stream ends here
	err    error            // with no future: why; nil for the client's orderly end
	last   uint64           // txid
	bytes  int64            // of records
}

// appendCall is the server's end of an Append stream. Two goroutines run in it: receive reads batches and submits
// them to raft in the order of their arrival; run waits for each in the same order and acknowledges it.
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

// start reads one batch and submits it to raft.
func (c *appendCall) start(ctx context.Context) flight {
	server := c.server
	batch, err := c.stream.Recv()
	if errors.Is(err, io.EOF) {
		return flight{}
	}
	if err != nil {
		return flight{err: err}
	}
	ours := entry.Entry{Kind: entry.Batch, Epoch: batch.Epoch, FirstTxid: batch.FirstTxid, Records: batch.Records}
	if err := ours.Check(); err != nil {
		return flight{err: err}
	}
	// The state machine decides; but what is refused now will be refused then, and need not fill the log.
	if now := server.fsm.view(); ours.Epoch < now.Epoch {
		return flight{err: now.Fenced(ours.Epoch)}
	}
	batched := flight{last: ours.LastTxid()}
	for _, record := range ours.Records {
		batched.bytes += int64(len(record))
	}
	if err := server.inFlight.Acquire(ctx, batched.bytes); err != nil {
		return flight{err: err}
	}
	if err := server.gate.enter(server.health.refusal); err != nil {
		server.inFlight.Release(batched.bytes)
		return flight{err: err}
	}
	batched.future = server.group.raft.Apply(ours.Encode(), applyTimeout)
	return batched
}

// settle waits until a batch is durable or refused, and releases what start acquired for it.
func (c *appendCall) settle(f flight) error {
	defer c.server.gate.leave()
	defer c.server.inFlight.Release(f.bytes)
	if err := f.future.Error(); err != nil {
		return c.server.explain(raftFault("append to log", err))
	}
	return f.future.Response().(outcome).err
}
