package namenode

import (
	"cmp"
	"context"

	"github.com/whispering-woods/ww/actor"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// service serves Namenode. Every call checks what came from the network, asks the actor, and maps the answer; with an
// error the result is empty, and gRPC drops what was made of it. This file has the calls that change files and
// directories; reads.go has the others.
type service struct {
	controlpb.UnimplementedNamenodeServer
	server *Server
}

// mutate asks for a change.
func mutate[R any](ctx context.Context, service *service, op string, header *controlpb.MutationHeader,
	request actor.Request, invalid error) (result R, err error) {
	return as[R](op)(mutateAny(ctx, service, op, header, request, invalid))
}

// mutateAny is mutate for a request with results of several types.
func mutateAny(ctx context.Context, service *service, op string, header *controlpb.MutationHeader,
	request actor.Request, invalid error) (any, error) {
	c := newCall(ctx, request)
	if invalid == nil {
		invalid = headerFromProto(op, header, &c.command)
	}
	if invalid != nil {
		service.server.stats.malformed.Add(1)
		return nil, invalid
	}
	return service.ask(c, op)
}

// read asks for something that changes nothing durable.
func read[R any](ctx context.Context, s *service, op string, request actor.Request,
	invalid error) (result R, err error) {
	if invalid != nil {
		s.server.stats.malformed.Add(1)
		return result, invalid
	}
	return as[R](op)(s.ask(newCall(ctx, request), op))
}

func (s *service) ask(c *call, op string) (any, error) {
	t, err := s.server.activeTerm(op)
	if err != nil {
		return nil, err
	}
	s.server.calls.Add(1)
	defer s.server.calls.Add(-1)
	a := t.tryDo(c, op)
	if a.err != nil {
		return nil, a.err
	}
	return a.result, nil
}

// as makes a result what the caller wants, unless there is an error.
func as[R any](op string) func(any, error) (R, error) {
	return func(answer any, err error) (result R, _ error) {
		if err != nil {
			return result, err
		}
		answered, ok := answer.(*R)
		if !ok {
			return result, fault.New(fault.Internal, op, "the answer is a %T", answer)
		}
		return *answered, nil
	}
}

// writeCopiesMin is what every answer with a pipeline tells its writer. It is no part of the answers that the actor
// remembers: what counts is the setting of the namenode that serves.
func (s *service) writeCopiesMin() uint32 { return uint32(s.server.options.Actor.WriteCopiesMin) }

// Mkdir creates a directory.
func (s *service) Mkdir(ctx context.Context, m *controlpb.MkdirRequest) (*controlpb.MkdirResponse, error) {
	const op = "mkdir"
	r, err := mutate[actor.MkdirResult](ctx, s, op, m.Header, &actor.Mkdir{Path: m.Path, Parents: m.Parents},
		checkPath(op, m.Path))
	return &controlpb.MkdirResponse{Info: infoToProto(r.Info)}, err
}

// Create starts a file.
func (s *service) Create(ctx context.Context, message *controlpb.CreateRequest) (*controlpb.CreateResponse, error) {
	const op = "create"
	invalid := cmp.Or(checkPath(op, message.Path), checkNodes(op, message.ExcludeNodes),
		checkText(op, "the client name", message.ClientName, limits.TextBytesMax),
		refusal(op, limits.CheckReplication(message.Replication)), checkChunkCount(op, message.ChunkCount),
		checkChunkBytes(op, message.ChunkBytesMax))
	if invalid == nil && message.ChunkSize != 0 { // 0 means the default
		invalid = refusal(op, limits.CheckChunkSize(message.ChunkSize))
	}
	request := &actor.Create{Path: message.Path, Overwrite: message.Overwrite, Parents: message.Parents,
		Replication: message.Replication, ChunkSize: message.ChunkSize, VisibleOnComplete: message.VisibleOnComplete,
		ChunkCount: message.ChunkCount, ChunkBytesMax: message.ChunkBytesMax, ExcludeNodes: message.ExcludeNodes,
		ClientName: message.ClientName}
	r, err := mutate[actor.CreateResult](ctx, s, op, message.Header, request, invalid)
	return &controlpb.CreateResponse{Info: infoToProto(r.Info), Chunks: chunksToProto(r.Chunks),
		WriteCopiesMin: s.writeCopiesMin()}, err
}

// AddChunks commits chunks and allocates the next ones.
func (s *service) AddChunks(ctx context.Context, m *controlpb.AddChunksRequest) (*controlpb.AddChunksResponse, error) {
	const op = "add chunks"
	commits, invalid := commitsFromProto(op, m.Commits)
	invalid = cmp.Or(invalid, checkFile(op, m.FileId), checkNodes(op, m.ExcludeNodes), checkNodes(op, m.AvoidNodes),
		checkChunkCount(op, m.Count), checkChunkBytes(op, m.ChunkBytesMax))
	request := &actor.AddChunks{FileID: m.FileId, FirstIndex: m.FirstIndex, Count: m.Count, Commits: commits,
		ExcludeNodes: m.ExcludeNodes, AvoidNodes: m.AvoidNodes, ChunkBytesMax: m.ChunkBytesMax}
	if invalid == nil && len(m.ReplaceChunkId) > 0 {
		request.ReplaceChunk, invalid = idFromProto(op, m.ReplaceChunkId)
	}
	r, err := mutate[actor.AddChunksResult](ctx, s, op, m.Header, request, invalid)
	return &controlpb.AddChunksResponse{Chunks: chunksToProto(r.Chunks), WriteCopiesMin: s.writeCopiesMin()}, err
}

// Complete closes a file.
func (s *service) Complete(ctx context.Context, m *controlpb.CompleteRequest) (*controlpb.CompleteResponse, error) {
	const op = "complete"
	commits, invalid := commitsFromProto(op, m.Commits)
	r, err := mutate[actor.CompleteResult](ctx, s, op, m.Header, &actor.Complete{FileID: m.FileId, Commits: commits},
		cmp.Or(invalid, checkFile(op, m.FileId)))
	return &controlpb.CompleteResponse{Info: infoToProto(r.Info)}, err
}

// Abandon drops a file that was never completed.
func (s *service) Abandon(ctx context.Context, m *controlpb.AbandonRequest) (*controlpb.AbandonResponse, error) {
	const op = "abandon"
	_, err := mutate[actor.AbandonResult](ctx, s, op, m.Header, &actor.Abandon{FileID: m.FileId},
		checkFile(op, m.FileId))
	return &controlpb.AbandonResponse{}, err
}

// Append reopens a closed file.
func (s *service) Append(ctx context.Context, m *controlpb.AppendRequest) (*controlpb.AppendResponse, error) {
	const op = "append"
	r, err := mutate[actor.AppendResult](ctx, s, op, m.Header,
		&actor.Append{Path: m.Path, RecoverLease: m.RecoverLease, ClientName: m.ClientName},
		cmp.Or(checkPath(op, m.Path), checkText(op, "the client name", m.ClientName, limits.TextBytesMax)))
	response := &controlpb.AppendResponse{Info: infoToProto(r.Info), PreviousGeneration: uint64(r.PreviousGeneration),
		WriteCopiesMin: s.writeCopiesMin()}
	if r.HasLast {
		response.Last = chunkToProto(r.Last)
	}
	return response, err
}

// RecoverPipeline issues a new generation for a broken pipeline.
func (s *service) RecoverPipeline(ctx context.Context,
	m *controlpb.RecoverPipelineRequest) (*controlpb.RecoverPipelineResponse, error) {
	const op = "recover pipeline"
	id, generation, invalid := replicaFromProto(op, m)
	r, err := mutate[actor.RecoverPipelineResult](ctx, s, op, m.Header,
		&actor.RecoverPipeline{FileID: m.FileId, Chunk: id, Generation: generation, FailedNodes: m.FailedNodes,
			Grow: m.Grow, ChunkBytesMax: m.ChunkBytesMax},
		cmp.Or(invalid, checkFile(op, m.FileId), checkNodes(op, m.FailedNodes), checkChunkBytes(op, m.ChunkBytesMax)))
	return &controlpb.RecoverPipelineResponse{Generation: uint64(r.Generation), Survivors: replicasToProto(r.Survivors),
		Replacements: replicasToProto(r.Replacements), WriteCopiesMin: s.writeCopiesMin()}, err
}

// UpdatePipeline commits a new generation.
func (s *service) UpdatePipeline(ctx context.Context,
	m *controlpb.UpdatePipelineRequest) (*controlpb.UpdatePipelineResponse, error) {
	const op = "update pipeline"
	id, generation, invalid := replicaFromProto(op, m)
	_, err := mutate[actor.UpdatePipelineResult](ctx, s, op, m.Header,
		&actor.UpdatePipeline{FileID: m.FileId, Chunk: id, Generation: generation, Length: m.Length,
			NodeIDs: m.NodeIds},
		cmp.Or(invalid, checkFile(op, m.FileId), checkLength(op, m.Length), checkNodes(op, m.NodeIds)))
	return &controlpb.UpdatePipelineResponse{}, err
}

// Rename moves a file or directory.
func (s *service) Rename(ctx context.Context, m *controlpb.RenameRequest) (*controlpb.RenameResponse, error) {
	const op = "rename"
	_, err := mutate[actor.RenameResult](ctx, s, op, m.Header,
		&actor.Rename{Source: m.Source, Target: m.Target, Overwrite: m.Overwrite},
		cmp.Or(checkPath(op, m.Source), checkPath(op, m.Target)))
	return &controlpb.RenameResponse{}, err
}

// Remove deletes a file or directory, or moves it to the trash.
func (s *service) Remove(ctx context.Context, m *controlpb.RemoveRequest) (*controlpb.RemoveResponse, error) {
	const op = "remove"
	answer, err := mutateAny(ctx, s, op, m.Header, &actor.Remove{Path: m.Path, Recursive: m.Recursive,
		ToTrash: m.ToTrash, User: m.User},
		cmp.Or(checkPath(op, m.Path), checkText(op, "the user", m.User, limits.NameBytesMax)))
	switch answer := answer.(type) {
	case *actor.TrashedResult:
		return &controlpb.RemoveResponse{Trashed: true, TrashPath: answer.Path}, err
	case *actor.RenameResult: // of an older namenode, which remembers no more of a call
		return &controlpb.RemoveResponse{Trashed: true}, err
	}
	r, err := as[actor.RemoveResult](op)(answer, err)
	return &controlpb.RemoveResponse{Files: r.Files, Directories: r.Directories, Bytes: r.Bytes}, err
}

// RecoverLease ends another client's lease.
func (s *service) RecoverLease(ctx context.Context,
	m *controlpb.RecoverLeaseRequest) (*controlpb.RecoverLeaseResponse, error) {
	const op = "recover lease"
	r, err := mutate[actor.RecoverLeaseResult](ctx, s, op, m.Header, &actor.RecoverLease{Path: m.Path},
		checkPath(op, m.Path))
	return &controlpb.RecoverLeaseResponse{Closed: r.Closed}, err
}

// SetReplication changes how many copies a file wants.
func (s *service) SetReplication(ctx context.Context,
	m *controlpb.SetReplicationRequest) (*controlpb.SetReplicationResponse, error) {
	const op = "set replication"
	invalid := cmp.Or(checkPath(op, m.Path), refusal(op, limits.CheckReplication(m.Replication)))
	if invalid == nil && m.Replication == 0 {
		invalid = malformed(op, "replication 0")
	}
	r, err := mutate[actor.SetReplicationResult](ctx, s, op, m.Header,
		&actor.SetReplication{Path: m.Path, Replication: m.Replication}, invalid)
	return &controlpb.SetReplicationResponse{Info: infoToProto(r.Info)}, err
}

// Truncate cuts a closed file.
func (s *service) Truncate(ctx context.Context, m *controlpb.TruncateRequest) (*controlpb.TruncateResponse, error) {
	const op = "truncate"
	invalid := checkPath(op, m.Path)
	if invalid == nil && m.Length < 0 {
		invalid = malformed(op, "length %d", m.Length)
	}
	r, err := mutate[actor.TruncateResult](ctx, s, op, m.Header, &actor.Truncate{Path: m.Path, Length: m.Length},
		invalid)
	return &controlpb.TruncateResponse{Info: infoToProto(r.Info), Done: r.Done}, err
}
