package daemon

import (
	"context"
	"log/slog"

	"github.com/whispering-woods/ww/control/agent"
	"github.com/whispering-woods/ww/dataplane"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/disk"
)

// agentStore is a chunk store as the agent sees it.
type agentStore struct{ *disk.Store }

var _ agent.ChunkStore = agentStore{}

// Identity of the store.
func (s agentStore) Identity() agent.Identity { return agent.Identity(s.Store.Identity()) }

// Volumes of the store.
func (s agentStore) Volumes() []agent.VolumeState {
	volumes := s.Store.Volumes()
	states := make([]agent.VolumeState, len(volumes))
	for i, v := range volumes {
		states[i] = agent.VolumeState(v)
	}
	return states
}

// forward hands the store's events to the agent. It never blocks.
func forward(events *agent.Events, logger *slog.Logger) func(disk.Event) {
	return func(e disk.Event) {
		switch e.Kind {
		case disk.Removed:
			events.Removed(e.Replica)
		case disk.Corrupt:
			logger.Error("replica is corrupt", "chunk", e.Replica.ID, "gen", e.Replica.Generation, "reason", e.Reason)
			events.Stored(e.Replica)
		default:
			events.Stored(e.Replica)
		}
	}
}

// recoverer leads recoveries over the data plane.
type recoverer struct{ server *dataplane.Server }

var _ agent.Recoverer = recoverer{}

// Recover leads the recovery of one chunk.
func (r recoverer) Recover(ctx context.Context, request agent.RecoverRequest) (agent.RecoverResult, error) {
	hops := make([]wire.Hop, len(request.Replicas))
	for i, p := range request.Replicas {
		hops[i] = wire.Hop{NodeID: p.NodeID, Address: p.Address}
	}
	result, err := r.server.Recover(ctx, dataplane.RecoverRequest{
		ChunkID: request.ChunkID, Generation: request.Generation, MinimumGeneration: request.MinimumGeneration,
		Replicas: hops, Length: request.Length,
	})
	return agent.RecoverResult{Length: result.Length, NodeIDs: result.NodeIDs}, err
}

// copier pulls replicas over the data plane.
type copier struct{ server *dataplane.Server }

var _ agent.Copier = copier{}

// Copy makes one sealed replica.
func (c copier) Copy(ctx context.Context, request agent.CopyRequest) error {
	sources := make([]wire.Hop, 0, min(len(request.Sources), wire.HopsMax))
	for _, p := range request.Sources[:cap(sources)] {
		sources = append(sources, wire.Hop{NodeID: p.NodeID, Address: p.Address})
	}
	_, err := c.server.Copy(ctx, wire.CopyRange{
		BodyVersion: wire.BodyVersion, ChunkID: request.ChunkID[:], Generation: uint64(request.Generation), Length: request.Length,
		SourceMinGeneration: uint64(request.Generation), Sources: sources, Seal: true,
	})
	return err
}
