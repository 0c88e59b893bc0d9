package client

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"github.com/whispering-woods/ww/client/internal/namenode"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/fault"
)

// Summary counts the tree under path. Error: fault.NotFound.
func (c *Client) Summary(ctx context.Context, path string) (Summary, error) {
	const op = "summary"
	path, err := cleanPath(op, path)
	if err != nil {
		return Summary{}, err
	}
	a, err := namenode.Ask(ctx, c.namenode, namenode.Call{Op: op, Path: path}, controlpb.NamenodeClient.Summary, &controlpb.SummaryRequest{Path: path})
	if err != nil {
		return Summary{}, err
	}
	return Summary{Files: int64(a.GetFiles()), Directories: int64(a.GetDirectories()), Bytes: a.GetBytes(),
		StoredBytes: a.GetStoredBytes(), Chunks: int64(a.GetChunks())}, nil
}

// ClusterStatus tells the state of the cluster as the active namenode sees it.
func (c *Client) ClusterStatus(ctx context.Context) (ClusterStatus, error) {
	var from string
	a, err := namenode.Ask(ctx, c.namenode, namenode.Call{Op: "cluster status"}, func(stub controlpb.NamenodeClient, ctx context.Context, q *controlpb.ClusterStatusRequest, o ...grpc.CallOption) (*controlpb.ClusterStatusResponse, error) {
		from = c.namenode.AddressOf(stub)
		return stub.ClusterStatus(ctx, q, o...)
	}, &controlpb.ClusterStatusRequest{})
	if err != nil {
		return ClusterStatus{}, err
	}
	s := ClusterStatus{
		ClusterID: a.GetClusterId(), Epoch: a.GetEpoch(), Txid: a.GetTxid(),
		SafeMode: a.GetSafeMode(), SafeModeReason: a.GetSafeModeReason(),
		Files: int64(a.GetFiles()), Directories: int64(a.GetDirectories()), Chunks: int64(a.GetChunks()),
		UnderReplicatedChunks: int64(a.GetUnderReplicatedChunks()), MissingChunks: int64(a.GetMissingChunks()),
		CorruptReplicas: int64(a.GetCorruptReplicas()), OpenFiles: int64(a.GetOpenFiles()), Version: a.GetVersion(),
		DefaultReplication: int(a.GetDefaultReplication()), DefaultChunkSize: a.GetDefaultChunkSize(), Namenode: from, AdminAddress: a.GetAdminAddress(),
	}
	for _, n := range a.GetNodes() {
		s.Nodes = append(s.Nodes, NodeStatus{
			NodeID: n.GetNodeId(), Address: n.GetAddress(), Live: n.GetLive(),
			CapacityBytes: n.GetCapacityBytes(), FreeBytes: n.GetFreeBytes(), UsedBytes: n.GetUsedBytes(),
			Replicas: int64(n.GetReplicas()), ActiveWrites: int(n.GetActiveWrites()), ActiveReads: int(n.GetActiveReads()),
			LastHeartbeatAge: time.Duration(n.GetLastHeartbeatAgeMs()) * time.Millisecond, Version: n.GetVersion(), AdminAddress: n.GetAdminAddress(),
		})
	}
	for _, l := range a.GetLogServers() {
		s.LogServers = append(s.LogServers, LogServerStatus{NodeID: l.GetNodeId(), Address: l.GetAddress(), Leader: l.GetLeader(),
			Error: l.GetError(), AdminAddress: l.GetAdminAddress()})
	}
	s.Checkpoint = CheckpointStatus{Txid: a.GetCheckpoint().GetTxid(), Bytes: int64(a.GetCheckpoint().GetBytes()),
		Age: time.Duration(a.GetCheckpoint().GetAgeMs()) * time.Millisecond, RecordsSince: a.GetCheckpoint().GetRecordsSince(),
		Running: a.GetCheckpoint().GetRunning(), Error: a.GetCheckpoint().GetError()}
	return s, nil
}

// Checkpoint has the namenode take a checkpoint of everything that was acknowledged before, and returns once the log
// server has it on its disk. The context bounds the wait.
func (c *Client) Checkpoint(ctx context.Context) (CheckpointStatus, error) {
	request := &controlpb.CheckpointRequest{}
	for {
		a, err := namenode.Ask(ctx, c.namenode, namenode.Call{Op: "checkpoint"}, controlpb.NamenodeClient.Checkpoint, request)
		if err != nil {
			return CheckpointStatus{}, err
		}
		if !a.GetPending() {
			return CheckpointStatus{Txid: a.GetTxid(), Bytes: int64(a.GetBytes())}, nil
		}
		request = &controlpb.CheckpointRequest{AtLeastTxid: a.GetAtLeastTxid()}
	}
}

// SafeMode asks for, or changes, the namenode's safe mode.
func (c *Client) SafeMode(ctx context.Context, action SafeModeAction) (SafeModeState, error) {
	var wanted controlpb.SafeModeAction
	switch action {
	case SafeModeGet:
		wanted = controlpb.SafeModeAction_SAFE_MODE_ACTION_GET
	case SafeModeEnter:
		wanted = controlpb.SafeModeAction_SAFE_MODE_ACTION_ENTER
	case SafeModeLeave:
		wanted = controlpb.SafeModeAction_SAFE_MODE_ACTION_LEAVE
	default:
		return SafeModeState{}, fault.New(fault.Invalid, "safe mode", "there is no action %d", action)
	}
	a, err := namenode.Ask(ctx, c.namenode, namenode.Call{Op: "safe mode"}, controlpb.NamenodeClient.SafeMode, &controlpb.SafeModeRequest{Action: wanted})
	if err != nil {
		return SafeModeState{}, err
	}
	return SafeModeState{On: a.GetOn(), Reason: a.GetReason()}, nil
}
