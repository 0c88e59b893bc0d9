package namenode

import (
	"context"
	"errors"
	"sync"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// Reports sends reports of corrupt replicas in the background, so that a reader can go on with another one. Safe for
// concurrent use.
type Reports struct {
	client *Client
	mu     struct {
		sync.Mutex
		running map[corruptReplica]struct{} // at most reportsMax
	}
}

type corruptReplica struct {
	id   chunk.ID
	node string
}

// NewReports makes a sender.
func NewReports(c *Client) *Reports {
	r := &Reports{client: c}
	r.mu.running = make(map[corruptReplica]struct{})
	return r
}

// Corrupt logs a corrupt replica and reports it. At most one report per replica runs. If too many do, this one is
// dropped: the next reader, or the scrubber, finds the replica again.
func (r *Reports) Corrupt(err *fault.Error, id chunk.ID, generation chunk.Generation, path string) {
	logger := r.client.options.Logger
	logger.Warn("corrupt replica", "path", path, "chunk", id.String(), "gen", uint64(generation),
		"node", err.Node, "peer", err.Address, "err", err)
	replica := corruptReplica{id, err.Node}
	if !r.begin(replica) {
		return
	}
	life := r.client.options.Life
	if !life.Start(func() {
		defer r.end(replica)
		if err := r.report(life.Context(), replica, generation, err.Error()); err != nil &&
			!errors.Is(err, fault.Closed) {
			logger.Warn("corrupt replica not reported", "chunk", id.String(), "node", replica.node, "err", err)
		}
	}) {
		r.end(replica)
	}
}

func (r *Reports) begin(replica corruptReplica) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, running := r.mu.running[replica]; running || len(r.mu.running) >= reportsMax {
		return false
	}
	r.mu.running[replica] = struct{}{}
	return true
}

func (r *Reports) end(replica corruptReplica) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.mu.running, replica)
}

func (r *Reports) report(ctx context.Context, bad corruptReplica, generation chunk.Generation, reason string) error {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	_, err := Ask(ctx, r.client, Call{Op: "report bad replica"}, controlpb.NamenodeClient.ReportBadReplica,
		&controlpb.ReportBadReplicaRequest{ChunkId: bad.id[:], Generation: uint64(generation), NodeId: bad.node,
			Reason: reason})
	return err
}
