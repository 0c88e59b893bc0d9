package client

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

// Copy copies a file of the cluster: each datanode of the new file pulls its
// replicas from those of the source, verified; the bytes do not pass through
// this process. The new file appears whole when Copy returns, or not at all.
//
// Where datanodes cannot do it (the source is being written, the chunk size is
// another one, they refuse), the bytes go through this process as with Store.
// Errors: those of Open for the source and of Store for the target.
func (c *Client) Copy(ctx context.Context, source, target string, o CopyOptions) (FileInfo, error) {
	const op = "copy"
	source, err := cleanPath(op, source)
	if err != nil {
		return FileInfo{}, err
	}
	if target, err = cleanPath(op, target); err != nil {
		return FileInfo{}, err
	}
	if source == target {
		return FileInfo{}, &fault.Error{Kind: fault.Invalid, Op: op, Path: source, Reason: "source and target are the same"}
	}
	info, err := c.Stat(ctx, source)
	if err != nil {
		return FileInfo{}, err
	}
	if info.Directory {
		return FileInfo{}, &fault.Error{Kind: fault.IsDirectory, Op: op, Path: source}
	}
	if o.Replication == 0 {
		o.Replication = info.Replication
	}
	if o.ChunkSize == 0 {
		o.ChunkSize = info.ChunkSize
	}
	if !info.Open && o.ChunkSize == info.ChunkSize {
		var moved atomic.Int64
		inside := o
		inside.Progress = func(bytes int64) {
			moved.Add(bytes)
			if o.Progress != nil {
				o.Progress(bytes)
			}
		}
		done, err := c.copyInside(ctx, info, target, inside)
		if !errors.Is(err, errNotInside) {
			return done, err
		}
		c.logger.Info("the datanodes do not copy, the bytes go through this process", "path", source, "err", err)
		if o.Progress != nil {
			o.Progress(-moved.Load())
		}
	}
	return c.copyThrough(ctx, source, target, o)
}

// copyThrough reads and stores.
func (c *Client) copyThrough(ctx context.Context, source, target string, o CopyOptions) (FileInfo, error) {
	r, err := c.Open(ctx, source)
	if err != nil {
		return FileInfo{}, err
	}
	defer func() { _ = r.Close() }() // read only
	size, err := r.Size(ctx)
	if err != nil {
		return FileInfo{}, err
	}
	return c.Store(ctx, target, io.NewSectionReader(r, 0, size), size, StoreOptions{CreateOptions: o.CreateOptions, Progress: o.Progress})
}

// errNotInside marks that datanodes could not copy a chunk.
var errNotInside = errors.New("not copied by the datanodes")

// copyInside has the datanodes copy a closed file.
func (c *Client) copyInside(ctx context.Context, info FileInfo, target string, o CopyOptions) (FileInfo, error) {
	sources, err := c.Locate(ctx, info.Path, 0, 0)
	if err != nil {
		return FileInfo{}, err
	}
	var size int64
	for i, l := range sources {
		size += l.Length
		if l.Open || l.Index != i || len(l.Replicas) == 0 || i > 0 && sources[i-1].Length != info.ChunkSize {
			return FileInfo{}, errNotInside // reopened, cut or replaced meanwhile, or nobody is there: a reader finds out
		}
	}
	t := &transfer{client: c, path: target, size: size, progress: o.Progress}
	t.each = func(ctx context.Context, l ChunkLocation) error { return t.copyChunk(ctx, sources[l.Index], l) }
	return t.do(ctx, "copy", o.CreateOptions)
}

// copyChunk brings a chunk to all nodes that it is placed on. It is placed anew
// without those that failed; if there are no others, it stays with fewer.
func (t *transfer) copyChunk(ctx context.Context, source, l ChunkLocation) error {
	c := t.client
	var failures []hopFailure
	for attempt := 1; ; attempt++ {
		good, bad := t.copyToAll(ctx, source, l)
		if ctx.Err() != nil {
			return contextFault(ctx, "copy", t.path, nil)
		}
		failures = append(failures, bad...)
		if len(bad) > 0 && attempt < copyAttempts {
			again, err := t.placeAnew(ctx, l, failures)
			if err == nil {
				l = again
				continue
			}
			if !errors.Is(err, fault.TooFewNodes) {
				return err
			}
		}
		if len(good) < c.options.PipelineNodesLeast {
			return errors.Join(errNotInside, &fault.Error{Kind: fault.Unavailable, Op: "copy", Path: t.path, Chunk: l.ID.String(), Reason: reasons(failures)})
		}
		t.commit(&controlpb.ChunkCommit{ChunkId: l.ID[:], Generation: uint64(l.Generation), Length: source.Length, NodeIds: nodeIDs(good)})
		t.progress(source.Length)
		return nil
	}
}

// placeAnew replaces a chunk by one on other nodes.
func (t *transfer) placeAnew(ctx context.Context, l ChunkLocation, failures []hopFailure) (ChunkLocation, error) {
	var exclude []string
	for _, f := range failures {
		exclude = union(exclude, []string{f.hop.NodeID})
	}
	var refused bool
	what := call{op: "replace chunk", path: t.path, impatient: []fault.Kind{fault.TooFewNodes}, refused: &refused}
	a, err := mutate(ctx, t.client, what, controlpb.NamenodeClient.AddChunks, func(h *controlpb.MutationHeader) *controlpb.AddChunksRequest {
		return &controlpb.AddChunksRequest{Header: h, FileId: t.info.FileID, FirstIndex: uint32(l.Index), Count: 1, ExcludeNodes: exclude, ReplaceChunkId: l.ID[:]}
	})
	if err != nil {
		return ChunkLocation{}, err
	}
	placed, err := allocated(what, a.GetChunks(), l.Index, 1)
	if err != nil {
		return ChunkLocation{}, err
	}
	return placed[0], nil
}

// copyToAll has every node of a placement pull the chunk; each begins with
// another source. It returns those that have it, and the others with reasons.
func (t *transfer) copyToAll(ctx context.Context, source, l ChunkLocation) (good []wire.Hop, bad []hopFailure) {
	hops := hopsOf(l.Replicas)
	errs := make([]error, len(hops))
	var copies sync.WaitGroup
	for i, hop := range hops {
		from := hopsOf(source.Replicas)
		turn := i % len(from)
		from = slices.Concat(from[turn:], from[:turn])
		order := &wire.CopyRange{BodyVersion: wire.BodyVersion, ChunkID: l.ID[:], Generation: uint64(l.Generation), ChunkSize: t.info.ChunkSize,
			Length: source.Length, SourceChunkID: source.ID[:], SourceMinGeneration: uint64(source.Generation), Sources: from[:min(len(from), wire.HopsMax)], Seal: true}
		copies.Go(func() { errs[i] = t.client.copyPatiently(ctx, hop, order) })
	}
	copies.Wait()
	for i, hop := range hops {
		if errs[i] == nil {
			good = append(good, hop)
			continue
		}
		bad = append(bad, hopFailure{hop: hop, err: datanode(errs[i], "copy chunk", Replica{NodeID: hop.NodeID, Address: hop.Address}, l.ID.String())})
	}
	return good, bad
}

// copyPatiently waits for a datanode that has enough copies under way.
func (c *Client) copyPatiently(ctx context.Context, to wire.Hop, order *wire.CopyRange) error {
	began := c.clock.Now()
	for number := 1; ; number++ {
		err := c.copyReplica(ctx, to, order)
		if !errors.Is(err, fault.Busy) {
			return err
		}
		wait, again := c.options.Retry.Next(Attempt{Number: number, Elapsed: c.clock.Now().Sub(began), Err: err})
		if !again || clock.Sleep(ctx, c.clock, wait) != nil {
			return err
		}
	}
}
