package client

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"sync/atomic"

	"github.com/whispering-woods/ww/client/internal/datanode"
	"github.com/whispering-woods/ww/client/internal/lifetime"
	"github.com/whispering-woods/ww/client/internal/namenode"
	"github.com/whispering-woods/ww/client/internal/pipeline"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

// Copy copies a file of the cluster: each datanode of the new file pulls its replicas from those of the source,
// verified; the bytes do not pass through this process. The new file appears whole when Copy returns, or not at all.
//
// Where datanodes cannot do it (the source is being written, the chunk size is another one, they refuse), the bytes go
// through this process as with Store. Errors: those of Open for the source and of Store for the target.
func (c *Client) Copy(ctx context.Context, source, target string, options CopyOptions) (FileInfo, error) {
	const op = "copy"
	if err := cmp.Or(clean(op, &source).Invalid, clean(op, &target).Invalid); err != nil {
		return FileInfo{}, err
	}
	if source == target {
		return FileInfo{}, &fault.Error{Kind: fault.Invalid, Op: op, Path: source,
			Reason: "source and target are the same"}
	}
	info, err := c.Stat(ctx, source)
	if err != nil {
		return FileInfo{}, err
	}
	if info.Directory {
		return FileInfo{}, &fault.Error{Kind: fault.IsDirectory, Op: op, Path: source}
	}
	options.Replication = cmp.Or(options.Replication, info.Replication)
	options.ChunkSize = cmp.Or(options.ChunkSize, info.ChunkSize)
	if !info.Open && options.ChunkSize == info.ChunkSize {
		var moved atomic.Int64
		inside := options
		inside.Progress = func(bytes int64) {
			moved.Add(bytes)
			if options.Progress != nil {
				options.Progress(bytes)
			}
		}
		done, err := c.copyInside(ctx, info, target, inside)
		if !errors.Is(err, errNotInside) {
			return done, err
		}
		c.logger.Info("the datanodes do not copy, the bytes go through this process", "path", source, "err", err)
		if options.Progress != nil {
			options.Progress(-moved.Load())
		}
	}
	return c.copyThrough(ctx, source, target, options)
}

// copyThrough reads and stores.
func (c *Client) copyThrough(ctx context.Context, source, target string, options CopyOptions) (FileInfo, error) {
	r, err := c.Open(ctx, source)
	if err != nil {
		return FileInfo{}, err
	}
	defer func() { _ = r.Close() }() // read only
	size, err := r.Size(ctx)
	if err != nil {
		return FileInfo{}, err
	}
	return c.Store(ctx, target, io.NewSectionReader(r, 0, size), size,
		StoreOptions{CreateOptions: options.CreateOptions, Progress: options.Progress})
}

// errNotInside marks that datanodes could not copy a chunk.
var errNotInside = errors.New("not copied by the datanodes")

// copyInside has the datanodes copy a closed file.
func (c *Client) copyInside(ctx context.Context, info FileInfo, target string, options CopyOptions) (FileInfo, error) {
	sources, err := c.locateAll(ctx, namenode.Call{Op: "locate", Path: info.Path}, 0, 0)
	if err != nil {
		return FileInfo{}, err
	}
	var size int64
	for i, source := range sources {
		size += source.Length
		if source.Open || source.Index != i || len(source.Replicas) == 0 ||
			i > 0 && sources[i-1].Length != info.ChunkSize {
			// reopened, cut or replaced meanwhile, or nobody is there: a reader finds out
			return FileInfo{}, errNotInside
		}
	}
	t := &transfer{client: c, path: target, size: size, progress: options.Progress}
	t.fill = (&replicaCopy{t, sources}).copyChunk
	return t.do(ctx, namenode.Call{Op: "copy", Path: target}, options.CreateOptions)
}

// replicaCopy fills the chunks of a transfer by copies from datanode to datanode.
type replicaCopy struct {
	*transfer
	sources []namenode.Chunk // of the same index each
}

// copyChunk brings a chunk to all nodes that it is placed on. It is placed anew without those that failed; if there are
// no others, it stays with fewer.
func (r *replicaCopy) copyChunk(ctx context.Context, placed namenode.Chunk) error {
	source := r.sources[placed.Index]
	placed = r.avoidFailed(ctx, placed, source.Length)
	var failures []pipeline.HopFailure
	for attempt := 1; ; attempt++ {
		good, bad := r.copyToAll(ctx, source, placed)
		if ctx.Err() != nil {
			return lifetime.Ended(ctx, "copy", r.path, nil)
		}
		failures = append(failures, bad...)
		if len(bad) > 0 && attempt < copyAttempts {
			var exclude []string
			for _, f := range failures {
				exclude = pipeline.Union(exclude, []string{f.Hop.NodeID})
			}
			other, err := r.client.namenode.ReplaceChunk(ctx, r.path, namenode.Allocation{File: r.info.FileID,
				First: placed.Index, Exclude: exclude, Replace: placed.ID[:], ChunkBytesMax: source.Length})
			if err == nil {
				placed = other
				continue
			}
			if !errors.Is(err, fault.TooFewNodes) && !errors.Is(err, fault.NoSpace) {
				return err
			}
		}
		if least := r.client.pipelines.CopiesLeast(placed.CopiesMin, r.info.Replication); len(good) < least {
			return errors.Join(errNotInside, &fault.Error{Kind: fault.Unavailable, Op: "copy", Path: r.path,
				Chunk: placed.ID.String(), Reason: pipeline.Reasons(failures)})
		}
		r.commit(&controlpb.ChunkCommit{ChunkId: placed.ID[:], Generation: uint64(placed.Generation),
			Length: source.Length, NodeIds: namenode.NodeIDs(good)})
		r.progress(source.Length)
		return nil
	}
}

// avoidFailed places a chunk of a length anew if a node failed since it was placed.
func (r *replicaCopy) avoidFailed(ctx context.Context, placed namenode.Chunk, length int64) namenode.Chunk {
	avoid := r.client.nodes.SlowWrites.Avoid(len(placed.Replicas))
	if !slices.ContainsFunc(placed.Replicas, func(h wire.Hop) bool { return slices.Contains(avoid, h.NodeID) }) {
		return placed
	}
	other, err := r.client.namenode.ReplaceChunk(ctx, r.path, namenode.Allocation{File: r.info.FileID,
		First: placed.Index, Avoid: avoid, Replace: placed.ID[:], ChunkBytesMax: length})
	if err != nil {
		return placed // the copy shows whether it can do without another placement
	}
	return other
}

// copyToAll has every node of a placement pull the chunk; each begins with another source. It returns those that have
// it, and the others with reasons.
func (r *replicaCopy) copyToAll(ctx context.Context, source,
	placed namenode.Chunk) (good []wire.Hop, bad []pipeline.HopFailure) {
	return pipeline.CopyToAll(placed.Replicas, "copy chunk", placed.ID, func(i int, hop wire.Hop) error {
		turn := i % len(source.Replicas)
		from := r.client.nodes.OrderByFailures(slices.Concat(source.Replicas[turn:], source.Replicas[:turn]))
		order := &wire.CopyRange{BodyVersion: wire.BodyVersion, ChunkID: placed.ID[:],
			Generation: uint64(placed.Generation), ChunkSize: r.info.ChunkSize, Length: source.Length,
			SourceChunkID: source.ID[:], SourceMinGeneration: uint64(source.Generation),
			Sources: from[:min(len(from), wire.HopsMax)], Seal: true}
		return r.copyPatiently(ctx, hop, order)
	})
}

// copyPatiently waits for a datanode that has enough copies under way.
func (r *replicaCopy) copyPatiently(ctx context.Context, to wire.Hop, order *wire.CopyRange) error {
	client := r.client
	began := client.clock.Now()
	for number := 1; ; number++ {
		err := client.datanodes.Copy(ctx, to, order, 0)
		if !errors.Is(err, fault.Busy) {
			if datanode.Silent(err) && ctx.Err() == nil {
				client.nodes.Failures.Failed(to.Address)
			}
			return err
		}
		wait, retry := client.retry(number, client.clock.Now().Sub(began), err)
		if !retry || clock.Sleep(ctx, client.clock, wait) != nil {
			return err
		}
	}
}
