package namenode

import (
	"cmp"
	"context"
	"time"

	"github.com/whispering-woods/ww/actor"
	"github.com/whispering-woods/ww/actor/replicas"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/limits"
)

// List returns one page of a directory.
func (s *service) List(ctx context.Context, m *controlpb.ListRequest) (*controlpb.ListResponse, error) {
	const op = "list"
	r, err := read[actor.ListResult](ctx, s, op, &actor.List{Path: m.Path, After: m.After, Limit: m.Limit},
		cmp.Or(checkPath(op, m.Path), checkText(op, "the name to begin after", m.After, limits.TextBytesMax)))
	response := &controlpb.ListResponse{Entries: make([]*controlpb.FileInfo, 0, len(r.Entries)), More: r.More}
	for _, e := range r.Entries {
		response.Entries = append(response.Entries, infoToProto(e))
	}
	return response, err
}

// Stat describes one path.
func (s *service) Stat(ctx context.Context, m *controlpb.StatRequest) (*controlpb.StatResponse, error) {
	const op = "stat"
	r, err := read[actor.StatResult](ctx, s, op, &actor.Stat{Path: m.Path}, checkPath(op, m.Path))
	return &controlpb.StatResponse{Info: infoToProto(r.Info), LeaseHolder: r.Holder, LeaseSinceUnixMs: r.Since}, err
}

// Locate returns the chunks of a byte range.
func (s *service) Locate(ctx context.Context, request *controlpb.LocateRequest) (*controlpb.LocateResponse, error) {
	const op = "locate"
	var invalid error
	switch {
	case request.Path != "" && request.FileId != 0, request.Path == "" && request.FileId == 0:
		invalid = malformed(op, "one of path and file id is wanted")
	case request.Path != "":
		invalid = checkPath(op, request.Path)
	}
	if invalid == nil && request.Offset < 0 {
		invalid = malformed(op, "offset %d", request.Offset)
	}
	r, err := read[actor.LocateResult](ctx, s, op,
		&actor.Locate{Path: request.Path, FileID: request.FileId, Offset: request.Offset, Length: request.Length},
		invalid)
	return &controlpb.LocateResponse{Info: infoToProto(r.Info), Chunks: chunksToProto(r.Chunks)}, err
}

// Summary counts a subtree.
func (s *service) Summary(ctx context.Context, m *controlpb.SummaryRequest) (*controlpb.SummaryResponse, error) {
	const op = "summary"
	r, err := read[actor.SummaryResult](ctx, s, op, &actor.Summary{Path: m.Path}, checkPath(op, m.Path))
	return &controlpb.SummaryResponse{Files: r.Files, Directories: r.Directories, Bytes: r.Bytes,
		StoredBytes: r.StoredBytes, Chunks: r.Chunks}, err
}

// Fsck draws verdicts on the chunks below a path.
func (s *service) Fsck(ctx context.Context, m *controlpb.FsckRequest) (*controlpb.FsckResponse, error) {
	const op = "fsck"
	r, err := read[actor.FsckResult](ctx, s, op,
		&actor.Fsck{Path: m.Path, From: actor.FsckCursor{Path: m.FromPath, Chunk: m.FromChunk}},
		cmp.Or(checkPath(op, m.Path), checkText(op, "the path to go on at", m.FromPath, limits.PathBytesMax)))
	response := &controlpb.FsckResponse{Files: r.Files, Directories: r.Directories, Bytes: r.Bytes, Chunks: r.Chunks[:],
		More: r.More, NextPath: r.Next.Path, NextChunk: r.Next.Chunk}
	for _, f := range r.Found {
		file := &controlpb.FileHealth{Path: f.Path, FileId: f.FileID, Open: f.Open,
			Verdict: controlpb.Health(f.Verdict)}
		for _, c := range f.Chunks {
			file.Chunks = append(file.Chunks, healthToProto(c))
		}
		response.Found = append(response.Found, file)
	}
	return response, err
}

func healthToProto(c replicas.Health) *controlpb.ChunkHealth {
	return &controlpb.ChunkHealth{ChunkId: idToProto(c.Chunk), Generation: uint64(c.Generation), Index: c.Index,
		Length: c.Length, Open: c.Open, Verdict: controlpb.Health(c.Verdict), Wanted: uint32(c.Wanted),
		Confirmed: uint32(c.Confirmed), Unconfirmed: uint32(c.Unconfirmed), Bad: uint32(c.Bad)}
}

// Why explains a chunk, or those of a file that something is to be done about.
func (s *service) Why(ctx context.Context, m *controlpb.WhyRequest) (*controlpb.WhyResponse, error) {
	const op = "why"
	request := &actor.Why{Path: m.Path, From: m.FromChunk}
	var invalid error
	switch {
	case (m.Path == "") == (len(m.ChunkId) == 0):
		invalid = malformed(op, "one of path and chunk id is wanted")
	case m.Path != "":
		invalid = checkPath(op, m.Path)
	default:
		request.Chunk, invalid = idFromProto(op, m.ChunkId)
	}
	r, err := read[actor.WhyResult](ctx, s, op, request, invalid)
	response := &controlpb.WhyResponse{Examined: r.Examined, More: r.More, NextChunk: r.Next}
	for _, c := range r.Chunks {
		response.Chunks = append(response.Chunks, explanationToProto(c))
	}
	return response, err
}

func explanationToProto(c replicas.Explanation) *controlpb.ChunkReason {
	out := &controlpb.ChunkReason{Health: healthToProto(c.Health), FileId: c.FileID,
		LackingMs: c.Lacking.Milliseconds(), SinceStart: c.SinceStart, Doing: c.Doing, Blocked: c.Blocked}
	for _, n := range c.Replicas {
		out.Replicas = append(out.Replicas, &controlpb.ReplicaNote{NodeId: n.NodeID, Name: n.Name, Address: n.Address,
			Text: n.Text})
	}
	return out
}

// RenewLeases keeps all leases of one client.
func (s *service) RenewLeases(ctx context.Context,
	m *controlpb.RenewLeasesRequest) (*controlpb.RenewLeasesResponse, error) {
	const op = "renew leases"
	var request actor.RenewLeases
	var invalid error
	if len(m.ClientId) != len(request.Client) {
		invalid = malformed(op, "the client id has %d bytes, want %d", len(m.ClientId), len(request.Client))
	}
	copy(request.Client[:], m.ClientId)
	r, err := read[actor.RenewLeasesResult](ctx, s, op, &request, invalid)
	return &controlpb.RenewLeasesResponse{FileIds: r.FileIDs, Growable: growableToProto(r.Growable)}, err
}

// ReportBadReplica records a client's report that a replica failed its checksum, or is not there.
func (s *service) ReportBadReplica(ctx context.Context,
	message *controlpb.ReportBadReplicaRequest) (*controlpb.ReportBadReplicaResponse, error) {
	const op = "report bad replica"
	id, generation, invalid := replicaFromProto(op, message)
	_, err := read[actor.ReportBadReplicaResult](ctx, s, op,
		&actor.ReportBadReplica{Chunk: id, Generation: generation, NodeID: message.NodeId, Reason: message.Reason,
			Missing: message.Missing},
		cmp.Or(invalid, checkNodes(op, []string{message.NodeId}),
			checkText(op, "the reason", message.Reason, limits.ReasonBytesMax)))
	if err != nil {
		return nil, err
	}
	s.server.logger.Warn("a client reports a bad replica", keyChunk, id, keyNode, message.NodeId, keyPeer, peerOf(ctx),
		"missing", message.Missing, "reason", message.Reason)
	return &controlpb.ReportBadReplicaResponse{}, nil
}

// ClusterStatus describes the cluster.
func (s *service) ClusterStatus(ctx context.Context,
	_ *controlpb.ClusterStatusRequest) (*controlpb.ClusterStatusResponse, error) {
	r, err := read[actor.ClusterStatusResult](ctx, s, "cluster status", &actor.ClusterStatus{}, nil)
	if err != nil {
		return nil, err
	}
	response := statusToProto(&r)
	response.AdminAddress = s.server.options.AdminAddress
	if known := s.server.logServers.Load(); known != nil {
		response.LogServers = *known
	}
	if known := s.server.checkpoint.Load(); known != nil {
		response.Checkpoint = known.toProto(s.server.options.Clock.Now(), response.Txid)
	}
	return response, nil
}

// SafeMode asks for or changes safe mode.
func (s *service) SafeMode(ctx context.Context, m *controlpb.SafeModeRequest) (*controlpb.SafeModeResponse, error) {
	const op = "safe mode"
	var invalid error
	if m.Action < controlpb.SafeModeAction_SAFE_MODE_ACTION_GET ||
		m.Action > controlpb.SafeModeAction_SAFE_MODE_ACTION_LEAVE {
		invalid = malformed(op, "action %d", m.Action)
	}
	if invalid == nil && m.Action != controlpb.SafeModeAction_SAFE_MODE_ACTION_GET {
		s.server.logger.Info("safe mode asked for by hand", "action", m.Action.String(), keyPeer, peerOf(ctx))
	}
	r, err := read[actor.SafeModeResult](ctx, s, op, &actor.SafeMode{Action: actor.SafeModeAction(m.Action)}, invalid)
	return &controlpb.SafeModeResponse{On: r.On, Reason: r.Reason}, err
}

// Repair tells of the repair, and changes its limits.
func (s *service) Repair(ctx context.Context,
	message *controlpb.RepairRequest) (*controlpb.RepairResponse, error) {
	const op = "repair"
	var invalid error
	if message.Streams > limits.RepairStreamsMax || message.NodeStreams > limits.RepairNodeStreamsMax {
		invalid = malformed(op, "%d streams, %d to one datanode", message.Streams, message.NodeStreams)
	}
	r, err := read[actor.RepairResult](ctx, s, op, &actor.Repair{Streams: int(message.Streams),
		NodeStreams: int(message.NodeStreams), Bandwidth: message.Bandwidth}, invalid)
	if err != nil {
		return nil, err
	}
	if message.Streams > 0 || message.NodeStreams > 0 || message.Bandwidth != nil {
		s.server.logger.Info("an operator changes the limits of the repair", "streams", r.Limits.Streams,
			"node_streams", r.Limits.NodeStreams, "bandwidth", r.Limits.Bandwidth, keyPeer, peerOf(ctx))
	}
	return repairToProto(&r.RepairStatus), nil
}

// Balance tells of the balance of the datanodes, begins or stops one, or says what one would move.
func (s *service) Balance(ctx context.Context,
	message *controlpb.BalanceRequest) (*controlpb.BalanceResponse, error) {
	const op = "balance"
	var invalid error
	if message.Action < controlpb.BalanceAction_BALANCE_ACTION_GET ||
		message.Action > controlpb.BalanceAction_BALANCE_ACTION_PLAN {
		invalid = malformed(op, "action %d", message.Action)
	}
	r, err := read[actor.BalanceResult](ctx, s, op, &actor.Balance{Action: actor.BalanceAction(message.Action),
		BalanceWish: actor.BalanceWish{Threshold: message.Threshold, Bandwidth: message.Bandwidth}}, invalid)
	if err != nil {
		return nil, err
	}
	if message.Action == controlpb.BalanceAction_BALANCE_ACTION_START ||
		message.Action == controlpb.BalanceAction_BALANCE_ACTION_STOP {
		s.server.logger.Info("an operator begins or stops a balance", "action", message.Action.String(),
			"threshold", message.Threshold, "bandwidth", message.Bandwidth, keyPeer, peerOf(ctx))
	}
	return balanceToProto(&r.BalanceStatus), nil
}

// SetNodeDuty takes a datanode out of service, or back, or has it forgotten.
func (s *service) SetNodeDuty(ctx context.Context,
	message *controlpb.SetNodeDutyRequest) (*controlpb.SetNodeDutyResponse, error) {
	const op = "set node duty"
	invalid := checkNodes(op, []string{message.NodeId})
	if invalid == nil && (message.Duty < 0 || message.Duty > controlpb.NodeDuty_NODE_DUTY_FORGOTTEN ||
		message.MaintenanceMs < 0 || message.MaintenanceMs > actor.MaintenanceMax.Milliseconds()) {
		invalid = malformed(op, "duty %d for %d ms", message.Duty, message.MaintenanceMs)
	}
	r, err := read[actor.SetDutyResult](ctx, s, op, &actor.SetDuty{NodeID: message.NodeId,
		Duty: datanode.Duty(message.Duty), For: time.Duration(message.MaintenanceMs) * time.Millisecond}, invalid)
	if err != nil {
		return nil, err
	}
	s.server.logger.Info("an operator changes the duty of a datanode", keyNode, message.NodeId, "duty",
		message.Duty.String(), keyPeer, peerOf(ctx))
	return &controlpb.SetNodeDutyResponse{Node: nodeToProto(r.Node)}, nil
}
