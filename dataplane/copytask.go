package dataplane

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/disk"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

const (
	// copyPieceBytes is read, verified and written in one step: whole blocks.
	copyPieceBytes = 256 << 10
	// copyPiecesMax bounds the pieces of one copy that wait for the disk: a slow
	// disk slows the pulling.
	copyPiecesMax = 8
	// copyRangeBytes is asked for at once: a source's goroutine and file are not
	// held for longer than that takes.
	copyRangeBytes = 32 << 20
	// copyRetryDelay spaces attempts to enter a full disk queue.
	copyRetryDelay = 5 * time.Millisecond
)

// copyTask is one copy. One goroutine owns it; disk workers only call wrote.
type copyTask struct {
	server     *Server
	o          wire.CopyRange
	id, source chunk.ID
	generation chunk.Generation

	writer  *disk.Writer     // of the hidden replica; nil before the first answer of a source
	from    chunk.Generation // of the source's replica that was copied so far
	end     int64            // bytes handed to the disk: verified
	ownErr  error            // this node failed: another source would not help
	pieces  chan struct{}    // one element for each piece that the disk has
	diskErr atomic.Pointer[error]
}

// errOtherGeneration: what the source has now may be other bytes than those that
// were copied so far.
var errOtherGeneration = fault.New(fault.StaleGeneration, "copy replica", "its generation is not the one that the copy began with")

func newCopyTask(s *Server, id chunk.ID, o wire.CopyRange) *copyTask {
	t := &copyTask{server: s, o: o, id: id, source: id, generation: chunk.Generation(o.Generation), pieces: make(chan struct{}, copyPiecesMax)}
	if len(o.SourceChunkID) > 0 {
		t.source, _ = chunk.IDFrom(o.SourceChunkID)
	}
	return t
}

// pull copies from one source, going on where the one before ended if it has
// the same generation, and finishes the replica.
func (t *copyTask) pull(ctx context.Context, source wire.Hop) error {
	conn, err := t.server.peers.get(ctx, source.Address)
	if err != nil {
		return err
	}
	reader := wire.NewPacketReader(conn, 0)
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	for err == nil {
		if err = t.pullRange(ctx, conn, reader); err == nil && t.end == t.o.Length {
			break
		}
	}
	if stop() && err == nil && reader.Buffered() == 0 {
		t.server.peers.put(source.Address, conn)
	} else {
		_ = conn.Close()
	}
	if err != nil {
		return err
	}
	return t.finish(ctx)
}

// arm gives the source another while to send something.
func (t *copyTask) arm(ctx context.Context, conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(t.server.limits.StepTimeout)); err != nil {
		return err
	}
	return ctx.Err() // after: a deadline set by the cancellation must not be pushed on
}

// pullRange asks for the next range and takes it.
func (t *copyTask) pullRange(ctx context.Context, conn net.Conn, reader *wire.PacketReader) error {
	if err := t.arm(ctx, conn); err != nil {
		return err
	}
	request, err := wire.AppendPacket(nil, wire.Header{Op: wire.OpOpenRead}, &wire.OpenRead{BodyVersion: wire.BodyVersion, ChunkID: t.source[:],
		MinGeneration: t.o.SourceMinGeneration, Offset: t.end, Length: min(t.o.Length-t.end, copyRangeBytes)})
	if err != nil {
		return err
	}
	if _, err := conn.Write(request); err != nil {
		return err
	}
	var reply wire.ReadReply
	if _, err := reader.Expect(wire.OpReadReply, &reply); err != nil {
		return err
	}
	if err := reply.Status.Err("copy replica", ""); err != nil {
		return err
	}
	if err := t.check(&reply); err != nil {
		return err
	}
	if t.writer != nil && chunk.Generation(reply.Generation) != t.from {
		return errOtherGeneration
	}
	if t.writer == nil {
		if t.ownErr = t.prepare(ctx, reply.ChunkSize); t.ownErr != nil {
			return t.ownErr
		}
		t.from = chunk.Generation(reply.Generation)
	}
	for done := int64(0); done < reply.DataLength; {
		n := min(copyPieceBytes, reply.DataLength-done)
		if err := t.arm(ctx, conn); err != nil {
			return err
		}
		if err := t.piece(ctx, reader, n, reply.Sums[done/chunk.ChecksumBlockBytes*8:]); err != nil {
			return err
		}
		done += n
	}
	return nil
}

// check refuses an answer that is not the range asked for.
func (t *copyTask) check(r *wire.ReadReply) error {
	const op = "copy replica"
	if err := r.Validate(); err != nil {
		return err
	}
	want := min(t.o.Length-t.end, copyRangeBytes)
	switch {
	case r.BlockBytes != chunk.ChecksumBlockBytes:
		return fault.New(fault.Version, op, "it has checksum blocks of %d bytes", r.BlockBytes)
	case r.ReplicaLength < t.o.Length:
		return fault.New(fault.NotFound, op, "its replica has %d bytes, %d are wanted", r.ReplicaLength, t.o.Length)
	case want > 0 && (r.DataOffset != t.end || r.DataLength == 0 || r.DataLength >= want+chunk.ChecksumBlockBytes),
		r.DataLength < want && r.DataLength%chunk.ChecksumBlockBytes != 0:
		return fault.New(fault.Protocol, op, "asked for %d+%d, got %d+%d", t.end, want, r.DataOffset, r.DataLength)
	case r.ChunkSize != 0 && t.o.ChunkSize == 0 && (r.ChunkSize < t.o.Length || r.ChunkSize > chunk.SizeMax || r.ChunkSize%chunk.ChecksumBlockBytes != 0),
		r.ChunkSize == 0 && t.o.ChunkSize == 0:
		return fault.New(fault.Version, op, "it tells a chunk size of %d", r.ChunkSize)
	}
	return nil
}

// piece takes n bytes from the source, verifies them and hands them to the disk.
func (t *copyTask) piece(ctx context.Context, reader *wire.PacketReader, n int64, sums []byte) error {
	select {
	case t.pieces <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	buffer := t.server.node.buffers.Get(int(n))
	drop := func(err error) error {
		buffer.Release()
		<-t.pieces
		return err
	}
	b := buffer.Bytes()
	if _, err := io.ReadFull(reader, b); err != nil {
		return drop(err)
	}
	for i := 0; i*chunk.ChecksumBlockBytes < len(b); i++ {
		block := b[i*chunk.ChecksumBlockBytes : min(len(b), (i+1)*chunk.ChecksumBlockBytes)]
		if got, want := xxh3.Hash(block), binary.LittleEndian.Uint64(sums[8*i:]); got != want {
			return drop(fault.New(fault.CorruptData, "copy replica", "the block at %d does not match its checksum", t.end+int64(i)*chunk.ChecksumBlockBytes))
		}
	}
	b = b[:min(int64(len(b)), t.o.Length-t.end)] // the last block may go on behind what is wanted
	size := int64(len(b))
	err := t.submit(ctx, disk.Job{Offset: t.end, Data: b, Done: func(_ int64, err error) {
		buffer.Release()
		t.wrote(err)
		<-t.pieces
	}})
	if err != nil {
		return drop(err)
	}
	t.end += size
	t.server.counters.bytesPulled.Add(uint64(size))
	if err := t.diskErr.Load(); err != nil {
		t.ownErr = *err
		return t.ownErr
	}
	return nil
}

// submit hands a job to the disk when its queue has room.
func (t *copyTask) submit(ctx context.Context, job disk.Job) error {
	s, done := t.server, job.Done
	job.Done = func(length int64, err error) {
		done(length, err)
		s.counters.diskJobs.Add(-1)
		s.work.Done()
	}
	for {
		s.work.Add(1)
		s.counters.diskJobs.Add(1)
		err := t.writer.Submit(job)
		if err == nil {
			return nil
		}
		s.counters.diskJobs.Add(-1)
		s.work.Done()
		if !errors.Is(err, fault.Busy) {
			t.ownErr = err
			return err
		}
		if err := clock.Sleep(ctx, s.clock, copyRetryDelay); err != nil {
			return err
		}
	}
}

// wrote runs on the disk worker.
func (t *copyTask) wrote(err error) {
	if err != nil {
		t.diskErr.CompareAndSwap(nil, &err)
	}
}

// settle waits until the disk has let go of all pieces.
func (t *copyTask) settle() {
	for range copyPiecesMax {
		t.pieces <- struct{}{}
	}
	for range copyPiecesMax {
		<-t.pieces
	}
	if err := t.diskErr.Load(); err != nil && t.ownErr == nil {
		t.ownErr = *err
	}
}

// finish seals or publishes the whole replica. From here on it is not given up.
func (t *copyTask) finish(ctx context.Context) error {
	t.settle()
	if t.ownErr != nil {
		return t.ownErr
	}
	done := make(chan error, 1)
	job := disk.Job{Offset: t.end, Seal: t.o.Seal, Close: !t.o.Seal, Done: func(_ int64, err error) { done <- err }}
	if t.o.Seal {
		if err := t.submit(ctx, job); err != nil {
			return err
		}
		if t.ownErr = <-done; t.ownErr == nil {
			t.writer = nil
		}
		return t.ownErr
	}
	if t.ownErr = t.onWorker(ctx, t.writer.Publish); t.ownErr != nil {
		return t.ownErr
	}
	// It is whole and shown; only its file is left to be closed.
	if t.submit(context.WithoutCancel(ctx), job) == nil {
		<-done //nolint:errcheck // the replica is whole and shown, however its file closes
	}
	t.writer, t.ownErr = nil, nil
	return nil
}

// discard throws the unfinished replica away. Nobody has seen it.
func (t *copyTask) discard() {
	t.end = 0
	if t.writer == nil {
		return
	}
	t.writer = nil
	if err := t.server.store.Delete(t.id, t.generation); err != nil && !errors.Is(err, fault.NotFound) {
		t.server.logger.Warn("unfinished copy not removed; the next start does", "chunk", t.id, "gen", t.generation, "err", err)
	}
}
