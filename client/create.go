package client

import (
	"context"
	"errors"

	"github.com/whispering-woods/ww/client/internal/namenode"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// Create makes a file and acquires its lease; ctx ends the writer's whole life. Errors: fault.Exists,
// fault.IsDirectory, fault.NotFound for a missing parent, fault.LeaseHeld when another client writes the file to
// replace, fault.TooFewNodes.
func (c *Client) Create(ctx context.Context, path string, options CreateOptions) (*FileWriter, error) {
	what := clean("create", &path)
	info, ready, err := c.create(ctx, what, options, firstChunks{count: 1})
	if err != nil {
		return nil, err
	}
	w := c.newWriter(ctx, info, path)
	w.hidden, w.chunks.ready, w.chunks.count = options.VisibleOnComplete, ready, len(ready)
	return w, nil
}

// firstChunks are those that a new file is to have at once.
type firstChunks struct {
	count    int
	bytesMax int64 // the most that one of them gets; 0: not known
}

// create makes a file with its first chunks allocated.
func (c *Client) create(ctx context.Context, what namenode.Call, options CreateOptions,
	first firstChunks) (FileInfo, []namenode.Chunk, error) {
	if what.Invalid != nil {
		return FileInfo{}, nil, what.Invalid
	}
	reason := limits.CheckReplication(options.Replication)
	if reason == "" && options.ChunkSize != 0 && limits.CheckChunkSize(options.ChunkSize) != "" {
		reason = "a chunk size has to be a multiple of 64 KiB, at most 1 GiB" // in the units of people
	}
	if reason != "" {
		return FileInfo{}, nil, &fault.Error{Kind: fault.Invalid, Op: what.Op, Path: what.Path, Reason: reason}
	}
	answer, err := namenode.Mutate(ctx, c.namenode, what, controlpb.NamenodeClient.Create,
		&controlpb.CreateRequest{Header: &controlpb.MutationHeader{}, Path: what.Path, Overwrite: options.Overwrite,
			Parents: options.Parents, Replication: uint32(options.Replication), ChunkSize: options.ChunkSize,
			ExcludeNodes: c.nodes.SlowWrites.Avoid(options.Replication), VisibleOnComplete: options.VisibleOnComplete,
			ChunkCount: uint32(first.count), ChunkBytesMax: first.bytesMax, ClientName: c.options.Name})
	if err != nil {
		return FileInfo{}, nil, err
	}
	ready, err := namenode.Allocated(what, answer, 0, first.count)
	if err == nil && (answer.GetInfo().GetChunkSize() <= 0 ||
		answer.GetInfo().GetChunkSize()%chunk.ChecksumBlockBytes != 0) {
		err = &fault.Error{Kind: fault.Protocol, Op: what.Op, Path: what.Path,
			Reason: "the namenode gave the file an impossible chunk size"}
	}
	for _, allocated := range ready {
		c.nodes.SlowWrites.Placed(allocated.Replicas)
	}
	return fileInfo(what.Path, answer.GetInfo()), ready, err
}

// Append reopens a closed file at its end and acquires its lease; ctx ends the writer's whole life. Errors:
// fault.NotFound, fault.LeaseHeld (it names the holder), fault.IsDirectory.
func (c *Client) Append(ctx context.Context, path string, o AppendOptions) (*FileWriter, error) {
	what := clean("append", &path)
	answer, err := namenode.Mutate(ctx, c.namenode, what, controlpb.NamenodeClient.Append,
		&controlpb.AppendRequest{Header: &controlpb.MutationHeader{}, Path: path, RecoverLease: o.RecoverLease,
			ClientName: c.options.Name})
	if err != nil {
		return nil, err
	}
	writer := c.newWriter(ctx, fileInfo(path, answer.GetInfo()), path)
	writer.offset = writer.info.Length
	writer.chunks.count = int((writer.offset + writer.info.ChunkSize - 1) / writer.info.ChunkSize)
	if answer.GetLast() == nil {
		return writer, nil
	}
	last, err := namenode.ChunkFrom(answer.GetLast())
	if err != nil {
		return nil, errors.Join(&fault.Error{Kind: fault.Protocol, Op: what.Op, Path: path, Err: err}, writer.Abort())
	}
	last.CopiesMin = int(answer.GetWriteCopiesMin())
	writer.offset = last.Offset + last.Length
	writer.chunks.count = last.Index + 1
	writer.current = c.pipelines.ReopenStream(writer.life, last, chunk.Generation(answer.GetPreviousGeneration()),
		writer.streamOptions())
	return writer, nil
}
