package copier

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/disk"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

// task is one copy. One goroutine owns it; disk workers only call wrote, and who waits for it only awaitEnd.
type task struct {
	copier     *Copier
	order      Order
	id, source chunk.ID
	generation chunk.Generation

	patience time.Duration    // how long the source may send nothing
	writer   *disk.Writer     // of the hidden replica; nil before the first answer of a source
	from     chunk.Generation // of the source's replica that was copied so far
	end      int64            // bytes handed to the disk: verified
	ownErr   error            // this node failed: another source would not help
	bad      []string         // nodes whose bytes did not match their checksums
	pieces   chan struct{}    // one element for each piece that the disk has
	progress *Progress
	disk     diskWatch
	diskErr  atomic.Pointer[error]
}

// errOtherGeneration: what the source has now may be other bytes than those that were copied so far.
var errOtherGeneration = fault.New(fault.StaleGeneration, "copy replica",
	"its generation is not the one that the copy began with")

func newTask(c *Copier, id chunk.ID, o Order, progress *Progress) *task {
	t := &task{copier: c, order: o, id: id, source: id, generation: chunk.Generation(o.Generation),
		pieces: make(chan struct{}, piecesMax), progress: progress, disk: diskWatch{clock: c.Clock}}
	if len(o.SourceChunkID) > 0 {
		t.source, _ = chunk.IDFrom(o.SourceChunkID)
	}
	return t
}

// ready tells whether the replica wanted is there already.
func (t *task) ready() bool {
	found, err := t.copier.Store.Stat(t.id)
	if err != nil || found.Generation != t.generation || found.Leaving {
		return false
	}
	switch found.State {
	case chunk.Sealed:
		return t.order.Seal && found.Length == t.order.Length
	case chunk.Open, chunk.Recovered:
		// Published whole by an earlier call, and perhaps written to since.
		return !t.order.Seal && found.Length >= t.order.Length
	}
	return false
}

// run tries the sources in order.
func (t *task) run(ctx context.Context) error {
	const op = "copy replica"
	if t.ready() {
		t.end = t.order.Length
		return nil
	}
	var failures []string
	absent := true
	sources := t.copier.inOrder(t.order.Sources)
	for i, source := range sources {
		t.patience = t.copier.SilenceTimeout
		if i == len(sources)-1 {
			t.patience = t.copier.StepTimeout
		}
		err := t.pull(ctx, source)
		if errors.Is(err, errOtherGeneration) && ctx.Err() == nil {
			t.settle()
			t.discard()
			err = t.pull(ctx, source)
		}
		if err == nil {
			return nil
		}
		t.settle()
		switch {
		case ctx.Err() != nil:
			t.discard()
			return &fault.Error{Kind: fault.Closed, Op: op, Chunk: t.id.String(), Reason: "given up half way",
				Err: ctx.Err()}
		case t.ownErr != nil:
			t.discard()
			return t.ownErr
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.copier.noteSilent(source)
		}
		absent = absent && errors.Is(err, fault.NotFound)
		if errors.Is(err, fault.CorruptData) {
			t.bad = append(t.bad, source.NodeID)
		}
		failures = append(failures, source.NodeID+" at "+source.Address+": "+err.Error())
	}
	t.discard()
	kind := fault.Unavailable
	if absent {
		kind = fault.NotFound
	}
	return failure(t.id, kind, "no source gave a good copy: %s", strings.Join(failures, "; "))
}

// failure is an error about the copy of one replica.
func failure(id chunk.ID, kind fault.Kind, format string, args ...any) error {
	e := fault.New(kind, "copy replica", format, args...)
	e.Chunk = id.String()
	return e
}

// pull copies from one source, going on where the one before ended if it has
// the same generation, and finishes the replica.
func (t *task) pull(ctx context.Context, source wire.Hop) error {
	err := t.copier.Peers.Converse(ctx, source.Address, func(conn net.Conn, reader *wire.PacketReader) error {
		for { // an empty replica takes one range too
			if err := t.pullRange(ctx, conn, reader); err != nil || t.end == t.order.Length {
				return err
			}
		}
	})
	if err != nil {
		return err
	}
	return t.finish(ctx)
}

// arm gives the source another while to send something.
func (t *task) arm(ctx context.Context, conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(t.patience)); err != nil {
		return err
	}
	return ctx.Err() // after: a deadline set by the cancellation must not be pushed on
}

// pullRange asks for the next range and takes it.
func (t *task) pullRange(ctx context.Context, conn net.Conn, reader *wire.PacketReader) error {
	if err := t.arm(ctx, conn); err != nil {
		return err
	}
	request, err := wire.AppendPacket(nil, wire.Header{Op: wire.OpOpenRead}, &wire.OpenRead{
		BodyVersion: wire.BodyVersion, ChunkID: t.source[:], MinGeneration: t.order.SourceMinGeneration,
		Offset: t.end, Length: min(t.order.Length-t.end, rangeBytes), Background: t.order.Background})
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
		n := min(pieceBytes, reply.DataLength-done)
		if err := t.piece(ctx, conn, reader, n, reply.Sums[done/chunk.ChecksumBlockBytes*8:]); err != nil {
			return err
		}
		done += n
	}
	return nil
}

// prepare makes room for the replica and begins it. It runs once per attempt,
// after a source has shown that it can give the bytes.
func (t *task) prepare(ctx context.Context, chunkSize int64) error {
	if t.order.ChunkSize > 0 {
		chunkSize = t.order.ChunkSize
	}
	return t.onWorker(ctx, func() error {
		store := t.copier.Store
		found, err := store.Stat(t.id)
		switch {
		case err != nil && !errors.Is(err, fault.NotFound):
			return err
		case err != nil || found.State == chunk.Corrupt:
		case found.Generation > t.generation:
			return failure(t.id, fault.StaleGeneration, "there is a replica of a higher generation, %s", found.State)
		case found.Generation == t.generation && !found.Leaving && (found.State != chunk.Recovered || !t.order.Seal):
			return failure(t.id, fault.Exists, "there is another replica of this generation, %s", found.State)
		default:
			t.copier.Logger.Info("a newer copy will take the place of a replica", "chunk", t.id,
				"gen", found.Generation, "length", found.Length, "newgen", t.generation)
		}
		t.writer, err = store.Create(t.id, t.generation, disk.CreateOptions{ChunkSize: chunkSize,
			SizeHint: t.order.Length, Hidden: true, Background: t.order.Background})
		return err
	})
}

// check refuses an answer that is not the range asked for.
func (t *task) check(reply *wire.ReadReply) error {
	const op = "copy replica"
	if err := reply.Validate(); err != nil {
		return err
	}
	want := min(t.order.Length-t.end, rangeBytes)
	switch {
	case reply.BlockBytes != chunk.ChecksumBlockBytes:
		return fault.New(fault.Version, op, "it has checksum blocks of %d bytes", reply.BlockBytes)
	case reply.ReplicaLength < t.order.Length:
		return fault.New(fault.NotFound, op, "its replica has %d bytes, %d are wanted", reply.ReplicaLength,
			t.order.Length)
	case want > 0 && (reply.DataOffset != t.end || reply.DataLength == 0 ||
		reply.DataLength >= want+chunk.ChecksumBlockBytes),
		reply.DataLength < want && reply.DataLength%chunk.ChecksumBlockBytes != 0:
		return fault.New(fault.Protocol, op, "asked for %d+%d, got %d+%d", t.end, want, reply.DataOffset,
			reply.DataLength)
	case t.order.ChunkSize == 0 && // also if it tells none
		(reply.ChunkSize == 0 || reply.ChunkSize < t.order.Length || reply.ChunkSize > chunk.SizeMax ||
			reply.ChunkSize%chunk.ChecksumBlockBytes != 0):
		return fault.New(fault.Version, op, "it tells a chunk size of %d", reply.ChunkSize)
	}
	return nil
}

// piece takes n bytes from the source, verifies them and submits them to the disk.
func (t *task) piece(ctx context.Context, conn net.Conn, reader *wire.PacketReader, n int64, sums []byte) error {
	if err := t.awaitDisk(ctx); err != nil {
		return err
	}
	buffer := t.copier.Buffers.Get(int(n))
	drop := func(err error) error {
		buffer.Release()
		<-t.pieces
		return err
	}
	data := buffer.Bytes()
	if err := t.arm(ctx, conn); err != nil { // now: the own disk may have taken long
		return drop(err)
	}
	if _, err := io.ReadFull(reader, data); err != nil {
		return drop(err)
	}
	for i := 0; i*chunk.ChecksumBlockBytes < len(data); i++ {
		block := data[i*chunk.ChecksumBlockBytes : min(len(data), (i+1)*chunk.ChecksumBlockBytes)]
		if got, want := xxh3.Hash(block), binary.LittleEndian.Uint64(sums[8*i:]); got != want {
			return drop(fault.New(fault.CorruptData, "copy replica", "the block at %d does not match its checksum",
				t.end+int64(i)*chunk.ChecksumBlockBytes))
		}
	}
	data = data[:min(int64(len(data)), t.order.Length-t.end)] // the last block may go on behind what is wanted
	size := int64(len(data))
	t.progress.waits.Store(true)
	err := t.submit(ctx, disk.Job{Offset: t.end, Data: data, Done: func(_ int64, err error) {
		buffer.Release()
		t.wrote(size, err)
		<-t.pieces
	}})
	t.progress.waits.Store(false)
	if err != nil {
		return drop(err)
	}
	t.end += size
	t.copier.bytesPulled.Add(uint64(size))
	if err := t.diskErr.Load(); err != nil {
		t.ownErr = *err
		return t.ownErr
	}
	return nil
}

// awaitDisk waits until the disk has room for another piece.
func (t *task) awaitDisk(ctx context.Context) error {
	t.progress.waits.Store(true)
	defer t.progress.waits.Store(false)
	defer t.disk.wait()()
	select {
	case t.pieces <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// submit queues a job for the disk as soon as there is room.
func (t *task) submit(ctx context.Context, job disk.Job) error {
	defer t.disk.wait()()
	copier, done := t.copier, job.Done
	job.Done = func(length int64, err error) {
		done(length, err)
		copier.diskJobs.Add(-1)
		copier.work.Done()
	}
	for {
		copier.work.Add(1)
		copier.diskJobs.Add(1)
		err := t.writer.Submit(job)
		if err == nil {
			return nil
		}
		copier.diskJobs.Add(-1)
		copier.work.Done()
		if !errors.Is(err, fault.Busy) {
			t.ownErr = err
			return err
		}
		if err := clock.Sleep(ctx, copier.Clock, retryDelay); err != nil {
			return err
		}
	}
}

// onWorker runs f on the chunk's disk worker and waits for it.
func (t *task) onWorker(ctx context.Context, f func() error) error {
	defer t.disk.wait()()
	copier := t.copier
	for {
		done := make(chan error, 1)
		copier.work.Add(1)
		err := copier.Store.Do(t.id, func() {
			defer copier.work.Done()
			done <- f()
		})
		if err == nil {
			return <-done
		}
		copier.work.Done()
		if !errors.Is(err, fault.Busy) {
			return err
		}
		if err := clock.Sleep(ctx, copier.Clock, retryDelay); err != nil {
			return err
		}
	}
}

// wrote runs on the disk worker.
func (t *task) wrote(bytes int64, err error) {
	t.disk.moved()
	if err != nil {
		t.diskErr.CompareAndSwap(nil, &err)
		return
	}
	t.progress.taken.Add(uint64(bytes))
}

// settle waits until the disk has released all pieces.
func (t *task) settle() {
	defer t.disk.wait()()
	for range piecesMax {
		t.pieces <- struct{}{}
	}
	for range piecesMax {
		<-t.pieces
	}
	if err := t.diskErr.Load(); err != nil && t.ownErr == nil {
		t.ownErr = *err
	}
}

// await waits for what the disk does.
func (t *task) await(done <-chan error) error {
	defer t.disk.wait()()
	return <-done
}

// finish seals or publishes the whole replica. As soon as the disk has all of its bytes it is not given up any more.
func (t *task) finish(ctx context.Context) error {
	t.settle()
	if t.ownErr != nil {
		return t.ownErr
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	done := make(chan error, 1)
	report := func(_ int64, err error) { done <- err }
	job := disk.Job{Offset: t.end, Seal: t.order.Seal, Close: !t.order.Seal, Done: report}
	if t.order.Seal {
		if err := t.submit(ctx, job); err != nil {
			return err
		}
		if t.ownErr = t.await(done); t.ownErr == nil {
			t.writer = nil
		}
		return t.ownErr
	}
	if t.ownErr = t.onWorker(ctx, t.writer.Publish); t.ownErr != nil {
		return t.ownErr
	}
	// It is whole and shown; only its file is left to be closed.
	if t.submit(context.WithoutCancel(ctx), job) == nil {
		t.await(done) //nolint:errcheck // the replica is whole and shown, however its file closes
	}
	t.writer, t.ownErr = nil, nil
	return nil
}

// discard throws the unfinished replica away. Nobody has seen it.
func (t *task) discard() {
	t.end = 0
	if t.writer == nil {
		return
	}
	t.writer = nil
	defer t.disk.wait()()
	if err := t.copier.Store.Delete(t.id, t.generation); err != nil && !errors.Is(err, fault.NotFound) {
		t.copier.Logger.Warn("unfinished copy not removed; the next start does", "chunk", t.id,
			"gen", t.generation, "err", err)
	}
}
