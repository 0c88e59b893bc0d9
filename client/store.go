package client

import (
	"context"
	"errors"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/whispering-woods/ww/client/internal/lifetime"
	"github.com/whispering-woods/ww/client/internal/namenode"
	"github.com/whispering-woods/ww/client/internal/pipeline"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// Store writes size bytes of source to a new file. Several chunks travel at once, each read from the source as it goes;
// a chunk whose pipeline breaks is sent again to other nodes. The file appears whole when Store returns, or not at all;
// what Store returns without error is synced on every node that holds it.
//
// source is read from several goroutines. Errors: those of Create, those of the source (as the cause), fault.Invalid
// when the source ends early.
func (c *Client) Store(ctx context.Context, path string, source io.ReaderAt, size int64,
	options StoreOptions) (FileInfo, error) {
	what := clean("store", &path)
	if what.Invalid == nil && size < 0 {
		return FileInfo{}, &fault.Error{Kind: fault.Invalid, Op: what.Op, Path: path, Reason: "negative size"}
	}
	t := &transfer{client: c, path: path, source: source, size: size, progress: options.Progress, onSlow: options.Slow}
	t.fill = t.storeChunk
	return t.do(ctx, what, options.CreateOptions)
}

// do makes the hidden file, fills its chunks and completes it, or leaves nothing.
func (t *transfer) do(ctx context.Context, what namenode.Call, options CreateOptions) (FileInfo, error) {
	client, path, size := t.client, t.path, t.size
	options.VisibleOnComplete = true
	first := 0
	if size > 0 {
		first = 1
		if options.ChunkSize > 0 {
			first = int(min((size+options.ChunkSize-1)/options.ChunkSize, allocateMax))
		}
	}
	life, cancel := client.life.Scope(ctx)
	defer cancel()
	info, ready, err := client.create(life, what, options, firstChunks{count: first, bytesMax: size})
	if err != nil {
		return FileInfo{}, err
	}
	t.info = info
	hold := func() {
		client.leases.Add(info.FileID, namenode.Holder{Lost: func(err error) { t.lost(err, cancel) }})
	}
	hold()
	defer client.leases.Drop(info.FileID)
	err = t.run(life, ready)
	if err == nil {
		var completed *controlpb.FileInfo
		if completed, err = client.complete(life, t.commits, streamOptions(info, path), hold); err == nil {
			return fileInfo(path, completed), nil
		}
	}
	_ = client.namenode.Abandon(life, info.FileID, path) // logged there
	return FileInfo{}, t.cause(fault.WithPath(err, path))
}

// transfer is one running Store or Copy.
type transfer struct {
	client   *Client
	path     string
	info     FileInfo
	fill     func(context.Context, namenode.Chunk) error // fills one chunk, from several goroutines
	source   io.ReaderAt
	size     int64
	progress func(int64)
	onSlow   func(SlowNode)

	mu       sync.Mutex
	commits  []*controlpb.ChunkCommit // sealed, that the namenode does not know of
	leaseErr error
}

func (t *transfer) lost(err error, cancel context.CancelFunc) {
	t.mu.Lock()
	t.leaseErr = fault.WithPath(err, t.path)
	t.mu.Unlock()
	cancel()
}

// cause prefers the loss of the lease to what followed from it.
func (t *transfer) cause(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.leaseErr != nil {
		return t.leaseErr
	}
	return err
}

// run sends all chunks. At most ParallelChunks are under way; the next batch is allocated when the last of the batch
// before has found a worker.
func (t *transfer) run(ctx context.Context, ready []namenode.Chunk) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(t.client.options.ParallelChunks + 1) // the one below feeds the others
	group.Go(func() error {
		total := int((t.size + t.info.ChunkSize - 1) / t.info.ChunkSize)
		for sent, known := 0, len(ready); sent < total; sent++ {
			if len(ready) == 0 {
				var err error
				if ready, err = t.allocate(ctx, known, min(allocateMax, total-known)); err != nil {
					return err
				}
				known += len(ready)
			}
			next := ready[0]
			ready = ready[1:]
			if ctx.Err() != nil {
				return lifetime.Ended(ctx, "store", t.path, nil)
			}
			group.Go(func() error { return t.fill(ctx, next) })
		}
		return nil
	})
	return group.Wait()
}

// allocate asks for more chunks and commits what is sealed.
func (t *transfer) allocate(ctx context.Context, first, count int) ([]namenode.Chunk, error) {
	t.mu.Lock()
	commits := t.commits[:min(len(t.commits), limits.CommitsPerCallMax)]
	t.commits = t.commits[len(commits):]
	t.mu.Unlock()
	chunks, err := t.client.addChunks(ctx, namenode.Call{Op: "add chunks", Path: t.path}, namenode.Allocation{
		File: t.info.FileID, First: first, Count: count, Commits: commits,
		Exclude:       t.client.nodes.SlowWrites.Avoid(t.info.Replication),
		ChunkBytesMax: t.size - int64(first)*t.info.ChunkSize}, streamOptions(t.info, t.path))
	for _, allocated := range chunks {
		t.client.nodes.SlowWrites.Placed(allocated.Replicas)
	}
	return chunks, err
}

// storeChunk writes one chunk, from its first byte again whenever it was placed anew.
func (t *transfer) storeChunk(ctx context.Context, c namenode.Chunk) error {
	begin := int64(c.Index) * t.info.ChunkSize
	length := min(t.info.ChunkSize, t.size-begin)
	stream := t.client.pipelines.NewStream(ctx, c, pipeline.StreamOptions{File: t.info.FileID, Path: t.path,
		ChunkSize: t.info.ChunkSize, Replication: t.info.Replication, SizeHint: length, StartOver: true,
		OnAcked: t.progress, OnSlow: t.noteSlow})
	for {
		err := t.streamChunk(ctx, stream, begin, length)
		switch {
		case err == nil:
			t.commit(stream.Commit())
			return nil
		case !errors.Is(err, pipeline.ErrStartOver):
			return stream.Kill(err)
		}
	}
}

func (t *transfer) noteSlow(n pipeline.SlowNode) {
	if t.onSlow != nil {
		t.onSlow(SlowNode(n))
	}
}

// commit notes a sealed chunk.
func (t *transfer) commit(done *controlpb.ChunkCommit) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.commits = append(t.commits, done)
}

// streamChunk reads the chunk that begins at an offset of the source, and appends it to its stream up to the seal.
func (t *transfer) streamChunk(ctx context.Context, stream *pipeline.Stream, begin, length int64) error {
	for offset := int64(0); offset < length; {
		packet := t.client.pipelines.NewPacket(offset, int(min(int64(t.client.options.PacketBytes), length-offset)))
		n, err := t.source.ReadAt(packet.Room(), begin+offset)
		if packet.Size = n; len(packet.Room()) > 0 {
			packet.Release()
			if err == nil || errors.Is(err, io.EOF) {
				return fault.New(fault.Invalid, "read source", "it ended after %d bytes, %d were announced",
					begin+offset+int64(n), t.size)
			}
			kind := fault.KindOf(err) // a damaged file of the cluster is not the caller's mistake
			if kind == 0 {
				kind = fault.Invalid
			}
			return &fault.Error{Kind: kind, Op: "read source", Path: t.path, Reason: "the source cannot be read",
				Err: err}
		}
		if packet.End() == length {
			packet.Flags = wire.FlagSeal
		}
		offset = packet.End()
		taken, err := stream.Append(ctx, packet)
		if !taken {
			packet.Release()
		}
		if err != nil {
			return err
		}
	}
	return stream.AwaitSeal(ctx)
}
