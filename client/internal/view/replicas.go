package view

import (
	"context"
	"errors"
	"strings"

	"github.com/whispering-woods/ww/client/internal/datanode"
	"github.com/whispering-woods/ww/client/internal/lifetime"
	"github.com/whispering-woods/ww/client/internal/namenode"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// replicas asks the replicas of one chunk, one after another: the healthy ones first.
type replicas struct {
	*Views
	path  string
	chunk namenode.Chunk
}

// visible asks the replicas of an open chunk how long they are. What was flushed is on all of them, so one answer is
// enough, but for that of a node that was restarted: it may have lost what was not synced, and counts only if all
// others say no more. A node that should have a replica and has none says that nothing was flushed yet.
func (r replicas) visible(ctx context.Context) (int64, error) {
	var failures []*fault.Error
	missing, restarted := false, int64(-1)
	for _, at := range r.Nodes.OrderForRead(r.chunk.Replicas) {
		reply, err := r.Datanodes.Stat(ctx, at, r.chunk.ID, false)
		generation := chunk.Generation(reply.Generation)
		switch {
		case err == nil && chunk.State(reply.State) == chunk.Recovered && generation >= r.chunk.Generation:
			restarted = max(restarted, reply.Length)
		case err == nil && (generation >= r.chunk.Generation || reply.Length <= r.chunk.Length):
			return max(reply.Length, r.chunk.Length), nil
		case err == nil:
			// Cut off from the pipeline: what it has beyond the committed bytes may not count.
			stale := fault.New(fault.StaleGeneration, "stat replica", "its generation is %d, now it is %d", generation,
				r.chunk.Generation)
			failures = append(failures, r.fault(stale, "stat replica", at))
		case ctx.Err() != nil:
			return 0, lifetime.Ended(ctx, "stat replica", r.path, nil)
		case errors.Is(err, fault.NotFound):
			missing = true
		default:
			r.Nodes.Failures.Failed(at.Address)
			failures = append(failures, r.fault(err, "stat replica", at))
		}
	}
	if restarted >= 0 && len(failures) == 0 {
		return max(restarted, r.chunk.Length), nil
	}
	if restarted < 0 && missing || len(r.chunk.Replicas) == 0 {
		return r.chunk.Length, nil
	}
	return 0, r.noneIsGood(failures)
}

// read fills p and returns how much of it is filled and verified.
func (r replicas) read(ctx context.Context, offset int64, buffer []byte) (got int, err error) {
	var failures []*fault.Error
	ordered := r.Nodes.OrderForRead(r.chunk.Replicas)
	what := datanode.Range{ID: r.chunk.ID, Minimum: r.chunk.Generation}
	for pass := 0; pass < 2; pass++ {
		stale := false
		for i := range ordered {
			what.Offset = offset + int64(got)
			answer := r.readEither(ctx, ordered[i:], what, buffer[got:])
			if got += answer.n; got == len(buffer) {
				r.Nodes.Failures.Worked(answer.at.Address)
				return got, nil
			}
			if ctx.Err() != nil {
				return got, lifetime.Ended(ctx, "read", r.path, nil)
			}
			// in part: ask the same one for the rest
			for answer.err == nil && answer.n > 0 && offset+int64(got) < answer.visible {
				what.Offset = offset + int64(got)
				answer = r.Views.read(ctx, answer.at, what, buffer[got:])
				if got += answer.n; got == len(buffer) {
					return got, nil
				}
			}
			e := r.onFailure(answer, offset+int64(got))
			stale = stale || e.Kind == fault.StaleGeneration
			failures = append(failures, e)
		}
		// A chunk reopened for append has a new generation before its replicas do. Its committed bytes are the same in
		// both.
		if pass > 0 || !stale || !r.chunk.Open || offset+int64(len(buffer)) > r.chunk.Length {
			break
		}
		what.Minimum, failures = 0, nil
	}
	return got, r.noneIsGood(failures)
}

// digest asks for the digest of a sealed chunk of this length.
func (r replicas) digest(ctx context.Context, length int64) (uint64, error) {
	var failures []*fault.Error
	for _, at := range r.Nodes.OrderForRead(r.chunk.Replicas) {
		reply, err := r.Datanodes.Stat(ctx, at, r.chunk.ID, true)
		if err == nil && (reply.Length != length || reply.Generation != uint64(r.chunk.Generation)) {
			err = r.fault(fault.New(fault.StaleGeneration, "", "it has %d bytes at generation %d, wanted %d at %d",
				reply.Length, reply.Generation, length, r.chunk.Generation), "stat replica", at)
		}
		if err == nil {
			return reply.Digest, nil
		}
		if ctx.Err() != nil {
			return 0, lifetime.Ended(ctx, "checksum", r.path, nil)
		}
		failures = append(failures, r.onFailure(replicaRead{at: at, err: err}, 0))
	}
	return 0, r.noneIsGood(failures)
}

// fault says which operation, node and chunk an error is about.
func (r replicas) fault(err error, op string, at wire.Hop) *fault.Error {
	return datanode.Fault(err, op, at, r.chunk.ID.String())
}

// onFailure turns an answer without the byte at offset into an error, remembers the node, and reports a replica that is
// corrupt or not there.
func (r replicas) onFailure(answer replicaRead, offset int64) *fault.Error {
	at, err := answer.at, answer.err
	if err == nil {
		err = r.fault(fault.New(fault.Unavailable, "", "the replica has only %d bytes, byte %d is wanted",
			answer.visible, offset), "read chunk", at)
	}
	described, ok := fault.Outermost(err)
	if !ok {
		described = r.fault(err, "read chunk", at)
	}
	switch described.Kind {
	case fault.CorruptData:
		r.Reports.Corrupt(described, r.chunk.ID, r.chunk.Generation, r.path)
	case fault.StaleGeneration, fault.Closed:
	default:
		if described.Kind == fault.NotFound {
			r.Reports.Missing(described, r.chunk.ID, r.chunk.Generation)
		}
		r.Nodes.Failures.Failed(at.Address)
		r.Logger.Warn("replica not readable", "path", r.path, "chunk", r.chunk.ID.String(), "node", at.NodeID, "peer",
			at.Address, "err", described)
	}
	return described
}

// noneIsGood is the error after every replica failed: corrupt if one was, else unavailable; it names each node and its
// reason.
func (r replicas) noneIsGood(failures []*fault.Error) error {
	joined := &fault.Error{Kind: fault.Unavailable, Op: "read chunk", Chunk: r.chunk.ID.String()}
	if len(failures) == 0 {
		joined.Reason = "the namenode knows no live replica"
		joined.Hint = "start the datanodes that hold it"
		return joined
	}
	var all []string
	for _, f := range failures {
		reason := f.Reason
		if reason == "" {
			reason = f.Kind.String()
		}
		all = append(all, "node "+f.Node+" ("+f.Address+"): "+reason)
		if f.Kind == fault.CorruptData && joined.Kind != fault.CorruptData {
			joined.Kind, joined.Node, joined.Address = fault.CorruptData, f.Node, f.Address
		}
	}
	joined.Reason = "no replica gives good data: " + strings.Join(all, "; ")
	return joined
}
