package client

import (
	"context"
	"errors"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// Create makes a file and takes its lease; ctx ends the writer's whole life.
// Errors: fault.Exists, fault.IsDirectory, fault.NotFound for a missing parent,
// fault.LeaseHeld when another client writes the file to replace,
// fault.TooFewNodes.
func (c *Client) Create(ctx context.Context, path string, o CreateOptions) (*FileWriter, error) {
	const op = "create"
	path, err := cleanPath(op, path)
	if err != nil {
		return nil, err
	}
	info, ready, err := c.create(ctx, call{op: op, path: path}, o, 1)
	if err != nil {
		return nil, err
	}
	w := c.newWriter(ctx, info, path)
	w.hidden, w.ready, w.chunks = o.VisibleOnComplete, ready, len(ready)
	return w, nil
}

// create makes a file with its first chunks allocated.
func (c *Client) create(ctx context.Context, what call, o CreateOptions, chunks int) (FileInfo, []ChunkLocation, error) {
	if o.ChunkSize < 0 || o.ChunkSize > chunk.SizeMax || o.ChunkSize%chunk.ChecksumBlockBytes != 0 {
		return FileInfo{}, nil, &fault.Error{Kind: fault.Invalid, Op: what.op, Path: what.path,
			Reason: "a chunk size has to be a multiple of 64 KiB, at most 1 GiB"}
	}
	if o.Replication < 0 || o.Replication > wire.HopsMax {
		return FileInfo{}, nil, fault.New(fault.Invalid, what.op, "replication %d: want 1 to %d", o.Replication, wire.HopsMax)
	}
	a, err := mutate(ctx, c, what, controlpb.NamenodeClient.Create, func(h *controlpb.MutationHeader) *controlpb.CreateRequest {
		return &controlpb.CreateRequest{Header: h, Path: what.path, Overwrite: o.Overwrite, Parents: o.Parents, Replication: uint32(o.Replication),
			ChunkSize: o.ChunkSize, ExcludeNodes: c.nodes.avoid(o.Replication), VisibleOnComplete: o.VisibleOnComplete, ChunkCount: uint32(chunks), ClientName: c.options.Name}
	})
	if err != nil {
		return FileInfo{}, nil, err
	}
	locations, err := allocated(what, a.GetChunks(), 0, chunks)
	if err == nil && (a.GetInfo().GetChunkSize() <= 0 || a.GetInfo().GetChunkSize()%chunk.ChecksumBlockBytes != 0) {
		err = &fault.Error{Kind: fault.Protocol, Op: what.op, Path: what.path, Reason: "the namenode gave the file an impossible chunk size"}
	}
	c.nodes.placed(locations)
	return fileInfo(what.path, a.GetInfo()), locations, err
}

// allocated checks the chunks that the namenode allocated from an index on.
func allocated(what call, in []*controlpb.LocatedChunk, first, count int) ([]ChunkLocation, error) {
	if len(in) != count {
		e := fault.New(fault.Protocol, what.op, "asked for %d chunks, got %d", count, len(in))
		e.Path = what.path
		return nil, e
	}
	locations := make([]ChunkLocation, 0, len(in))
	for i, located := range in {
		l, err := chunkLocation(located)
		if err != nil {
			return nil, &fault.Error{Kind: fault.Protocol, Op: what.op, Path: what.path, Err: err}
		}
		l.Index = first + i
		locations = append(locations, l)
	}
	return locations, nil
}

// Append reopens a closed file at its end and takes its lease; ctx ends the
// writer's whole life. Errors: fault.NotFound, fault.LeaseHeld (it names the
// holder), fault.IsDirectory.
func (c *Client) Append(ctx context.Context, path string, o AppendOptions) (*FileWriter, error) {
	const op = "append"
	path, err := cleanPath(op, path)
	if err != nil {
		return nil, err
	}
	a, err := mutate(ctx, c, call{op: op, path: path}, controlpb.NamenodeClient.Append, func(h *controlpb.MutationHeader) *controlpb.AppendRequest {
		return &controlpb.AppendRequest{Header: h, Path: path, RecoverLease: o.RecoverLease, ClientName: c.options.Name}
	})
	if err != nil {
		return nil, err
	}
	w := c.newWriter(ctx, fileInfo(path, a.GetInfo()), path)
	w.offset = w.info.Length
	w.chunks = int((w.offset + w.info.ChunkSize - 1) / w.info.ChunkSize)
	if a.GetLast() == nil {
		return w, nil
	}
	last, err := chunkLocation(a.GetLast())
	if err != nil {
		return nil, errors.Join(&fault.Error{Kind: fault.Protocol, Op: op, Path: path, Err: err}, w.Abort())
	}
	w.offset = last.Offset + last.Length
	w.chunks = last.Index + 1
	s := c.newStream(w.life, w.info.FileID, path, w.info.ChunkSize, last)
	s.onSlow = w.slow
	s.mode, s.previous = wire.ModeAppend, chunk.Generation(a.GetPreviousGeneration())
	s.acked, s.length = last.Length, last.Length
	w.current = s
	return w, nil
}
