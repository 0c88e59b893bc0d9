package client

import (
	"context"
	"io"
	"slices"
	"sync"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/bufpool"
	"github.com/whispering-woods/ww/internal/fault"
)

// FileWriter writes one file from its present end on. It buffers one packet,
// sends full ones through the chunk's pipeline, and puts a broken pipeline up
// again by itself. Its methods may be called from several goroutines; they take
// turns, save that Flush, Sync and Pending.Wait wait for their acks beside each
// other and beside Write while the chunk's pipeline stands, and that Abort
// interrupts the others.
//
// The context that it was made with ends the whole writer. Once an error other
// than the end of the own context of a Flush, a Sync, their begin or a Wait was
// returned, every later call returns it.
type FileWriter struct {
	client *Client
	path   string
	hidden bool // not in the namespace until Close
	life   context.Context
	cancel context.CancelFunc

	mu       sync.Mutex // one method at a time; guards what follows
	info     FileInfo
	offset   int64 // file length with everything written
	packet   *packet
	current  *stream   // of the chunk that offset is in; nil: none yet
	behind   []*stream // full chunks whose seal is awaited; at most sealingMax
	chunks   int       // allocated in the namenode, with those in ready
	ready    []ChunkLocation
	ahead    *allocation // of the next chunk, under way
	commits  []*controlpb.ChunkCommit
	beaten   beaten
	unsynced bool // bytes were sent since the last packet with FlagSync
	closed   bool

	failure struct {
		sync.Mutex
		err      error // the first final error
		complete bool  // Close succeeded: nothing is an error any more
		slow     []SlowNode
	}
}

var _ io.WriteCloser = (*FileWriter)(nil)

// newWriter makes a writer whose lease is kept.
func (c *Client) newWriter(ctx context.Context, info FileInfo, path string) *FileWriter {
	w := &FileWriter{client: c, info: info, path: path}
	w.life, w.cancel = c.scope(ctx)
	c.leases.add(info.FileID, func(err error) { _ = w.fail(withPath(err, path)) }, w.beat)
	return w
}

// fail makes err the writer's error, unless it has one, and wakes everything.
func (w *FileWriter) fail(err error) error {
	w.failure.Lock()
	defer w.failure.Unlock()
	if w.failure.err == nil && !w.failure.complete {
		w.failure.err = err
		w.cancel()
	}
	return w.failure.err
}

func (w *FileWriter) failed() error {
	w.failure.Lock()
	defer w.failure.Unlock()
	return w.failure.err
}

// slow notes a node that was replaced because it is slow.
func (w *FileWriter) slow(n SlowNode) {
	w.failure.Lock()
	defer w.failure.Unlock()
	w.failure.slow = addSlow(w.failure.slow, n)
}

// SlowNodes lists the datanodes that held up this writer and were replaced.
func (w *FileWriter) SlowNodes() []SlowNode {
	w.failure.Lock()
	defer w.failure.Unlock()
	return slices.Clone(w.failure.slow)
}

// usable tells whether the writer can go on. Called with mu held.
func (w *FileWriter) usable(op string) error {
	if err := w.failed(); err != nil {
		return err
	}
	if w.closed {
		return &fault.Error{Kind: fault.Closed, Op: op, Path: w.path, Reason: "the file is closed"}
	}
	if w.life.Err() != nil {
		return w.fail(contextFault(w.life, op, w.path, nil))
	}
	return nil
}

// final makes err the writer's error, unless only the caller's own context
// ended. Called with mu held.
func (w *FileWriter) final(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && w.life.Err() == nil && !w.dead() {
		return err
	}
	return w.fail(err)
}

// dead tells whether a chunk was given up, and its bytes with it. Called with mu
// held.
func (w *FileWriter) dead() bool {
	return w.current != nil && w.current.dead() || slices.ContainsFunc(w.behind, (*stream).dead)
}

// within joins a call's context with the writer's.
func (w *FileWriter) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(w.life, func() { cancel(context.Cause(w.life)) })
	return ctx, func() { stop(); cancel(nil) }
}

// Write buffers p, and sends every packet that gets full. It blocks while the
// pipeline's window is full. n < len(p) only with an error.
func (w *FileWriter) Write(p []byte) (n int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.usable("write"); err != nil {
		return 0, err
	}
	for n < len(p) {
		room := w.room(len(p) - n)
		m := copy(room, p[n:])
		w.packet.size += m
		w.offset += int64(m)
		n += m
		if w.packetFull() {
			if err := w.sendPacket(w.life, 0); err != nil {
				return n, w.final(w.life, err)
			}
		}
	}
	return n, nil
}

// room makes place in the packet for some of wanted bytes. A packet ends where
// the chunk ends or at a multiple of PacketBytes in it, so that it holds whole
// checksum blocks. Its buffer begins small and grows: a small file or record
// takes a small buffer.
func (w *FileWriter) room(wanted int) []byte {
	inChunk := w.offset % w.info.ChunkSize
	if w.packet == nil {
		w.packet = w.client.newPacket(inChunk, min(bufpool.ClassBytes(wanted), w.packetCapacity(inChunk)))
	}
	if room := w.packet.room(); len(room) > 0 {
		return room
	}
	old := w.packet
	grown := w.client.newPacket(old.offset, min(bufpool.ClassBytes(max(8*old.size, old.size+wanted)), w.packetCapacity(old.offset)))
	copy(grown.room(), old.payload())
	grown.size = old.size
	old.release()
	w.packet = grown
	return grown.room()
}

func (w *FileWriter) packetCapacity(offset int64) int {
	step := int64(w.client.options.PacketBytes)
	return int(min(step-offset%step, w.info.ChunkSize-offset))
}

func (w *FileWriter) packetFull() bool {
	return w.packet.size == w.packetCapacity(w.packet.offset)
}

// sendPacket hands the buffered packet, or an empty one, to the chunk's stream.
// It keeps the packet if the stream did not take it.
func (w *FileWriter) sendPacket(ctx context.Context, flags wire.Flags) error {
	if w.packet == nil {
		w.packet = w.client.newPacket(w.current.length, 0)
	}
	if w.current == nil {
		if err := w.nextChunk(ctx); err != nil {
			return err
		}
	}
	p, s := w.packet, w.current
	if p.end() == w.info.ChunkSize {
		flags |= wire.FlagSeal
	}
	p.flags = flags
	seals := flags&wire.FlagSeal != 0
	if p.size > 0 {
		w.unsynced = true
	}
	if seals && p.end() == int64(p.size) { // the whole chunk: datanodes put small ones into packs
		s.sizeHint = int64(p.size)
	}
	taken, err := s.send(ctx, p)
	if taken {
		w.packet = nil
		if flags != 0 {
			w.unsynced = false
		}
		if seals {
			w.current = nil
			w.behind = append(w.behind, s)
		}
	}
	if err != nil {
		return err
	}
	if !seals {
		w.allocateAhead(s)
	}
	return nil
}

// settle waits until at most keep full chunks wait for their seal.
func (w *FileWriter) settle(ctx context.Context, keep int) error {
	for len(w.behind) > keep {
		s := w.behind[0]
		if err := s.sealed(ctx); err != nil {
			return err
		}
		w.commits = append(w.commits, s.commit())
		w.behind[0] = nil
		w.behind = w.behind[1:]
	}
	return nil
}

// Close sends what is buffered, seals the last chunk, and commits the file's
// length. On error the file is not complete: a hidden one is abandoned, a
// visible one keeps what was flushed. Closing again returns the same.
func (w *FileWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return w.failed()
	}
	err := w.usable("close")
	if err == nil {
		err = w.complete()
	}
	if err != nil {
		err = w.fail(err)
		w.closed = true
		_ = w.giveUp() // err is what counts; a failure to clean up is logged there
		return err
	}
	w.closed = true
	w.failure.Lock()
	w.failure.err, w.failure.complete = nil, true // an Abort or a lease's end came too late
	w.failure.Unlock()
	w.cancel()
	return nil
}

// complete ends all chunks and the file.
func (w *FileWriter) complete() error {
	ctx := w.life
	if w.packet != nil || (w.current != nil && w.current.touched) {
		if err := w.sendPacket(ctx, wire.FlagSeal); err != nil {
			return err
		}
	}
	if s := w.current; s != nil { // opened for append, and nothing was written
		w.commits = append(w.commits, &controlpb.ChunkCommit{ChunkId: s.id[:], Generation: uint64(s.previous), Length: s.length, NodeIds: nodeIDs(s.hops)})
		w.current = nil
	}
	if err := w.settle(ctx, 0); err != nil {
		return err
	}
	if a := w.ahead; a != nil {
		<-a.done // it ends with the writer's life
		w.ahead = nil
		w.collect(a)
	}
	for _, unused := range w.ready {
		w.commits = append(w.commits, &controlpb.ChunkCommit{ChunkId: unused.ID[:], Generation: uint64(unused.Generation)})
	}
	// From here on the namenode may say that we hold no lease because we are done.
	w.client.leases.drop(w.info.FileID)
	info, err := w.client.complete(ctx, w.info.FileID, w.path, w.commits)
	if err != nil {
		return err
	}
	w.info, w.ready, w.commits = info, nil, nil
	return nil
}

// complete commits the last chunks and closes a file.
func (c *Client) complete(ctx context.Context, file uint64, path string, commits []*controlpb.ChunkCommit) (FileInfo, error) {
	a, err := mutate(ctx, c, call{op: "complete", path: path}, controlpb.NamenodeClient.Complete, func(h *controlpb.MutationHeader) *controlpb.CompleteRequest {
		return &controlpb.CompleteRequest{Header: h, FileId: file, Commits: commits}
	})
	if err != nil {
		return FileInfo{}, err
	}
	return fileInfo(path, a.GetInfo()), nil
}

// Abort ends the writer without completing the file. A hidden file is
// abandoned; a visible one keeps what was flushed, and is closed by the
// namenode. Aborting a closed writer does nothing.
func (w *FileWriter) Abort() error {
	w.failure.Lock()
	if w.failure.err == nil && !w.failure.complete {
		w.failure.err = &fault.Error{Kind: fault.Closed, Op: "write", Path: w.path, Reason: "the writer was aborted"}
	}
	w.failure.Unlock()
	w.cancel() // lets a running method go
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	return w.giveUp()
}

// giveUp releases everything and tells the namenode. Called with mu held.
func (w *FileWriter) giveUp() error {
	w.cancel()
	w.client.leases.drop(w.info.FileID)
	if w.packet != nil {
		w.packet.release()
		w.packet = nil
	}
	if w.current != nil {
		w.behind = append(w.behind, w.current)
		w.current = nil
	}
	for _, s := range w.behind {
		_ = s.kill(nil)
	}
	w.behind = nil
	if w.ahead != nil {
		<-w.ahead.done
		w.ahead = nil
	}
	if w.hidden {
		return w.client.abandon(w.life, w.info.FileID, w.path)
	}
	return w.client.letGo(w.life, w.info.FileID, w.path)
}

// Info describes the file as Create, Append or (after it) Close left it.
func (w *FileWriter) Info() FileInfo {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.info
}

// Offset is the file's length with everything written so far.
func (w *FileWriter) Offset() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.offset
}
