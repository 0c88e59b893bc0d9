package view

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

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

// inTurn has ask try the first of the rest of the replicas, the healthy ones first, until it is done. A datanode that
// says nothing is left soon while others can be asked. In the end the silent ones are asked again, with more patience:
// their disks may only be busy.
func (r replicas) inTurn(ask func(rest []wire.Hop, patience time.Duration) (done bool, err error)) (done bool) {
	ordered := r.Nodes.OrderForRead(r.chunk.Replicas)
	short, long := r.Datanodes.ShortPatience(), r.Datanodes.Patience()
	var silent []wire.Hop
	for i := range ordered {
		patience := short
		if i == len(ordered)-1 && len(silent) == 0 {
			patience = long
		}
		done, err := ask(ordered[i:], patience)
		if done {
			return true
		}
		if datanode.Silent(err) && patience < long {
			silent = append(silent, ordered[i])
		}
	}
	for i := range silent {
		if done, _ := ask(silent[i:], long); done {
			return true
		}
	}
	return false
}

// visible asks the replicas of an open chunk how long they are. What was flushed is on all of them, so one answer is
// enough, but for that of a node that was restarted: it may have lost what was not synced, and counts only if all
// others say no more. A node that should have a replica and has none says that nothing was flushed yet.
func (r replicas) visible(ctx context.Context) (length int64, err error) {
	var failures replicaFailures
	missing, restarted := false, int64(-1)
	found := r.inTurn(func(rest []wire.Hop, patience time.Duration) (done bool, err error) {
		at := rest[0]
		reply, err := r.Datanodes.Stat(ctx, at, r.chunk.ID, false, patience)
		generation := chunk.Generation(reply.Generation)
		failures.forget(at)
		switch {
		case err == nil && chunk.State(reply.State) == chunk.Recovered && generation >= r.chunk.Generation:
			restarted = max(restarted, reply.Length)
		case err == nil && (generation >= r.chunk.Generation || reply.Length <= r.chunk.Length):
			length = max(reply.Length, r.chunk.Length)
			return true, nil
		case err == nil:
			// Cut off from the pipeline: what it has beyond the committed bytes may not count.
			stale := fault.New(fault.StaleGeneration, "stat replica", "its generation is %d, now it is %d", generation,
				r.chunk.Generation)
			failures = append(failures, r.fault(stale, "stat replica", at))
		case errors.Is(err, fault.NotFound):
			missing = true
		case ctx.Err() == nil:
			r.Nodes.Failures.Failed(at.Address)
			failures = append(failures, r.fault(err, "stat replica", at))
		}
		return ctx.Err() != nil, err
	})
	switch {
	case ctx.Err() != nil:
		return 0, lifetime.Ended(ctx, "stat replica", r.path, nil)
	case found:
		return length, nil
	case restarted >= 0 && len(failures) == 0:
		return max(restarted, r.chunk.Length), nil
	case restarted < 0 && missing || len(r.chunk.Replicas) == 0:
		return r.chunk.Length, nil
	}
	return 0, r.noneIsGood(failures)
}

// read fills p and returns how much of it is filled and verified.
func (r replicas) read(ctx context.Context, offset int64, buffer []byte) (got int, err error) {
	var failures replicaFailures
	what := datanode.Range{ID: r.chunk.ID, Minimum: r.chunk.Generation}
	for pass := 0; ; pass++ {
		stale := false
		full := r.inTurn(func(rest []wire.Hop, patience time.Duration) (done bool, err error) {
			what.Patience = patience
			answer := r.readOn(ctx, rest, what, offset, buffer, &got)
			if got == len(buffer) {
				r.Nodes.Failures.Worked(answer.at.Address)
				return true, nil
			}
			if err := ctx.Err(); err != nil {
				return true, err
			}
			e := r.onFailure(answer, offset+int64(got))
			stale = stale || e.Kind == fault.StaleGeneration
			failures.forget(answer.at)
			failures = append(failures, e)
			return false, e
		})
		switch {
		case full && got == len(buffer):
			return got, nil
		case ctx.Err() != nil:
			return got, lifetime.Ended(ctx, "read", r.path, nil)
		}
		// A chunk reopened for append has a new generation before its replicas do. Its committed bytes are the same in
		// both.
		if pass > 0 || !stale || !r.chunk.Open || offset+int64(len(buffer)) > r.chunk.Length {
			return got, r.noneIsGood(failures)
		}
		what.Minimum, failures = 0, nil
	}
}

// readOn reads what is still missing of buffer from the first of the replicas. One that answers in part is asked for
// the rest.
func (r replicas) readOn(ctx context.Context, from []wire.Hop, what datanode.Range, offset int64, buffer []byte,
	got *int) (answer replicaRead) {
	what.Offset = offset + int64(*got)
	answer = r.readEither(ctx, from, what, buffer[*got:])
	for {
		*got += answer.n
		if *got == len(buffer) || answer.err != nil || answer.n == 0 || offset+int64(*got) >= answer.visible {
			return answer
		}
		what.Offset = offset + int64(*got)
		answer = r.Views.read(ctx, answer.at, what, buffer[*got:])
	}
}

// digest asks for the digest of a sealed chunk of this length.
func (r replicas) digest(ctx context.Context, length int64) (digest uint64, err error) {
	var failures replicaFailures
	found := r.inTurn(func(rest []wire.Hop, patience time.Duration) (done bool, err error) {
		at := rest[0]
		reply, err := r.Datanodes.Stat(ctx, at, r.chunk.ID, true, patience)
		if err == nil && (reply.Length != length || reply.Generation != uint64(r.chunk.Generation)) {
			err = r.fault(fault.New(fault.StaleGeneration, "", "it has %d bytes at generation %d, wanted %d at %d",
				reply.Length, reply.Generation, length, r.chunk.Generation), "stat replica", at)
		}
		if digest = reply.Digest; err == nil || ctx.Err() != nil {
			return true, err
		}
		failures.forget(at)
		failures = append(failures, r.onFailure(replicaRead{at: at, err: err}, 0))
		return false, err
	})
	switch {
	case ctx.Err() != nil:
		return 0, lifetime.Ended(ctx, "checksum", r.path, nil)
	case found:
		return digest, nil
	}
	return 0, r.noneIsGood(failures)
}

// replicaFailures are the last failures of the replicas that were asked, one of each node.
type replicaFailures []*fault.Error

// forget drops the failure of a node that was asked again.
func (f *replicaFailures) forget(at wire.Hop) {
	*f = slices.DeleteFunc(*f, func(e *fault.Error) bool { return e.Node == at.NodeID })
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
func (r replicas) noneIsGood(failures replicaFailures) error {
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
