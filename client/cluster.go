package client

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/whispering-woods/ww/client/internal/namenode"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/fault"
)

// Summary counts the tree under path. Error: fault.NotFound.
func (c *Client) Summary(ctx context.Context, path string) (Summary, error) {
	what := clean("summary", &path)
	a, err := namenode.Ask(ctx, c.namenode, what, controlpb.NamenodeClient.Summary,
		&controlpb.SummaryRequest{Path: path})
	return Summary{Files: int64(a.GetFiles()), Directories: int64(a.GetDirectories()), Bytes: a.GetBytes(),
		StoredBytes: a.GetStoredBytes(), Chunks: int64(a.GetChunks())}, err
}

// volumes describes the disks of a datanode.
func volumes(list []*controlpb.VolumeState) []VolumeStatus {
	out := make([]VolumeStatus, 0, len(list))
	for _, v := range list {
		status := VolumeStatus{ID: v.GetVolumeId(), Directory: v.GetDirectory(),
			State: enumText(v.GetHealth(), "VOLUME_HEALTH_"), CapacityBytes: v.GetCapacityBytes(),
			FreeBytes: v.GetFreeBytes(), Replicas: int64(v.GetReplicas()), Errors: int64(v.GetErrors()),
			Error: v.GetError(), Since: time.UnixMilli(v.GetSinceMs()), Scrub: scrubStatus(v.GetScrub()),
			Busy:      float64(v.GetBusyPermille()) / 1000,
			UsedBytes: v.GetUsedBytes(), ReserveBytes: v.GetReserveBytes()}
		out = append(out, status)
	}
	return out
}

func scrubStatus(s *controlpb.ScrubState) ScrubStatus {
	return ScrubStatus{Passes: int64(s.GetPasses()), Running: s.GetRunning(), Percent: int(s.GetPercent()),
		Began: rpc.FromMilli(s.GetBeganMs()), Ended: rpc.FromMilli(s.GetEndedMs()), Replicas: int64(s.GetReplicas()),
		Bytes: int64(s.GetBytes()), Bad: int64(s.GetBad()), BadTotal: int64(s.GetBadTotal())}
}

// enumText is the value of an enum in words: "read-only" for VOLUME_HEALTH_READ_ONLY; "unknown" for its zero value.
func enumText(value fmt.Stringer, prefix string) string {
	name := strings.TrimPrefix(value.String(), prefix)
	if name == "UNSPECIFIED" {
		return "unknown"
	}
	return strings.ToLower(strings.ReplaceAll(name, "_", "-"))
}

// ClusterStatus describes the state of the cluster as the active namenode sees it.
func (c *Client) ClusterStatus(ctx context.Context) (ClusterStatus, error) {
	type request = controlpb.ClusterStatusRequest
	type response = controlpb.ClusterStatusResponse
	type stub = controlpb.NamenodeClient
	var from string
	method := func(s stub, ctx context.Context, q *request, o ...grpc.CallOption) (*response, error) {
		from = c.namenode.AddressOf(s)
		return s.ClusterStatus(ctx, q, o...)
	}
	answer, err := namenode.Ask(ctx, c.namenode, namenode.Call{Op: "cluster status"}, method, &request{})
	if err != nil {
		return ClusterStatus{}, err
	}
	checkpoint := answer.GetCheckpoint()
	status := ClusterStatus{
		ClusterID: answer.GetClusterId(), Epoch: answer.GetEpoch(), Txid: answer.GetTxid(),
		Version:  answer.GetVersion(),
		SafeMode: answer.GetSafeMode(), SafeModeReason: answer.GetSafeModeReason(),
		Files: int64(answer.GetFiles()), Directories: int64(answer.GetDirectories()), Chunks: int64(answer.GetChunks()),
		UnderReplicatedChunks: int64(answer.GetUnderReplicatedChunks()),
		MissingChunks:         int64(answer.GetMissingChunks()),
		CorruptReplicas:       int64(answer.GetCorruptReplicas()), OpenFiles: int64(answer.GetOpenFiles()),
		DefaultReplication: int(answer.GetDefaultReplication()), DefaultChunkSize: answer.GetDefaultChunkSize(),
		Namenode: from, AdminAddress: answer.GetAdminAddress(),
		Checkpoint: CheckpointStatus{Txid: checkpoint.GetTxid(), Bytes: int64(checkpoint.GetBytes()),
			Age: milliseconds(checkpoint.GetAgeMs()), RecordsSince: checkpoint.GetRecordsSince(),
			Running: checkpoint.GetRunning(), Error: checkpoint.GetError()},
		Health: Health(answer.GetVerdict()), UnconfirmedChunks: int64(answer.GetUnconfirmedChunks()),
		UnreportedNodes: int(answer.GetUnreportedNodes()), Counting: answer.GetCounting(),
		CopiesRunning: int64(answer.GetCopiesRunning()), CopiesWaiting: int64(answer.GetCopiesWaiting()),
		LeavingChunks: int64(answer.GetLeavingChunks()),
	}
	for _, n := range answer.GetNodes() {
		status.Nodes = append(status.Nodes, nodeStatus(n))
	}
	for _, l := range answer.GetLogServers() {
		status.LogServers = append(status.LogServers, LogServerStatus{NodeID: l.GetNodeId(), Address: l.GetAddress(),
			Leader: l.GetLeader(), Error: l.GetError(), AdminAddress: l.GetAdminAddress()})
	}
	return status, nil
}

func systemLoad(s *controlpb.SystemLoad) SystemLoad {
	return SystemLoad{CPU: float64(s.GetCpuPermille()) / 1000, Stalled: float64(s.GetStalledPermille()) / 1000,
		Received: s.GetReceivedBytesPerSecond(), Sent: s.GetSentBytesPerSecond()}
}

func nodeStatus(node *controlpb.NodeStatus) NodeStatus {
	status := NodeStatus{NodeID: node.GetNodeId(), Name: cmp.Or(node.GetName(), node.GetAddress()),
		Address: node.GetAddress(), Rack: node.GetRack(), Live: node.GetLive(),
		State: enumText(node.GetState(), "NODE_STATE_"), Registrations: int(node.GetRegistrations()),
		Version: node.GetVersion(), CapacityBytes: node.GetCapacityBytes(), FreeBytes: node.GetFreeBytes(),
		UsedBytes: node.GetUsedBytes(), Replicas: int64(node.GetReplicas()), ActiveWrites: int(node.GetActiveWrites()),
		ActiveReads: int(node.GetActiveReads()), LastHeartbeatAge: milliseconds(node.GetLastHeartbeatAgeMs()),
		AdminAddress: node.GetAdminAddress(), Volumes: volumes(node.GetVolumes()),
		SlowReason: node.GetSlowReason(), SlowFor: milliseconds(node.GetSlowMs()),
		System: systemLoad(node.GetSystem()), Duty: NodeDuty(node.GetDuty()),
		NeededChunks: int64(node.GetNeededChunks()), NeededOpenChunks: int64(node.GetNeededOpenChunks()),
		DutyDone: node.GetDutyDone()}
	if node.GetDutySinceUnixMs() > 0 {
		status.DutySince = time.UnixMilli(node.GetDutySinceUnixMs())
	}
	if node.GetDutyUntilUnixMs() > 0 {
		status.DutyUntil = time.UnixMilli(node.GetDutyUntilUnixMs())
	}
	return status
}

// SetNodeDuty says what is wanted of a datanode, by its id. span is how long a maintenance may take, 1 s to 7 days; it
// is ignored for other duties. The wish is durable on return; what it needs goes on in the background
// (NodeStatus.DutyDone). A datanode that is not dead, or may have the last replica of a chunk, is not forgotten:
// fault.Invalid. Errors: fault.NotFound, fault.Invalid, fault.TooFewNodes, fault.Busy while it is not known what the
// datanodes have.
func (c *Client) SetNodeDuty(ctx context.Context, nodeID string, duty NodeDuty,
	span time.Duration) (NodeStatus, error) {
	request := &controlpb.SetNodeDutyRequest{NodeId: nodeID, Duty: controlpb.NodeDuty(duty)}
	if duty == NodeMaintenance {
		request.MaintenanceMs = span.Milliseconds()
	}
	a, err := namenode.Ask(ctx, c.namenode, namenode.Call{Op: "set node duty"},
		controlpb.NamenodeClient.SetNodeDuty, request)
	return nodeStatus(a.GetNode()), err
}

func milliseconds[N int64 | uint64](count N) time.Duration {
	return time.Duration(count) * time.Millisecond
}

// Checkpoint has the namenode take a checkpoint of everything that was acknowledged before, and returns once the log
// server has it on its disk. The context bounds the wait.
func (c *Client) Checkpoint(ctx context.Context) (CheckpointStatus, error) {
	request := &controlpb.CheckpointRequest{}
	for {
		a, err := namenode.Ask(ctx, c.namenode, namenode.Call{Op: "checkpoint"}, controlpb.NamenodeClient.Checkpoint,
			request)
		if err != nil || !a.GetPending() {
			return CheckpointStatus{Txid: a.GetTxid(), Bytes: int64(a.GetBytes())}, err
		}
		request = &controlpb.CheckpointRequest{AtLeastTxid: a.GetAtLeastTxid()}
	}
}

// SafeMode asks for, or changes, the namenode's safe mode.
func (c *Client) SafeMode(ctx context.Context, action SafeModeAction) (SafeModeState, error) {
	wanted, known := map[SafeModeAction]controlpb.SafeModeAction{
		SafeModeGet:   controlpb.SafeModeAction_SAFE_MODE_ACTION_GET,
		SafeModeEnter: controlpb.SafeModeAction_SAFE_MODE_ACTION_ENTER,
		SafeModeLeave: controlpb.SafeModeAction_SAFE_MODE_ACTION_LEAVE,
	}[action]
	if !known {
		return SafeModeState{}, fault.New(fault.Invalid, "safe mode", "there is no action %d", action)
	}
	a, err := namenode.Ask(ctx, c.namenode, namenode.Call{Op: "safe mode"}, controlpb.NamenodeClient.SafeMode,
		&controlpb.SafeModeRequest{Action: wanted})
	return SafeModeState{On: a.GetOn(), Reason: a.GetReason()}, err
}
