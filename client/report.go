package client

import (
	"context"
	"errors"
	"sync"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// badReports holds the reports of corrupt replicas that are under way; at most
// reportsMax. One more is dropped: the next reader, or the scrubber, finds the
// replica again.
type badReports struct {
	sync.Mutex
	running map[badReplica]struct{}
}

// reportBad tells the namenode of a corrupt replica, in the background: the
// reader goes on with another one. At most one report per replica runs.
func (c *Client) reportBad(err *fault.Error, id chunk.ID, generation chunk.Generation, path string) {
	c.logger.Warn("corrupt replica", "path", path, "chunk", id.String(), "gen", uint64(generation), "node", err.Node, "peer", err.Address, "err", err)
	key := badReplica{id, err.Node}
	c.reports.Lock()
	_, running := c.reports.running[key]
	full := len(c.reports.running) >= reportsMax
	if !running && !full {
		c.reports.running[key] = struct{}{}
	}
	c.reports.Unlock()
	if running || full {
		return
	}
	done := func() {
		c.reports.Lock()
		delete(c.reports.running, key)
		c.reports.Unlock()
	}
	if !c.start(func() {
		defer done()
		if err := c.sendReport(c.ctx, key, generation, err.Error()); err != nil && !errors.Is(err, fault.Closed) {
			c.logger.Warn("corrupt replica not reported", "chunk", id.String(), "node", key.node, "err", err)
		}
	}) {
		done()
	}
}

type badReplica struct {
	id   chunk.ID
	node string
}

func (c *Client) sendReport(ctx context.Context, bad badReplica, generation chunk.Generation, reason string) error {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	_, err := ask(ctx, c, call{op: "report bad replica"}, controlpb.NamenodeClient.ReportBadReplica, &controlpb.ReportBadReplicaRequest{
		ChunkId: bad.id[:], Generation: uint64(generation), NodeId: bad.node, Reason: reason})
	return err
}
