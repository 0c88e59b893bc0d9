package namenode

import (
	"context"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// Chunk is one chunk of a file and where its replicas are, nearest first.
type Chunk struct {
	ID         chunk.ID
	Generation chunk.Generation
	Index      int   // in the file
	Offset     int64 // of its first byte in the file
	Length     int64 // committed bytes
	Open       bool  // a pipeline may be writing it
	Replicas   []wire.Hop
	// CopiesMin: nothing written to it may be acknowledged on fewer replicas than this, or than the file's replication
	// if that is less. 0 for readers.
	CopiesMin int
}

// ChunkFrom checks and turns a chunk of the proto into ours.
func ChunkFrom(in *controlpb.LocatedChunk) (Chunk, error) {
	id, err := chunk.IDFrom(in.GetChunkId())
	if err != nil {
		return Chunk{}, err
	}
	return Chunk{ID: id, Generation: chunk.Generation(in.GetGeneration()), Index: int(in.GetIndex()),
		Offset: in.GetOffset(), Length: in.GetLength(), Open: in.GetOpen(), Replicas: HopsFrom(in.GetReplicas())}, nil
}

// HopsFrom turns places of the proto into ours.
func HopsFrom(replicas []*controlpb.Replica) []wire.Hop {
	hops := make([]wire.Hop, 0, len(replicas))
	for _, r := range replicas {
		hops = append(hops, wire.Hop{NodeID: r.GetNodeId(), Address: r.GetAddress()})
	}
	return hops
}

// NodeIDs lists the nodes of a pipeline.
func NodeIDs(hops []wire.Hop) []string {
	ids := make([]string, 0, len(hops))
	for _, h := range hops {
		ids = append(ids, h.NodeID)
	}
	return ids
}

// Locate finds chunks by path or by file id.
func (c *Client) Locate(ctx context.Context, what Call,
	request *controlpb.LocateRequest) (*controlpb.FileInfo, []Chunk, error) {
	answer, err := Ask(ctx, c, what, controlpb.NamenodeClient.Locate, request)
	if err != nil {
		return nil, nil, err
	}
	chunks := make([]Chunk, 0, len(answer.GetChunks()))
	for _, located := range answer.GetChunks() {
		found, err := ChunkFrom(located)
		if err != nil {
			return nil, nil, &fault.Error{Kind: fault.Protocol, Op: what.Op, Path: what.Path, Err: err}
		}
		chunks = append(chunks, found)
	}
	return answer.GetInfo(), chunks, nil
}

// Allocation says which chunks of a file to allocate.
type Allocation struct {
	File          uint64
	First         int // index of the first one in the file
	Count         int
	Commits       []*controlpb.ChunkCommit // of chunks that are sealed
	Exclude       []string                 // node ids to place them without
	Avoid         []string                 // node ids to place them on only if there are not enough others
	Replace       []byte                   // id of the chunk that the new one stands in for; nil: none
	ChunkBytesMax int64                    // the most that one of the chunks gets; 0: not known
}

// AddChunks allocates chunks of a file that is being written.
func (c *Client) AddChunks(ctx context.Context, what Call, a Allocation) ([]Chunk, error) {
	answer, err := Mutate(ctx, c, what, controlpb.NamenodeClient.AddChunks,
		&controlpb.AddChunksRequest{Header: &controlpb.MutationHeader{}, FileId: a.File, FirstIndex: uint32(a.First),
			Count: uint32(a.Count), Commits: a.Commits, ExcludeNodes: a.Exclude, ReplaceChunkId: a.Replace,
			AvoidNodes: a.Avoid, ChunkBytesMax: a.ChunkBytesMax})
	if err != nil {
		return nil, err
	}
	return Allocated(what, answer, a.First, a.Count)
}

// ReplaceChunk is AddChunks for the one chunk that stands in for another. Errors at once: fault.TooFewNodes if there
// are no other nodes, fault.NoSpace if they are full.
func (c *Client) ReplaceChunk(ctx context.Context, path string, a Allocation) (Chunk, error) {
	what := Call{Op: "replace chunk", Path: path, Impatient: []fault.Kind{fault.TooFewNodes}}
	a.Count = 1
	chunks, err := c.AddChunks(ctx, what, a)
	if err != nil {
		return Chunk{}, err
	}
	return chunks[0], nil
}

// allocation is an answer with chunks that were allocated.
type allocation interface {
	GetChunks() []*controlpb.LocatedChunk
	GetWriteCopiesMin() uint32
}

// Allocated checks the chunks that the namenode allocated from an index on.
func Allocated(what Call, answer allocation, first, count int) ([]Chunk, error) {
	in := answer.GetChunks()
	if len(in) != count {
		e := fault.New(fault.Protocol, what.Op, "asked for %d chunks, got %d", count, len(in))
		e.Path = what.Path
		return nil, e
	}
	chunks := make([]Chunk, 0, len(in))
	for i, located := range in {
		allocated, err := ChunkFrom(located)
		if err != nil {
			return nil, &fault.Error{Kind: fault.Protocol, Op: what.Op, Path: what.Path, Err: err}
		}
		allocated.Index, allocated.CopiesMin = first+i, int(answer.GetWriteCopiesMin())
		chunks = append(chunks, allocated)
	}
	return chunks, nil
}
