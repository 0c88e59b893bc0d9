package client

import (
	"context"

	"github.com/whispering-woods/ww/client/internal/lifetime"
	"github.com/whispering-woods/ww/client/internal/namenode"
	"github.com/whispering-woods/ww/control/controlpb"
)

// allocator gets the chunks of one FileWriter from the namenode, the next one before it is needed, and commits sealed
// ones on the way. It belongs to the writer, whose lock guards it.
type allocator struct {
	client *Client
	life   context.Context // of the writer
	info   FileInfo
	path   string

	count   int // chunks allocated in the namenode, with those in ready
	ready   []namenode.Chunk
	ahead   *allocation              // of the next chunk, under way
	commits []*controlpb.ChunkCommit // of sealed chunks that the namenode does not know of
}

// allocation is a running AddChunks.
type allocation struct {
	done    chan struct{} // closed when the rest is set
	chunks  []namenode.Chunk
	err     error
	commits []*controlpb.ChunkCommit // that it carries
}

// next returns the next chunk.
func (a *allocator) next(ctx context.Context) (namenode.Chunk, error) {
	if len(a.ready) == 0 && a.ahead == nil {
		a.allocate()
	}
	if running := a.ahead; running != nil {
		select {
		case <-running.done:
		case <-ctx.Done():
			return namenode.Chunk{}, lifetime.Ended(ctx, "add chunks", a.path, nil)
		}
		a.collect()
		if running.err != nil {
			return namenode.Chunk{}, running.err
		}
	}
	c := a.ready[0]
	a.ready = a.ready[1:]
	return c, nil
}

// prepare asks for the next chunk if the current one, which is of this length, is nearly full.
func (a *allocator) prepare(length int64) {
	if a.ahead == nil && len(a.ready) == 0 && a.info.ChunkSize-length <= min(allocateAheadBytes, a.info.ChunkSize/2) {
		a.allocate()
	}
}

// allocate starts to ask for one more chunk; the commits that wait go with the request.
func (a *allocator) allocate() {
	running := &allocation{done: make(chan struct{}), commits: a.commits}
	a.ahead, a.commits = running, nil
	request := namenode.Allocation{File: a.info.FileID, First: a.count, Count: 1, Commits: running.commits,
		Exclude: a.client.nodes.SlowWrites.Avoid(a.info.Replication)}
	if !a.client.life.Start(func() {
		defer close(running.done)
		running.chunks, running.err = a.client.addChunks(a.life, namenode.Call{Op: "add chunks", Path: a.path}, request,
			streamOptions(a.info, a.path))
	}) {
		running.err = lifetime.ErrClosed
		close(running.done)
	}
}

// collect adds what the allocation under way brought, once that is done. Commits of a failed one are sent again with
// the next: the namenode knows them if it has them.
func (a *allocator) collect() {
	done := a.ahead
	a.ahead = nil
	if done.err != nil {
		a.commits = append(done.commits, a.commits...)
		return
	}
	for _, c := range done.chunks {
		a.client.nodes.SlowWrites.Placed(c.Replicas)
	}
	a.ready = append(a.ready, done.chunks...)
	a.count += len(done.chunks)
}

// finish waits for the allocation under way and returns all commits that the namenode does not know of. Chunks that
// were allocated and not used are committed as empty, which drops them.
func (a *allocator) finish() []*controlpb.ChunkCommit {
	a.await()
	for _, unused := range a.ready {
		a.commits = append(a.commits, &controlpb.ChunkCommit{ChunkId: unused.ID[:],
			Generation: uint64(unused.Generation)})
	}
	a.ready = nil
	return a.commits
}

// await waits for the allocation under way, which ends with the writer's life.
func (a *allocator) await() {
	if a.ahead != nil {
		<-a.ahead.done
		a.collect()
	}
}
