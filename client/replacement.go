package client

import (
	"context"
	"sync"
	"time"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// members makes the hops of a recovered pipeline: the survivors, and behind
// them the replacements that got a copy of the acknowledged bytes. A replacement
// that fails is left out and not asked for again. Error: that of ctx.
func (s *stream) members(ctx context.Context, a *controlpb.RecoverPipelineResponse, mode wire.Mode, previous chunk.Generation) ([]wire.Hop, error) {
	survivors := hopsOfProto(a.GetSurvivors())
	wanted := hopsOfProto(a.GetReplacements())
	if len(survivors) == 0 || len(wanted) == 0 || mode == wire.ModeCreate { // nothing is acknowledged: all begin empty
		return append(survivors, wanted...), nil
	}
	order := &wire.CopyRange{BodyVersion: wire.BodyVersion, ChunkID: s.id[:], Generation: a.GetGeneration(), ChunkSize: s.chunkSize,
		Length: s.acked, SourceMinGeneration: uint64(previous), Sources: survivors[:min(len(survivors), wire.HopsMax)]}
	errs := make([]error, len(wanted))
	var copies sync.WaitGroup
	for i, hop := range wanted {
		copies.Go(func() { errs[i] = s.client.copyReplica(ctx, hop, order) })
	}
	copies.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	hops := survivors
	for i, hop := range wanted {
		if errs[i] == nil {
			hops = append(hops, hop)
			continue
		}
		e := datanode(errs[i], "copy replica", Replica{NodeID: hop.NodeID, Address: hop.Address}, s.id.String())
		s.recovery.blame(hopFailure{hop: hop, err: e})
		s.client.nodes.failed(hop.Address)
		s.client.logger.Warn("replacement left out of the pipeline", "path", s.path, "chunk", s.id.String(), "node", hop.NodeID, "peer", hop.Address, "err", e)
	}
	return hops, nil
}

// copyReplica has the datanode at to pull a replica. It returns when the replica
// is whole there.
func (c *Client) copyReplica(ctx context.Context, to wire.Hop, order *wire.CopyRange) error {
	return c.exchange(ctx, Replica{NodeID: to.NodeID, Address: to.Address}, wire.OpCopy, order, func(conn *connection) (reusable bool, err error) {
		var reply wire.CopyReply
		patience := c.options.DataTimeout + time.Duration(order.Length/copyRateLeast)*time.Second
		if err := conn.expect(wire.OpCopyReply, &reply, time.Now().Add(patience)); err != nil {
			return false, err
		}
		if err := reply.Validate(); err != nil {
			return false, err
		}
		if err := reply.Status.Err("copy replica", to.Address); err != nil {
			return true, err
		}
		if reply.Length < order.Length {
			return true, fault.New(fault.Protocol, "copy replica", "%d bytes were copied, %d are wanted", reply.Length, order.Length)
		}
		return true, nil
	})
}

func hopsOfProto(replicas []*controlpb.Replica) []wire.Hop {
	hops := make([]wire.Hop, 0, len(replicas))
	for _, r := range replicas {
		hops = append(hops, wire.Hop{NodeID: r.GetNodeId(), Address: r.GetAddress()})
	}
	return hops
}

// tooFew is what a recovery meets when not enough nodes are left: some may come
// back, so it is tried again for a while.
func (s *stream) tooFew(hops []wire.Hop) error {
	s.recovery.excluded = nil
	e := fault.New(fault.Unavailable, "write chunk", "%d nodes of the pipeline are left, %d are required", len(hops), s.client.options.PipelineNodesLeast)
	e.Chunk = s.id.String()
	return &pipelineError{err: e}
}
