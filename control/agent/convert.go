package agent

import (
	"fmt"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

func loadToProto(l datanode.Load) *controlpb.Load {
	links := make([]*controlpb.LinkLateness, 0, len(l.Links))
	for _, link := range l.Links {
		links = append(links, &controlpb.LinkLateness{NodeId: link.NodeID, Acks: rpc.LatenessToProto(link.Acks)})
	}
	return &controlpb.Load{ActiveWrites: l.ActiveWrites, ActiveReads: l.ActiveReads,
		QueuedDiskOps: l.QueuedDiskOps, GrantedWindowBytes: l.GrantedWindowBytes,
		System: rpc.SystemToProto(l.System), Links: links}
}

func replicaToProto(r chunk.Replica) *controlpb.ReplicaReport {
	return &controlpb.ReplicaReport{ChunkId: append([]byte(nil), r.ID[:]...), Generation: uint64(r.Generation),
		Length: r.Length, State: controlpb.ReplicaState(r.State), Leaving: r.Leaving}
}

func deltaToProto(changes []change) *controlpb.DatanodeMessage {
	delta := &controlpb.ChunkDelta{}
	for _, c := range changes {
		if c.removed {
			delta.Removed = append(delta.Removed, replicaToProto(c.replica))
		} else {
			delta.Stored = append(delta.Stored, replicaToProto(c.replica))
		}
	}
	return &controlpb.DatanodeMessage{Body: &controlpb.DatanodeMessage_Delta{Delta: delta}}
}

func recoverResultToProto(r datanode.RecoverResult) *controlpb.DatanodeMessage {
	return &controlpb.DatanodeMessage{Body: &controlpb.DatanodeMessage_RecoverResult{
		RecoverResult: &controlpb.RecoverResult{
			ChunkId: r.Chunk[:], Generation: uint64(r.Generation), Length: r.Length, NodeIds: r.NodeIDs,
			Error: r.Error}}}
}

func copyResultToProto(r datanode.CopyResult) *controlpb.DatanodeMessage {
	return &controlpb.DatanodeMessage{Body: &controlpb.DatanodeMessage_CopyResult{CopyResult: &controlpb.CopyResult{
		ChunkId: r.Chunk[:], Generation: uint64(r.Generation), BadSources: r.BadSources, Error: r.Error}}}
}

func verifyResultToProto(r datanode.VerifyResult) *controlpb.DatanodeMessage {
	return &controlpb.DatanodeMessage{Body: &controlpb.DatanodeMessage_VerifyResult{
		VerifyResult: &controlpb.VerifyResult{
			ChunkId: r.Chunk[:], Generation: uint64(r.Generation), Bad: r.Bad, Error: r.Error}}}
}

// locationsFromProto checks the replicas named in an order.
func locationsFromProto(replicas []*controlpb.Replica) ([]chunk.Location, error) {
	if len(replicas) == 0 || len(replicas) > limits.NodesPerCallMax {
		return nil, fmt.Errorf("names %d replicas, want 1 to %d", len(replicas), limits.NodesPerCallMax)
	}
	locations := make([]chunk.Location, 0, len(replicas))
	for _, r := range replicas {
		if r.GetNodeId() == "" || r.GetAddress() == "" {
			return nil, fmt.Errorf("names a replica without node id or address")
		}
		locations = append(locations, chunk.Location{NodeID: r.NodeId, Address: r.Address})
	}
	return locations, nil
}

func formatBehind(theirs, own uint64) string {
	return fmt.Sprintf("the namenode's last txid is %d, this datanode has seen %d", theirs, own)
}

func (s *session) fenced(epoch uint64, own datanode.Identity) error {
	return &fault.Error{Kind: fault.Fenced, Op: "check namenode", Node: own.NodeID, Address: s.address,
		Reason: fmt.Sprintf("the namenode's epoch is %d, this datanode has seen %d", epoch, own.HighestEpoch)}
}
