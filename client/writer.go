package client

import (
	"context"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whispering-woods/ww/client/internal/lifetime"
	"github.com/whispering-woods/ww/client/internal/namenode"
	"github.com/whispering-woods/ww/client/internal/pipeline"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/bufpool"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// FileWriter writes one file from its present end on. It buffers one packet, sends full ones through the chunk's
// pipeline, and recovers a broken pipeline by itself. Its methods may be called from several goroutines; one runs after
// the other, save that Flush, Sync and Pending.Wait wait for their acks beside each other and beside Write while the
// chunk's pipeline stands, and that Abort interrupts the others.
//
// The context that it was made with ends the whole writer. Once an error other than the end of the own context of a
// Flush, a Sync, their begin or a Wait was returned, every later call returns it.
type FileWriter struct {
	client *Client
	path   string
	hidden bool // not in the namespace until Close
	life   context.Context
	cancel context.CancelFunc

	mu       sync.Mutex // one method at a time; guards what follows
	info     FileInfo
	offset   int64 // file length with everything written
	packet   *pipeline.Packet
	current  *pipeline.Stream   // of the chunk that offset is in; nil: none yet
	behind   []*pipeline.Stream // full chunks whose seal is awaited; at most sealingMax
	chunks   allocator
	unsynced bool // bytes were sent since the last packet with FlagSync
	closed   bool

	growable atomic.Pointer[chunk.ID] // a chunk that more nodes can join, until that was tried

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
	w.life, w.cancel = c.life.Scope(ctx)
	w.chunks = allocator{client: c, life: w.life, info: info, path: path}
	w.holdLease()
	return w
}

func (w *FileWriter) holdLease() {
	w.client.leases.Add(w.info.FileID, namenode.Holder{
		Lost:      func(err error) { _ = w.fail(fault.WithPath(err, w.path)) },
		KeepAlive: w.keepAlive, Growable: w.onGrowable})
}

// streamOptions is what the streams of a file's chunks have in common.
func streamOptions(info FileInfo, path string) pipeline.StreamOptions {
	return pipeline.StreamOptions{File: info.FileID, Path: path, ChunkSize: info.ChunkSize,
		Replication: info.Replication}
}

func (w *FileWriter) streamOptions() pipeline.StreamOptions {
	options := streamOptions(w.info, w.path)
	options.OnSlow = w.noteSlow
	return options
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

// noteSlow notes, once, a node that was replaced because it is slow.
func (w *FileWriter) noteSlow(n pipeline.SlowNode) {
	w.failure.Lock()
	defer w.failure.Unlock()
	known := slices.ContainsFunc(w.failure.slow, func(m SlowNode) bool { return m.NodeID == n.NodeID })
	if !known && len(w.failure.slow) < slowNodesMax {
		w.failure.slow = append(w.failure.slow, SlowNode(n))
	}
}

// SlowNodes lists the datanodes that held up this writer and were replaced.
func (w *FileWriter) SlowNodes() []SlowNode {
	w.failure.Lock()
	defer w.failure.Unlock()
	return slices.Clone(w.failure.slow)
}

// usable reports whether the writer can go on. Called with mu held.
func (w *FileWriter) usable(op string) error {
	if err := w.failed(); err != nil {
		return err
	}
	if w.closed {
		return &fault.Error{Kind: fault.Closed, Op: op, Path: w.path, Reason: "the file is closed"}
	}
	if w.life.Err() != nil {
		return w.fail(lifetime.Ended(w.life, op, w.path, nil))
	}
	return nil
}

// final makes err the writer's error, unless only the caller's own context ended. Called with mu held.
func (w *FileWriter) final(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && w.life.Err() == nil && !w.dead() {
		return err
	}
	return w.fail(err)
}

// dead reports whether a chunk was abandoned, and its bytes with it. Called with mu held.
func (w *FileWriter) dead() bool {
	return w.current != nil && w.current.Dead() || slices.ContainsFunc(w.behind, (*pipeline.Stream).Dead)
}

// Write buffers p, and sends every packet that gets full. It blocks while the pipeline's window is full. n < len(p)
// only with an error.
func (w *FileWriter) Write(p []byte) (written int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.usable("write"); err != nil {
		return 0, err
	}
	for written < len(p) {
		room := w.room(len(p) - written)
		copied := copy(room, p[written:])
		w.packet.Size += copied
		w.offset += int64(copied)
		written += copied
		if w.packet.Size == w.packetCapacity(w.packet.Offset) {
			if err := w.queuePacket(w.life, 0); err != nil {
				return written, w.final(w.life, err)
			}
		}
	}
	return written, nil
}

// room returns space in the packet for some of the wanted bytes. A packet ends where the chunk ends or at a multiple of
// PacketBytes in it, so that it holds whole checksum blocks. Its buffer begins small and grows: a small file or record
// needs a small buffer.
func (w *FileWriter) room(wanted int) []byte {
	inChunk := w.offset % w.info.ChunkSize
	if w.packet == nil {
		w.packet = w.client.pipelines.NewPacket(inChunk, min(bufpool.ClassBytes(wanted), w.packetCapacity(inChunk)))
	}
	if room := w.packet.Room(); len(room) > 0 {
		return room
	}
	old := w.packet
	capacity := min(bufpool.ClassBytes(max(8*old.Size, old.Size+wanted)), w.packetCapacity(old.Offset))
	grown := w.client.pipelines.NewPacket(old.Offset, capacity)
	copy(grown.Room(), old.Payload())
	grown.Size = old.Size
	old.Release()
	w.packet = grown
	return grown.Room()
}

func (w *FileWriter) packetCapacity(offset int64) int {
	step := int64(w.client.options.PacketBytes)
	return int(min(step-offset%step, w.info.ChunkSize-offset))
}

// queuePacket appends the buffered packet, or an empty one, to the chunk's stream. It keeps the packet if the stream
// did not accept it.
func (w *FileWriter) queuePacket(ctx context.Context, flags wire.Flags) error {
	if w.packet == nil {
		w.packet = w.client.pipelines.NewPacket(w.current.Length(), 0)
	}
	if w.current == nil {
		if err := w.nextChunk(ctx); err != nil {
			return err
		}
	}
	if err := w.maybeGrow(ctx); err != nil {
		return err
	}
	p, stream := w.packet, w.current
	if p.End() == w.info.ChunkSize {
		flags |= wire.FlagSeal
	}
	p.Flags = flags
	seals := flags&wire.FlagSeal != 0
	if p.Size > 0 {
		w.unsynced = true
	}
	taken, err := stream.Append(ctx, p)
	if taken {
		w.packet = nil
		if flags != 0 {
			w.unsynced = false
		}
		if seals {
			w.current = nil
			w.behind = append(w.behind, stream)
		}
	}
	if err != nil {
		return err
	}
	if !seals {
		w.chunks.prepare(stream.Length())
	}
	return nil
}

// nextChunk makes the stream of the next chunk.
func (w *FileWriter) nextChunk(ctx context.Context) error {
	if err := w.settle(ctx, sealingMax-1); err != nil {
		return err
	}
	c, err := w.chunks.next(ctx)
	if err == nil {
		w.current = w.client.pipelines.NewStream(w.life, c, w.streamOptions())
	}
	return err
}

// settle waits until at most keep full chunks wait for their seal.
func (w *FileWriter) settle(ctx context.Context, keep int) error {
	for len(w.behind) > keep {
		stream := w.behind[0]
		if err := stream.AwaitSeal(ctx); err != nil {
			return err
		}
		w.chunks.commits = append(w.chunks.commits, stream.Commit())
		w.behind[0] = nil
		w.behind = w.behind[1:]
	}
	return nil
}

// Flush returns when everything written before the call is in the page cache of every datanode of the pipeline and
// visible to new readers. If only ctx ended, the writer stays usable; ctx does not bound the wait for another call's
// turn.
func (w *FileWriter) Flush(ctx context.Context) error { return w.push(ctx, "flush", 0) }

// Sync returns when everything written before the call is fdatasync'd on every datanode of the pipeline. If only ctx
// ended, the writer stays usable; ctx does not bound the wait for another call's turn.
func (w *FileWriter) Sync(ctx context.Context) error { return w.push(ctx, "sync", wire.FlagSync) }

// BeginFlush sends everything written before the call and does not wait for the acks: Pending.Wait does, with the
// promise of Flush. So one goroutine can have many records under way, each with an answer of its own; a record's way
// through the pipeline then costs it no time. BeginFlush blocks while the pipeline's window is full, until a chunk that
// it ends is sealed, and while the pipeline is recovered.
//
// A pipeline that breaks meanwhile is recovered by the next call that has something to send or to wait for, not before.
func (w *FileWriter) BeginFlush(ctx context.Context) (Pending, error) {
	return w.begin(ctx, "flush", 0)
}

// BeginSync is to Sync what BeginFlush is to Flush. Datanodes sync once for what is under way together.
func (w *FileWriter) BeginSync(ctx context.Context) (Pending, error) {
	return w.begin(ctx, "sync", wire.FlagSync)
}

func (w *FileWriter) push(ctx context.Context, op string, flags wire.Flags) error {
	p, err := w.begin(ctx, op, flags)
	if err != nil {
		return err
	}
	return p.Wait(ctx)
}

func (w *FileWriter) begin(ctx context.Context, op string, flags wire.Flags) (Pending, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.beginLocked(ctx, Pending{writer: w, op: op, flags: flags})
}

// resume begins anew what was begun in a session that ended before the ack.
func (w *FileWriter) resume(ctx context.Context, missed Pending) (Pending, error) {
	if ctx.Err() != nil && w.life.Err() == nil {
		// before the lock: another call may hold it for long
		return Pending{}, lifetime.Ended(ctx, missed.op, w.path, nil)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed && w.failed() == nil {
		return Pending{}, nil // Close came since: every datanode has everything
	}
	return w.beginLocked(ctx, missed)
}

// beginLocked is the way of every Flush and Sync: it appends what is buffered to the chunk's stream, waits for full
// chunks to be sealed, and returns p with the point behind everything, for which nobody has to hold the lock.
func (w *FileWriter) beginLocked(ctx context.Context, pending Pending) (Pending, error) {
	if err := w.usable(pending.op); err != nil {
		return Pending{}, err
	}
	if ctx.Err() != nil {
		return Pending{}, lifetime.Ended(ctx, pending.op, w.path, nil)
	}
	if w.packet != nil || pending.flags != 0 && w.unsynced && w.current != nil {
		if err := w.queuePacket(ctx, pending.flags); err != nil {
			return Pending{}, w.final(ctx, err)
		}
	}
	if err := w.settle(ctx, 0); err != nil {
		return Pending{}, w.final(ctx, err)
	}
	if w.current == nil {
		return Pending{}, nil
	}
	var err error
	if pending.point, err = w.current.Point(ctx, pending.point); err != nil {
		return Pending{}, w.final(ctx, err)
	}
	return pending, nil
}

// keepAlive shows the datanodes that an idle writer lives.
func (w *FileWriter) keepAlive() {
	if !w.mu.TryLock() {
		return // it is in use
	}
	defer w.mu.Unlock()
	if !w.closed && w.failed() == nil && w.current != nil {
		w.current.KeepAlive()
	}
}

// onGrowable hears that more nodes can join the pipeline of a chunk. An idle writer lets them join now, one in use at
// its next packet. It does not block.
func (w *FileWriter) onGrowable(id chunk.ID) {
	w.growable.Store(&id)
	if !w.mu.TryLock() {
		return
	}
	if w.closed || w.failed() != nil || !w.client.life.Start(func() {
		defer w.mu.Unlock()
		_ = w.final(w.life, w.maybeGrow(w.life)) // the next call returns it
	}) {
		w.mu.Unlock()
	}
}

// maybeGrow lets nodes join the current chunk's pipeline if they can, and if the caller has the time: each copies what
// is there, and a copy that is broken off is lost. Called with mu held.
func (w *FileWriter) maybeGrow(ctx context.Context) error {
	if w.growable.Load() == nil { // nearly always
		return nil
	}
	if deadline, some := ctx.Deadline(); some && time.Until(deadline) < growTimeLeast {
		return nil
	}
	if id := w.growable.Swap(nil); id == nil || w.current == nil || *id != w.current.ID() {
		return nil
	}
	return w.current.Grow(ctx)
}

// Close sends what is buffered, seals the last chunk, and commits the file's length. On error the file is not complete:
// a hidden one is abandoned, a visible one keeps what was flushed. Closing again returns the same.
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
		_ = w.abandon() // err is what counts; a failure to clean up is logged there
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
	if w.packet != nil || (w.current != nil && w.current.Touched()) {
		if err := w.queuePacket(ctx, wire.FlagSeal); err != nil {
			return err
		}
	}
	if w.current != nil { // reopened for append, and nothing was written
		w.chunks.commits = append(w.chunks.commits, w.current.Commit())
		w.current = nil
	}
	if err := w.settle(ctx, 0); err != nil {
		return err
	}
	info, err := w.client.complete(ctx, w.chunks.finish(), w.streamOptions(), w.holdLease)
	if err != nil {
		return err
	}
	w.info, w.chunks.commits = fileInfo(w.path, info), nil
	return nil
}

// Abort ends the writer without completing the file. A hidden file is abandoned; a visible one keeps what was flushed,
// and is closed by the namenode. Aborting a closed writer does nothing.
func (w *FileWriter) Abort() error {
	w.failure.Lock()
	if w.failure.err == nil && !w.failure.complete {
		w.failure.err = &fault.Error{Kind: fault.Closed, Op: "write", Path: w.path, Reason: "the writer was aborted"}
	}
	w.failure.Unlock()
	w.cancel() // ends a running method
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	return w.abandon()
}

// abandon releases everything and has the namenode drop or close the file. Called with mu held.
func (w *FileWriter) abandon() error {
	w.cancel()
	w.client.leases.Drop(w.info.FileID)
	if w.packet != nil {
		w.packet.Release()
		w.packet = nil
	}
	if w.current != nil {
		w.behind = append(w.behind, w.current)
		w.current = nil
	}
	for _, stream := range w.behind {
		_ = stream.Kill(nil)
	}
	w.behind = nil
	w.chunks.await()
	if w.hidden {
		return w.client.namenode.Abandon(w.life, w.info.FileID, w.path)
	}
	return w.client.namenode.CloseUnfinished(w.life, w.info.FileID, w.path)
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

// Pending is a Flush or Sync that was begun. It holds memory only, and nothing is lost if nobody waits for it. The zero
// Pending is done.
type Pending struct {
	writer *FileWriter
	op     string
	flags  wire.Flags
	point  pipeline.Point // behind everything that was written before the begin
}

// Wait returns when everything that was written before the Pending's begin is where Flush or Sync promises. If only ctx
// ended, Wait can be called again; the writer stays usable. As with Flush, ctx does not bound the wait for another
// call's turn. Any goroutine may call it, and the Pendings of a writer in any order.
func (p Pending) Wait(ctx context.Context) error {
	for p.writer != nil && !p.point.Reached(ctx) {
		var err error
		if p, err = p.writer.resume(ctx, p); err != nil {
			return err
		}
	}
	return nil
}
