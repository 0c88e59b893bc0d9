package client

import (
	"context"
	"errors"

	"github.com/whispering-woods/ww/client/internal/namenode"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// Create makes a file and takes its lease; ctx ends the writer's whole life. Errors: fault.Exists, fault.IsDirectory,
// fault.NotFound for a missing parent, fault.LeaseHeld when another client writes the file to replace,
// fault.TooFewNodes.
func (c *Client) Create(ctx context.Context, path string, o CreateOptions) (*FileWriter, error) {
	const op = "create"
	path, err := cleanPath(op, path)
	if err != nil {
		return nil, err
	}
	info, ready, err := c.create(ctx, namenode.Call{Op: op, Path: path}, o, 1)
	if err != nil {
		return nil, err
	}
	w := c.newWriter(ctx, info, path)
	w.hidden, w.chunks.ready, w.chunks.count = o.VisibleOnComplete, ready, len(ready)
	return w, nil
}

// create makes a file with its first chunks allocated.
func (c *Client) create(ctx context.Context, what namenode.Call, o CreateOptions, chunks int) (FileInfo, []namenode.Chunk, error) {
	if o.ChunkSize < 0 || o.ChunkSize > chunk.SizeMax || o.ChunkSize%chunk.ChecksumBlockBytes != 0 {
		return FileInfo{}, nil, &fault.Error{Kind: fault.Invalid, Op: what.Op, Path: what.Path,
			Reason: "a chunk size has to be a multiple of 64 KiB, at most 1 GiB"}
	}
	if o.Replication < 0 || o.Replication > wire.HopsMax {
		return FileInfo{}, nil, fault.New(fault.Invalid, what.Op, "replication %d: want 1 to %d", o.Replication, wire.HopsMax)
	}
	a, err := namenode.Mutate(ctx, c.namenode, what, controlpb.NamenodeClient.Create, func(h *controlpb.MutationHeader) *controlpb.CreateRequest {
		return &controlpb.CreateRequest{Header: h, Path: what.Path, Overwrite: o.Overwrite, Parents: o.Parents, Replication: uint32(o.Replication),
			ChunkSize: o.ChunkSize, ExcludeNodes: c.nodes.SlowWrites.Avoid(o.Replication), VisibleOnComplete: o.VisibleOnComplete, ChunkCount: uint32(chunks), ClientName: c.options.Name}
	})
	if err != nil {
		return FileInfo{}, nil, err
	}
	ready, err := namenode.Allocated(what, a.GetChunks(), 0, chunks)
	if err == nil && (a.GetInfo().GetChunkSize() <= 0 || a.GetInfo().GetChunkSize()%chunk.ChecksumBlockBytes != 0) {
		err = &fault.Error{Kind: fault.Protocol, Op: what.Op, Path: what.Path, Reason: "the namenode gave the file an impossible chunk size"}
	}
	for _, allocated := range ready {
		c.nodes.SlowWrites.Placed(allocated.Replicas)
	}
	return fileInfo(what.Path, a.GetInfo()), ready, err
}

// Append reopens a closed file at its end and takes its lease; ctx ends the writer's whole life. Errors:
// fault.NotFound, fault.LeaseHeld (it names the holder), fault.IsDirectory.
func (c *Client) Append(ctx context.Context, path string, o AppendOptions) (*FileWriter, error) {
	const op = "append"
	path, err := cleanPath(op, path)
	if err != nil {
		return nil, err
	}
	a, err := namenode.Mutate(ctx, c.namenode, namenode.Call{Op: op, Path: path}, controlpb.NamenodeClient.Append, func(h *controlpb.MutationHeader) *controlpb.AppendRequest {
		return &controlpb.AppendRequest{Header: h, Path: path, RecoverLease: o.RecoverLease, ClientName: c.options.Name}
	})
	if err != nil {
		return nil, err
	}
	w := c.newWriter(ctx, fileInfo(path, a.GetInfo()), path)
	w.offset = w.info.Length
	w.chunks.count = int((w.offset + w.info.ChunkSize - 1) / w.info.ChunkSize)
	if a.GetLast() == nil {
		return w, nil
	}
	last, err := namenode.ChunkFrom(a.GetLast())
	if err != nil {
		return nil, errors.Join(&fault.Error{Kind: fault.Protocol, Op: op, Path: path, Err: err}, w.Abort())
	}
	w.offset = last.Offset + last.Length
	w.chunks.count = last.Index + 1
	w.current = c.pipelines.ReopenStream(w.life, last, chunk.Generation(a.GetPreviousGeneration()), w.streamOptions())
	return w, nil
}
