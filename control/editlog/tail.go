package editlog

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/fault"
)

// Replay reads the committed records from txid from to txid to, both included, in order and without a gap, and passes
// them to fn. to is usually a Grant's LastTxid; from > to reads nothing. An error of fn ends it and is returned. It
// does not resume by itself: after fault.Unavailable or fault.NotActive start again behind the last txid that fn saw.
// Errors: fault.CorruptData for damaged records (names file and txid), fault.Gap if the log ends before to.
func (l *Log) Replay(ctx context.Context, from, to uint64, fn func(Batch) error) error {
	if from > to {
		return nil
	}
	next := from
	err := l.tail(ctx, &controlpb.TailRequest{FromTxid: from}, func(b Batch) error {
		if last := b.FirstTxid + uint64(len(b.Records)) - 1; last > to {
			b.Records = b.Records[:uint64(len(b.Records))-(last-to)]
		}
		if err := fn(b); err != nil {
			return err
		}
		next = b.FirstTxid + uint64(len(b.Records))
		if next > to {
			return errEnough
		}
		return nil
	})
	switch {
	case errors.Is(err, errEnough):
		return nil
	case err == nil:
		return fault.New(fault.Gap, "replay log", "the log ends at txid %d, txid %d was expected", next-1, to)
	}
	return err
}

// errEnough ends a Tail from inside.
var errEnough = errors.New("all read")

// Tail reads committed records from txid from on and continues as new ones commit, until ctx ends or something
// fails; it never returns nil. Batches without records are heartbeats with the log's last txid.
func (l *Log) Tail(ctx context.Context, from uint64, fn func(Batch) error) error {
	err := l.tail(ctx, &controlpb.TailRequest{FromTxid: from, Follow: true}, fn)
	if err == nil {
		return &fault.Error{Kind: fault.Unavailable, Op: "tail log", Reason: "the server ended the stream"}
	}
	return err
}

// tail runs one stream against the leader and checks that txids have no gap.
func (l *Log) tail(ctx context.Context, request *controlpb.TailRequest, fn func(Batch) error) error {
	const op = "tail log"
	leader, err := l.leader(ctx, op)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx) // ends the stream when fn fails
	defer cancel()
	stream, err := leader.client.Tail(ctx, request)
	if err != nil {
		return rpc.FromStatus(err, op, leader.address)
	}
	next := request.FromTxid
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return rpc.FromStatus(err, op, leader.address)
		}
		if len(message.Records) > 0 && message.FirstTxid != next {
			return &fault.Error{Kind: fault.Protocol, Op: op, Address: leader.address,
				Reason: fmt.Sprintf("the batch starts at txid %d, txid %d was expected", message.FirstTxid, next)}
		}
		next += uint64(len(message.Records))
		if len(message.Records) == 0 && !request.Follow {
			continue
		}
		if err := fn(Batch{FirstTxid: message.FirstTxid, Records: message.Records,
			LastTxid: message.LastTxid}); err != nil {
			return err
		}
	}
}
