package namenode

import (
	"cmp"
	"time"

	"github.com/whispering-woods/ww/actor"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/lateness"
	"github.com/whispering-woods/ww/internal/limits"
)

// What comes from a network is checked here, before it costs a command: ids, lengths of lists and texts, numbers.
// What needs the state is checked by the actor.

// malformed is the error for a message that no correct peer sends.
func malformed(op, format string, args ...any) error {
	return fault.New(fault.Invalid, op, format, args...)
}

// refusal is the error for a reason of package limits, nil for none.
func refusal(op, reason string) error {
	if reason == "" {
		return nil
	}
	return malformed(op, "%s", reason)
}

// headerFromProto fills a command's header.
func headerFromProto(op string, header *controlpb.MutationHeader, command *actor.Command) error {
	if header == nil {
		return malformed(op, "the request has no mutation header")
	}
	if len(header.ClientId) != len(command.Client) {
		return malformed(op, "the client id has %d bytes, want %d", len(header.ClientId), len(command.Client))
	}
	copy(command.Client[:], header.ClientId)
	switch {
	case command.Client == actor.ClientID{}:
		return malformed(op, "the client id is zero")
	case header.Sequence == 0:
		return malformed(op, "the sequence is zero; it begins at 1")
	case header.OldestPending > header.Sequence:
		return malformed(op, "oldest_pending %d is above the sequence %d", header.OldestPending, header.Sequence)
	}
	command.Sequence, command.OldestPending = header.Sequence, header.OldestPending
	return nil
}

func idFromProto(op string, b []byte) (chunk.ID, error) {
	id, err := chunk.IDFrom(b)
	if err != nil {
		return id, malformed(op, "%s", err.Error())
	}
	if id.IsZero() {
		return id, malformed(op, "the chunk id is zero")
	}
	return id, nil
}

// replicaFromProto reads the chunk and the generation that a message is about.
func replicaFromProto(op string, message interface {
	GetChunkId() []byte
	GetGeneration() uint64
}) (chunk.ID, chunk.Generation, error) {
	id, err := idFromProto(op, message.GetChunkId())
	if err == nil && message.GetGeneration() == 0 {
		err = malformed(op, "the generation is zero; it begins at 1")
	}
	return id, chunk.Generation(message.GetGeneration()), err
}

func checkPath(op, path string) error {
	if err := limits.CheckPath(op, path); err != nil {
		return err
	}
	return nil
}

func checkLength(op string, length int64) error {
	return refusal(op, limits.CheckLength(length))
}

func checkChunkCount(op string, count uint32) error {
	return refusal(op, limits.CheckCount("chunks in one call", int(count), limits.ChunksPerCallMax))
}

func checkChunkBytes(op string, most int64) error {
	if most < 0 {
		return malformed(op, "a chunk gets at most %d bytes", most)
	}
	return nil
}

func checkFile(op string, id uint64) error {
	if id == 0 {
		return malformed(op, "the file id is zero")
	}
	return nil
}

func checkNodes(op string, ids []string) error {
	if err := refusal(op, limits.CheckCount("nodes", len(ids), limits.NodesPerCallMax)); err != nil {
		return err
	}
	for _, id := range ids {
		if id == "" || len(id) > limits.TextBytesMax {
			return malformed(op, "a node id has %d bytes; 1 to %d are possible", len(id), limits.TextBytesMax)
		}
	}
	return nil
}

func checkText(op, what, text string, most int) error {
	return refusal(op, limits.CheckText(what, text, most))
}

func commitsFromProto(op string, commits []*controlpb.ChunkCommit) ([]actor.ChunkCommit, error) {
	if err := refusal(op, limits.CheckCount("commits in one call", len(commits),
		limits.CommitsPerCallMax)); err != nil {
		return nil, err
	}
	out := make([]actor.ChunkCommit, 0, len(commits))
	for _, c := range commits {
		id, generation, err := replicaFromProto(op, c)
		if err := cmp.Or(err, checkLength(op, c.GetLength()), checkNodes(op, c.GetNodeIds())); err != nil {
			return nil, err
		}
		out = append(out, actor.ChunkCommit{Chunk: id, Generation: generation, Length: c.Length, NodeIDs: c.NodeIds})
	}
	return out, nil
}

func registerFromProto(message *controlpb.Register) (*actor.RegisterNode, error) {
	const op = "register datanode"
	if message == nil {
		return nil, malformed(op, "the first message of a datanode's stream registers it")
	}
	if message.NodeId == "" || message.Address == "" {
		return nil, malformed(op, "node id or address is empty")
	}
	for _, field := range []struct{ what, text string }{
		{"the node id", message.NodeId}, {"the address", message.Address}, {"the version", message.Version},
		{"the rack", message.Rack}, {"the admin address", message.AdminAddress}, {"the cluster id", message.ClusterId},
		{"the name", message.Name},
	} {
		if err := checkText(op, field.what, field.text, limits.TextBytesMax); err != nil {
			return nil, err
		}
	}
	volumes, err := volumesFromProto(message.Volumes)
	if err != nil {
		return nil, err
	}
	return &actor.RegisterNode{ClusterID: message.ClusterId, NodeID: message.NodeId, Address: message.Address,
		Name: message.Name, Version: message.Version, Rack: message.Rack, AdminAddress: message.AdminAddress,
		HighestEpoch: message.HighestEpoch, HighestTxid: message.HighestTxid, Volumes: volumes}, nil
}

// volumeHealthFromProto takes a state that this build does not know for unknown.
func volumeHealthFromProto(h controlpb.VolumeHealth) datanode.VolumeHealth {
	if h < 0 || h > controlpb.VolumeHealth_VOLUME_HEALTH_MISSING {
		return datanode.VolumeUnknown
	}
	return datanode.VolumeHealth(h)
}

func volumesFromProto(volumes []*controlpb.VolumeState) ([]datanode.VolumeState, error) {
	const op = "datanode volumes"
	if err := refusal(op, limits.CheckCount("volumes", len(volumes), limits.VolumesPerNodeMax)); err != nil {
		return nil, err
	}
	out := make([]datanode.VolumeState, 0, len(volumes))
	for _, volume := range volumes {
		if volume.GetCapacityBytes() < 0 || volume.GetFreeBytes() < 0 {
			return nil, malformed(op, "a negative size")
		}
		err := cmp.Or(checkText(op, "the volume id", volume.GetVolumeId(), limits.TextBytesMax),
			checkText(op, "the directory", volume.GetDirectory(), limits.ReasonBytesMax))
		if err != nil {
			return nil, err
		}
		out = append(out, datanode.VolumeState{ID: volume.GetVolumeId(), Directory: volume.GetDirectory(),
			CapacityBytes: volume.GetCapacityBytes(), FreeBytes: volume.GetFreeBytes(), Replicas: volume.GetReplicas(),
			Healthy: volume.GetHealthy(),
			Error:   limits.Clip(volume.GetError(), limits.ReasonBytesMax),
			Health:  volumeHealthFromProto(volume.GetHealth()), Errors: volume.GetErrors(),
			Since: time.UnixMilli(volume.GetSinceMs()), Scrub: scrubFromProto(volume.GetScrub()),
			BusyPermille: permilleFromProto(volume.GetBusyPermille()),
			UsedBytes:    max(0, volume.GetUsedBytes()), ReserveBytes: max(0, volume.GetReserveBytes()),
			Lateness: lateness.IO{Reads: rpc.LatenessFromProto(volume.GetReads()),
				Writes: rpc.LatenessFromProto(volume.GetWrites())}})
	}
	return out, nil
}

func scrubFromProto(s *controlpb.ScrubState) datanode.Scrub {
	return datanode.Scrub{Passes: s.GetPasses(), Running: s.GetRunning(), Percent: s.GetPercent(),
		Began: rpc.FromMilli(s.GetBeganMs()), Ended: rpc.FromMilli(s.GetEndedMs()), Replicas: s.GetReplicas(),
		Bytes: s.GetBytes(), Bad: s.GetBad(), BadTotal: s.GetBadTotal()}
}

// loadFromProto takes at most datanode.LinksMax links.
func loadFromProto(load *controlpb.Load) datanode.Load {
	told := load.GetLinks()[:min(len(load.GetLinks()), datanode.LinksMax)]
	links := make([]datanode.Link, 0, len(told))
	for _, link := range told {
		links = append(links, datanode.Link{NodeID: link.GetNodeId(), Acks: rpc.LatenessFromProto(link.GetAcks())})
	}
	return datanode.Load{ActiveWrites: load.GetActiveWrites(), ActiveReads: load.GetActiveReads(),
		QueuedDiskOps: load.GetQueuedDiskOps(), GrantedWindowBytes: load.GetGrantedWindowBytes(),
		System: datanode.SystemLoad{CPUPermille: permilleFromProto(load.GetSystem().GetCpuPermille()),
			StalledPermille:        permilleFromProto(load.GetSystem().GetStalledPermille()),
			ReceivedBytesPerSecond: max(0, load.GetSystem().GetReceivedBytesPerSecond()),
			SentBytesPerSecond:     max(0, load.GetSystem().GetSentBytesPerSecond())}, Links: links}
}

// permilleFromProto brings a share that a datanode tells into its bounds.
func permilleFromProto(share int64) int64 { return min(max(share, 0), 1000) }

// reportFromProto reads a list of replicas; of removed ones state and length mean nothing.
func reportFromProto(replicas []*controlpb.ReplicaReport, removed bool) ([]chunk.Replica, error) {
	const op = "chunk report"
	if err := refusal(op, limits.CheckCount("replicas in one message", len(replicas),
		limits.ReplicasPerMessageMax)); err != nil {
		return nil, err
	}
	out := make([]chunk.Replica, 0, len(replicas))
	for _, replica := range replicas {
		id, generation, err := replicaFromProto(op, replica)
		if err != nil {
			return nil, err
		}
		if removed {
			out = append(out, chunk.Replica{ID: id, Generation: generation})
			continue
		}
		if err := checkLength(op, replica.Length); err != nil {
			return nil, err
		}
		if replica.State < controlpb.ReplicaState_REPLICA_STATE_OPEN ||
			replica.State > controlpb.ReplicaState_REPLICA_STATE_RECOVERED {
			return nil, malformed(op, "replica state %d", replica.State)
		}
		out = append(out, chunk.Replica{ID: id, Generation: generation, Length: replica.Length,
			State:   chunk.State(replica.State),
			Leaving: replica.Leaving && replica.State == controlpb.ReplicaState_REPLICA_STATE_SEALED})
	}
	return out, nil
}

func recoverResultFromProto(node string, session uint64,
	message *controlpb.RecoverResult) (*actor.RecoverResult, error) {
	const op = "recover result"
	id, generation, err := replicaFromProto(op, message)
	if err := cmp.Or(err, checkLength(op, message.GetLength()), checkNodes(op, message.GetNodeIds())); err != nil {
		return nil, err
	}
	return &actor.RecoverResult{NodeID: node, Session: session, RecoverResult: datanode.RecoverResult{Chunk: id,
		Generation: generation, Length: message.Length, NodeIDs: message.NodeIds,
		Error: limits.Clip(message.Error, limits.ReasonBytesMax)}}, nil
}

func copyResultFromProto(node string, session uint64, message *controlpb.CopyResult) (*actor.CopyResult, error) {
	const op = "copy result"
	id, generation, err := replicaFromProto(op, message)
	if err := cmp.Or(err, checkNodes(op, message.GetBadSources())); err != nil {
		return nil, err
	}
	return &actor.CopyResult{NodeID: node, Session: session, CopyResult: datanode.CopyResult{
		Chunk: id, Generation: generation, BadSources: message.BadSources,
		Error: limits.Clip(message.Error, limits.ReasonBytesMax),
	}}, nil
}

func verifyResultFromProto(node string, session uint64, message *controlpb.VerifyResult) (*actor.VerifyResult, error) {
	const op = "verify result"
	id, generation, err := replicaFromProto(op, message)
	if err != nil {
		return nil, err
	}
	return &actor.VerifyResult{NodeID: node, Session: session, VerifyResult: datanode.VerifyResult{
		Chunk: id, Generation: generation, Bad: message.Bad,
		Error: limits.Clip(message.Error, limits.ReasonBytesMax),
	}}, nil
}
