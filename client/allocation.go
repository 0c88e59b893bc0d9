package client

import (
	"context"

	"github.com/whispering-woods/ww/control/controlpb"
)

// allocation is a running AddChunks.
type allocation struct {
	done    chan struct{} // closed when the rest is set
	chunks  []ChunkLocation
	err     error
	commits []*controlpb.ChunkCommit // that it carries
}

// nextChunk makes the stream of the next chunk.
func (w *FileWriter) nextChunk(ctx context.Context) error {
	for len(w.behind) > sealingMax-1 {
		if err := w.settle(ctx, 1); err != nil {
			return err
		}
	}
	if len(w.ready) == 0 && w.ahead == nil {
		w.allocate()
	}
	if w.ahead != nil {
		a := w.ahead
		select {
		case <-a.done:
		case <-ctx.Done():
			return contextFault(ctx, "add chunks", w.path, nil)
		}
		w.ahead = nil
		w.collect(a)
		if a.err != nil {
			return a.err
		}
	}
	w.current = w.client.newStream(w.life, w.info.FileID, w.path, w.info.ChunkSize, w.ready[0])
	w.current.onSlow = w.slow
	w.ready = w.ready[1:]
	return nil
}

// allocateAhead asks for the next chunk before the current one is full.
func (w *FileWriter) allocateAhead(s *stream) {
	if w.ahead == nil && len(w.ready) == 0 && w.info.ChunkSize-s.length <= min(allocateAheadBytes, w.info.ChunkSize/2) {
		w.allocate()
	}
}

// allocate starts to ask for one more chunk; the commits that wait ride along.
func (w *FileWriter) allocate() {
	a := &allocation{done: make(chan struct{}), commits: w.commits}
	w.commits = nil
	first := w.chunks
	what := call{op: "add chunks", path: w.path}
	if !w.client.start(func() {
		defer close(a.done)
		answer, err := mutate(w.life, w.client, what, controlpb.NamenodeClient.AddChunks, func(h *controlpb.MutationHeader) *controlpb.AddChunksRequest {
			return &controlpb.AddChunksRequest{Header: h, FileId: w.info.FileID, FirstIndex: uint32(first), Count: 1, Commits: a.commits,
				ExcludeNodes: w.client.nodes.avoid(w.info.Replication)}
		})
		if err != nil {
			a.err = err
			return
		}
		a.chunks, a.err = allocated(what, answer.GetChunks(), first, 1)
	}) {
		a.err = errClientClosed
		close(a.done)
	}
	w.ahead = a
}

// collect takes over what an allocation brought. Commits of a failed one are
// sent again with the next: the namenode knows them if it has them.
func (w *FileWriter) collect(a *allocation) {
	if a.err != nil {
		w.commits = append(a.commits, w.commits...)
		return
	}
	w.client.nodes.placed(a.chunks)
	w.ready = append(w.ready, a.chunks...)
	w.chunks += len(a.chunks)
}
