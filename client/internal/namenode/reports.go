package namenode

import (
	"context"
	"errors"
	"sync"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// Reports sends reports of corrupt and missing replicas in the background, so that a reader can go on with another
// one. Safe for concurrent use.
type Reports struct {
	client *Client
	mu     struct {
		sync.Mutex
		running map[badReplica]struct{} // at most reportsMax
	}
}

type badReplica struct {
	id      chunk.ID
	node    string
	missing bool // its node says that it has none; else its bytes are bad
}

// NewReports makes a sender.
func NewReports(c *Client) *Reports {
	r := &Reports{client: c}
	r.mu.running = make(map[badReplica]struct{})
	return r
}

// Corrupt logs a corrupt replica and reports it. At most one report per replica runs. If too many do, this one is
// dropped: the next reader, or the scrubber, finds the replica again.
func (r *Reports) Corrupt(err *fault.Error, id chunk.ID, generation chunk.Generation, path string) {
	logger := r.client.options.Logger
	logger.Warn("corrupt replica", "path", path, "chunk", id.String(), "gen", uint64(generation),
		"node", err.Node, "peer", err.Address, "err", err)
	r.send(badReplica{id: id, node: err.Node}, generation, err)
}

// Missing reports that a node has not the replica that it should have, in the same way.
func (r *Reports) Missing(err *fault.Error, id chunk.ID, generation chunk.Generation) {
	r.send(badReplica{id: id, node: err.Node, missing: true}, generation, err)
}

func (r *Reports) send(replica badReplica, generation chunk.Generation, reason *fault.Error) {
	if !r.begin(replica) {
		return
	}
	life := r.client.options.Life
	if !life.Start(func() {
		defer r.end(replica)
		if err := r.report(life.Context(), replica, generation, reason.Error()); err != nil &&
			!errors.Is(err, fault.Closed) {
			r.client.options.Logger.Warn("bad replica not reported", "chunk", replica.id.String(), "node", replica.node,
				"err", err)
		}
	}) {
		r.end(replica)
	}
}

func (r *Reports) begin(replica badReplica) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, running := r.mu.running[replica]; running || len(r.mu.running) >= reportsMax {
		return false
	}
	r.mu.running[replica] = struct{}{}
	return true
}

func (r *Reports) end(replica badReplica) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.mu.running, replica)
}

func (r *Reports) report(ctx context.Context, bad badReplica, generation chunk.Generation, reason string) error {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	_, err := Ask(ctx, r.client, Call{Op: "report bad replica"}, controlpb.NamenodeClient.ReportBadReplica,
		&controlpb.ReportBadReplicaRequest{ChunkId: bad.id[:], Generation: uint64(generation), NodeId: bad.node,
			Reason: reason, Missing: bad.missing})
	return err
}
