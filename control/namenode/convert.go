package namenode

import (
	"github.com/whispering-woods/ww/actor"
	"github.com/whispering-woods/ww/actor/replicas"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/rpc"
)

func infoToProto(i actor.FileInfo) *controlpb.FileInfo {
	return &controlpb.FileInfo{Name: i.Name, FileId: i.FileID, Directory: i.Directory, Length: i.Length,
		ChunkSize: i.ChunkSize, Replication: i.Replication, CreatedUnixMs: i.Created, ModifiedUnixMs: i.Modified,
		Open: i.Open, Children: i.Children}
}

func chunkToProto(c actor.LocatedChunk) *controlpb.LocatedChunk {
	return &controlpb.LocatedChunk{ChunkId: idToProto(c.Chunk), Generation: uint64(c.Generation), Index: c.Index,
		Offset: c.Offset, Length: c.Length, Open: c.Open, Replicas: replicasToProto(c.Replicas)}
}

func chunksToProto(chunks []actor.LocatedChunk) []*controlpb.LocatedChunk {
	out := make([]*controlpb.LocatedChunk, 0, len(chunks))
	for _, c := range chunks {
		out = append(out, chunkToProto(c))
	}
	return out
}

func growableToProto(chunks []actor.GrowableChunk) []*controlpb.GrowableChunk {
	out := make([]*controlpb.GrowableChunk, 0, len(chunks))
	for _, c := range chunks {
		out = append(out, &controlpb.GrowableChunk{FileId: c.FileID, ChunkId: idToProto(c.Chunk)})
	}
	return out
}

func statusToProto(r *actor.ClusterStatusResult) *controlpb.ClusterStatusResponse {
	out := &controlpb.ClusterStatusResponse{ClusterId: r.ClusterID, Epoch: r.Epoch, Txid: r.Txid, SafeMode: r.SafeMode,
		SafeModeReason: r.SafeModeReason, Files: r.Files, Directories: r.Directories, Chunks: r.Chunks,
		UnderReplicatedChunks: r.UnderReplicated, MissingChunks: r.Missing, CorruptReplicas: r.Unusable,
		OpenFiles: r.OpenFiles, Version: r.Version, DefaultReplication: r.DefaultReplication,
		DefaultChunkSize: r.DefaultChunkSize, Verdict: controlpb.Health(r.Verdict), UnconfirmedChunks: r.Unconfirmed,
		UnreportedNodes: uint32(r.Unreported), Counting: r.Counting, CopiesRunning: uint32(r.Copying),
		CopiesWaiting: uint64(r.Waiting), LeavingChunks: uint64(r.Leaving)}
	for _, n := range r.Nodes {
		out.Nodes = append(out.Nodes, nodeToProto(n))
	}
	return out
}

func repairToProto(found *replicas.RepairStatus) *controlpb.RepairResponse {
	out := &controlpb.RepairResponse{Streams: uint32(found.Limits.Streams),
		NodeStreams: uint32(found.Limits.NodeStreams), Bandwidth: found.Limits.Bandwidth,
		Leaving: uint64(found.Leaving), Away: uint64(found.Away), Missing: uint64(found.Missing),
		Running: uint32(found.Running), Waiting: uint64(found.Waiting), Counting: found.Counting, Paused: found.Paused,
		ArrivedChunks: found.Arrived.Chunks, ArrivedBytes: found.Arrived.Bytes,
		ChunksPerSecond: found.ChunksPerSecond, BytesPerSecond: found.BytesPerSecond,
		LeftMs: found.Left.Milliseconds(), Examined: uint32(found.Examined)}
	for _, d := range found.Queue {
		out.Queue = append(out.Queue, &controlpb.RepairDanger{Replicas: uint32(d.Replicas), Chunks: uint64(d.Chunks)})
	}
	for _, c := range found.Copies {
		out.Copies = append(out.Copies, &controlpb.RepairCopy{ChunkId: idToProto(c.Chunk), Length: c.Bytes,
			NodeId: c.Target.NodeID, Name: c.Name, Address: c.Target.Address, RunningMs: c.For.Milliseconds()})
	}
	for _, w := range found.Reasons {
		out.Reasons = append(out.Reasons, &controlpb.RepairReason{Text: w.Text, Blocked: w.Blocked,
			Chunks: uint64(w.Chunks), ExampleChunkId: idToProto(w.Example)})
	}
	return out
}

func balanceToProto(found *replicas.BalanceStatus) *controlpb.BalanceResponse {
	out := &controlpb.BalanceResponse{Running: found.Running, Threshold: found.Threshold, Bandwidth: found.Bandwidth,
		RunningMs: found.For.Milliseconds(), Paused: found.Paused, Ended: found.Ended, Even: found.Even,
		MeanPercent: found.Mean, LeftBytes: found.LeftBytes, MovedChunks: found.Moved.Chunks,
		MovedBytes: found.Moved.Bytes, Failed: uint64(found.Failed), BytesPerSecond: found.BytesPerSecond,
		Moving: uint32(found.Moving), More: found.More}
	for _, n := range found.Nodes {
		out.Nodes = append(out.Nodes, &controlpb.NodeFill{NodeId: n.NodeID, Name: n.Name, Address: n.Address,
			Bytes: n.Bytes, CapacityBytes: n.CapacityBytes, Percent: n.Percent})
	}
	for _, m := range found.Moves {
		out.Moves = append(out.Moves, &controlpb.BalanceMove{ChunkId: idToProto(m.Chunk), Length: m.Bytes,
			Source: m.Source, Target: m.Target})
	}
	return out
}

func nodeToProto(n actor.NodeStatus) *controlpb.NodeStatus {
	return &controlpb.NodeStatus{NodeId: n.NodeID, Name: n.Name, Address: n.Address, Rack: n.Rack,
		Live: n.Live, State: controlpb.NodeState(n.State), Registrations: uint32(n.Registrations),
		Duty: controlpb.NodeDuty(n.Progress.Duty), DutySinceUnixMs: n.Progress.Since, DutyUntilUnixMs: n.Progress.Until,
		NeededChunks: uint64(n.Progress.Needed), NeededOpenChunks: uint64(n.Progress.Open), DutyDone: n.Progress.Done,
		CapacityBytes: n.CapacityBytes, FreeBytes: n.FreeBytes, UsedBytes: n.UsedBytes, Replicas: n.Replicas,
		ActiveWrites: n.ActiveWrites, ActiveReads: n.ActiveReads, System: rpc.SystemToProto(n.System),
		LastHeartbeatAgeMs: n.LastHeartbeatAge.Milliseconds(), Version: n.Version, AdminAddress: n.AdminAddress,
		Volumes: rpc.VolumesToProto(n.Volumes), SlowReason: n.SlowReason, SlowMs: n.SlowFor.Milliseconds()}
}
