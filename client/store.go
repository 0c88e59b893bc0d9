package client

import (
	"context"
	"errors"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
)

// Store writes size bytes of source to a new file. Several chunks travel at
// once, each read from the source as it goes; a chunk whose pipeline breaks is
// sent again to other nodes. The file appears whole when Store returns, or not
// at all; what Store returns without error is synced on every node that holds it.
//
// source is read from several goroutines. Errors: those of Create, those of the
// source (as the cause), fault.Invalid when the source ends early.
func (c *Client) Store(ctx context.Context, path string, source io.ReaderAt, size int64, o StoreOptions) (FileInfo, error) {
	const op = "store"
	path, err := cleanPath(op, path)
	if err != nil {
		return FileInfo{}, err
	}
	if size < 0 {
		return FileInfo{}, &fault.Error{Kind: fault.Invalid, Op: op, Path: path, Reason: "negative size"}
	}
	t := &transfer{client: c, path: path, source: source, size: size, progress: o.Progress, onSlow: o.Slow}
	t.each = t.chunk
	return t.do(ctx, op, o.CreateOptions)
}

// do makes the hidden file, fills its chunks and completes it, or leaves
// nothing.
func (t *transfer) do(ctx context.Context, op string, o CreateOptions) (FileInfo, error) {
	c, path, size := t.client, t.path, t.size
	o.VisibleOnComplete = true
	first := 0
	if size > 0 {
		first = 1
		if o.ChunkSize > 0 {
			first = int(min((size+o.ChunkSize-1)/o.ChunkSize, allocateMax))
		}
	}
	life, cancel := c.scope(ctx)
	defer cancel()
	info, ready, err := c.create(life, call{op: op, path: path}, o, first)
	if err != nil {
		return FileInfo{}, err
	}
	t.info = info
	c.leases.add(info.FileID, func(err error) { t.lost(err, cancel) }, nil)
	defer c.leases.drop(info.FileID)
	err = t.run(life, ready)
	if err == nil {
		c.leases.drop(info.FileID)
		info, err = c.complete(life, info.FileID, path, t.commits)
	}
	if err != nil {
		_ = c.abandon(life, t.info.FileID, path) // logged there
		return FileInfo{}, t.cause(withPath(err, path))
	}
	return info, nil
}

// transfer is one running Store or Copy.
type transfer struct {
	client   *Client
	path     string
	info     FileInfo
	each     func(context.Context, ChunkLocation) error // fills one chunk, from several goroutines
	source   io.ReaderAt
	size     int64
	progress func(int64)
	onSlow   func(SlowNode)

	mu       sync.Mutex
	commits  []*controlpb.ChunkCommit // sealed, not yet told to the namenode
	leaseErr error
}

func (t *transfer) lost(err error, cancel context.CancelFunc) {
	t.mu.Lock()
	t.leaseErr = withPath(err, t.path)
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

// run sends all chunks. At most ParallelChunks are under way; the next batch is
// allocated when the last of the batch before has found a worker.
func (t *transfer) run(ctx context.Context, ready []ChunkLocation) error {
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
			l := ready[0]
			ready = ready[1:]
			if ctx.Err() != nil {
				return contextFault(ctx, "store", t.path, nil)
			}
			group.Go(func() error { return t.each(ctx, l) })
		}
		return nil
	})
	return group.Wait()
}

// allocate asks for more chunks and tells what is sealed.
func (t *transfer) allocate(ctx context.Context, first, count int) ([]ChunkLocation, error) {
	t.mu.Lock()
	commits := t.commits[:min(len(t.commits), commitsMax)]
	t.commits = t.commits[len(commits):]
	t.mu.Unlock()
	what := call{op: "add chunks", path: t.path}
	a, err := mutate(ctx, t.client, what, controlpb.NamenodeClient.AddChunks, func(h *controlpb.MutationHeader) *controlpb.AddChunksRequest {
		return &controlpb.AddChunksRequest{Header: h, FileId: t.info.FileID, FirstIndex: uint32(first), Count: uint32(count), Commits: commits,
			ExcludeNodes: t.client.nodes.avoid(t.info.Replication)}
	})
	if err != nil {
		return nil, err
	}
	locations, err := allocated(what, a.GetChunks(), first, count)
	t.client.nodes.placed(locations)
	return locations, err
}

// chunk sends one chunk, from its first byte again whenever it was placed anew.
func (t *transfer) chunk(ctx context.Context, l ChunkLocation) error {
	c := t.client
	s := c.newStream(ctx, t.info.FileID, t.path, t.info.ChunkSize, l)
	s.startOver, s.onAcked, s.onSlow = true, t.progress, t.onSlow
	begin := int64(l.Index) * t.info.ChunkSize
	length := min(t.info.ChunkSize, t.size-begin)
	s.sizeHint = length
	for {
		err := t.send(ctx, s, begin, length)
		if errors.Is(err, errStartOver) {
			if reported := s.reported.Swap(0); t.progress != nil && reported > 0 {
				t.progress(-reported)
			}
			continue
		}
		if err != nil {
			return s.kill(err)
		}
		t.commit(s.commit())
		return nil
	}
}

// commit notes a sealed chunk.
func (t *transfer) commit(done *controlpb.ChunkCommit) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.commits = append(t.commits, done)
}

// send reads a chunk from the source and sends it to its seal.
func (t *transfer) send(ctx context.Context, s *stream, begin, length int64) error {
	for offset := int64(0); offset < length; {
		p := t.client.newPacket(offset, int(min(int64(t.client.options.PacketBytes), length-offset)))
		n, err := t.source.ReadAt(p.room(), begin+offset)
		if p.size = n; len(p.room()) > 0 {
			p.release()
			if err == nil || errors.Is(err, io.EOF) {
				return fault.New(fault.Invalid, "read source", "it ended after %d bytes, %d were announced", begin+offset+int64(n), t.size)
			}
			kind := fault.KindOf(err) // a damaged file of the cluster is not the caller's mistake
			if kind == 0 {
				kind = fault.Invalid
			}
			return &fault.Error{Kind: kind, Op: "read source", Path: t.path, Reason: "the source cannot be read", Err: err}
		}
		if p.end() == length {
			p.flags = wire.FlagSeal
		}
		offset = p.end()
		taken, err := s.send(ctx, p)
		if !taken {
			p.release()
		}
		if err != nil {
			return err
		}
	}
	return s.sealed(ctx)
}
