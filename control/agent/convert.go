package agent

import (
	"errors"
	"fmt"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

func volumesToProto(volumes []VolumeState) []*controlpb.VolumeState {
	out := make([]*controlpb.VolumeState, 0, len(volumes))
	for _, v := range volumes {
		out = append(out, &controlpb.VolumeState{VolumeId: v.ID, Directory: v.Directory, CapacityBytes: v.CapacityBytes,
			FreeBytes: v.FreeBytes, Replicas: uint64(max(0, v.Replicas)), Healthy: v.Healthy, Error: v.Error})
	}
	return out
}

func loadToProto(l Load) *controlpb.Load {
	return &controlpb.Load{ActiveWrites: uint32(max(0, l.ActiveWrites)), ActiveReads: uint32(max(0, l.ActiveReads)),
		QueuedDiskOps: uint32(max(0, l.QueuedDiskOps)), GrantedWindowBytes: l.GrantedWindowBytes}
}

func replicaToProto(r chunk.Replica) *controlpb.ReplicaReport {
	return &controlpb.ReplicaReport{ChunkId: append([]byte(nil), r.ID[:]...), Generation: uint64(r.Generation), Length: r.Length,
		State: controlpb.ReplicaState(r.State)}
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

func recoverResultToProto(id chunk.ID, generation chunk.Generation, result RecoverResult, err error) *controlpb.DatanodeMessage {
	m := &controlpb.RecoverResult{ChunkId: append([]byte(nil), id[:]...), Generation: uint64(generation)}
	if err != nil {
		m.Error = err.Error()
	} else {
		m.Length, m.NodeIds = result.Length, result.NodeIDs
	}
	return &controlpb.DatanodeMessage{Body: &controlpb.DatanodeMessage_RecoverResult{RecoverResult: m}}
}

func copyResultToProto(id chunk.ID, generation chunk.Generation, err error) *controlpb.DatanodeMessage {
	m := &controlpb.CopyResult{ChunkId: append([]byte(nil), id[:]...), Generation: uint64(generation)}
	if err != nil {
		m.Error = err.Error()
	}
	return &controlpb.DatanodeMessage{Body: &controlpb.DatanodeMessage_CopyResult{CopyResult: m}}
}

func verifyResultToProto(id chunk.ID, generation chunk.Generation, err error) *controlpb.DatanodeMessage {
	m := &controlpb.VerifyResult{ChunkId: append([]byte(nil), id[:]...), Generation: uint64(generation)}
	if err != nil {
		m.Error = err.Error()
		m.Bad = errors.Is(err, fault.CorruptData) || errors.Is(err, fault.Disk)
	}
	return &controlpb.DatanodeMessage{Body: &controlpb.DatanodeMessage_VerifyResult{VerifyResult: m}}
}

// peersFromProto checks the replicas named in an order.
func peersFromProto(replicas []*controlpb.Replica) ([]Peer, error) {
	if len(replicas) == 0 || len(replicas) > peersMax {
		return nil, fmt.Errorf("names %d replicas, want 1 to %d", len(replicas), peersMax)
	}
	out := make([]Peer, 0, len(replicas))
	for _, r := range replicas {
		if r.GetNodeId() == "" || r.GetAddress() == "" {
			return nil, fmt.Errorf("names a replica without node id or address")
		}
		out = append(out, Peer{NodeID: r.NodeId, Address: r.Address})
	}
	return out, nil
}

func formatBehind(theirs, own uint64) string {
	return fmt.Sprintf("the namenode's last txid is %d, this datanode has seen %d", theirs, own)
}

func (s *session) fenced(epoch uint64, own Identity) error {
	return &fault.Error{Kind: fault.Fenced, Op: "check namenode", Node: own.NodeID, Address: s.address,
		Reason: fmt.Sprintf("the namenode's epoch is %d, this datanode has seen %d", epoch, own.HighestEpoch)}
}
