package disk

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// Writer appends to one open replica on behalf of one write session. Its jobs
// run in order on the chunk's worker. It ends with a job that has Seal or
// Close, also when that job fails, or when it is fenced: by Resume, Reopen,
// BeginRecovery, Delete or Quarantine of the same replica. A Writer that does
// not end keeps a file open, so an owner that gives up submits a Close job.
type Writer struct {
	store   *Store
	replica *replica
	worker  *worker
	session uint64
	length  atomic.Int64
	queued  atomic.Bool // a job went to the worker: later ones follow it
	closed  bool        // guarded by replica.io

	// owned by the worker's goroutine
	syncDue bool
	syncErr error
	syncs   int // so far
}

// Job is one step of a write session.
type Job struct {
	// Offset in the chunk, in bytes; must equal the replica's length when the
	// job runs, else fault.Invalid. A job with only Close does not look at it.
	Offset int64
	// Data to append, 0..JobBytesMax bytes. It belongs to the caller again when
	// Done is called.
	Data []byte
	// Sync: fdatasync before Done, and once the directory.
	Sync bool
	// Seal: sync, then make the replica immutable; ends the Writer.
	Seal bool
	// Close: end the Writer without sealing, and without syncing unless Sync
	// is set; the replica stays open for Resume.
	Close bool
	// Done is called on a goroutine of the store (the worker's; for a record its
	// packer's), in the order of submission, without locks held: with the replica's length after the job, or with
	//
	//	fault.Invalid          wrong offset, too much data, or beyond the chunk size
	//	fault.StaleGeneration  the Writer was fenced
	//	fault.NoSpace          the disk is full; nothing of the job was kept, the Writer goes on
	//	fault.Disk             an I/O error; the Writer failed for good
	//	fault.Closed           the Writer had ended
	//	fault.NotFound         the replica was deleted
	//
	// Without an error the data are in the page cache and visible to readers;
	// with Sync or Seal they also survive a power failure. Must not block. nil:
	// nobody wants to know.
	Done func(length int64, err error)
}

func (j *Job) done(length int64, err error) {
	if j.Done != nil {
		j.Done(length, err)
	}
}

// Submit queues a job and never waits. Errors: fault.Busy (the worker's queue
// is full), fault.Closed (the store is); then Done is never called and Data
// stays with the caller.
func (w *Writer) Submit(job Job) error {
	if done, err := w.submitRecord(&job); done || err != nil {
		return err
	}
	return w.store.enqueue(w.worker, task{writer: w, job: job}, "write chunk", w.replica.id)
}

// Length of the replica after the last finished job, in bytes.
func (w *Writer) Length() int64 { return w.length.Load() }

// Publish shows a hidden replica as an open one, with its bytes durable. The
// Writer goes on. Does file I/O: call it from Do. Errors: as for jobs.
func (w *Writer) Publish() error {
	const op = "publish chunk"
	r := w.replica
	r.io.Lock()
	defer r.io.Unlock()
	if err := w.readyLocked(op); err != nil {
		return err
	}
	if !r.view.hidden {
		return nil
	}
	if err := w.store.materialiseLocked(r); err != nil {
		return err
	}
	if err := r.syncLocked(false); err != nil { // before the name that promises them
		return err
	}
	if err := w.store.renameLocked(r, op, chunk.Open, r.view.generation); err != nil {
		return err
	}
	w.store.options.OnEvent(Event{Kind: Stored, Replica: r.describe(r.view.snapshot)})
	return nil
}

// ready tells whether the Writer may still write; replica.io is held.
func (w *Writer) readyLocked(op string) error {
	r := w.replica
	switch {
	case r.gone:
		return notFound(op, r.id)
	case w.closed:
		return chunkError(fault.Closed, op, r.id, "the write session has ended")
	case r.session != w.session:
		return chunkError(fault.StaleGeneration, op, r.id, "another session, recovery or order took the replica over; it is %s at generation %d",
			r.view.state, r.view.generation)
	}
	return r.failed
}

// write appends a job's data. last: the session ends with it.
func (w *Writer) write(job *Job, last bool) (int64, error) {
	const op = "append to chunk"
	r, s := w.replica, w.store
	r.io.Lock()
	defer r.io.Unlock()
	if err := w.readyLocked(op); err != nil {
		return w.Length(), err
	}
	if w.holdLocked(job) {
		return w.Length(), nil
	}
	if err := s.materialiseLocked(r); err != nil {
		return w.Length(), err
	}
	length := r.view.length
	switch {
	case job.Offset != length:
		return length, chunkError(fault.Invalid, op, r.id, "offset is %d, the replica has %d bytes", job.Offset, length)
	case len(job.Data) == 0:
		return length, nil
	case len(job.Data) > JobBytesMax:
		return length, chunkError(fault.Invalid, op, r.id, "%d bytes in one job, limit %d", len(job.Data), JobBytesMax)
	case length+int64(len(job.Data)) > r.disk.ChunkSize:
		return length, chunkError(fault.Invalid, op, r.id, "%d bytes at %d exceed the chunk size of %d", len(job.Data), length, r.disk.ChunkSize)
	}
	if err := r.appendLocked(job.Data, !job.Sync, s.options.WriteoutStepBytes); err != nil {
		return length, err
	}
	if job.Sync && !last && w.syncs > 0 && len(job.Data) <= aheadJobBytesMax {
		if err := r.writeAheadLocked(w.worker.zeroBytes()); err != nil {
			return length, err
		}
	}
	w.length.Store(r.view.length)
	return r.view.length, nil
}

// writeAheadLocked makes room behind the end of a replica that is synced again
// and again: zeros that are really written, so that the next syncs neither
// change the file's size nor allocate, and the file system has no journal to
// commit. Zeros behind the end prove nothing at a recovery: no slot covers them,
// and the sums there are 0, which is not the sum of any zeros. Sealing cuts them
// off.
func (r *replica) writeAheadLocked(zeros []byte) error {
	t, end := r.tail, r.view.length
	if end <= t.ahead || t.noAhead {
		return nil
	}
	target := min((end/aheadBytes+1)*aheadBytes, r.disk.ChunkSize)
	for at := end; at < target; {
		n := min(target-at, int64(len(zeros)))
		if _, err := t.file.WriteAt(zeros[:n], r.disk.DataOffset+at); vfs.IsFull(err) {
			t.noAhead = true // only an optimisation
			break
		} else if err != nil {
			return r.failLocked("write ahead of chunk", err)
		}
		at += n
	}
	t.ahead = target
	t.preallocated = max(t.preallocated, r.disk.DataOffset+target)
	return nil
}

// appendLocked writes data, then the sums of the blocks that became full, then
// the flush slot if the data end inside a block, and only then shows the new
// length to readers. A sync slot that follows at once makes the flush slot
// needless: flush is false.
func (r *replica) appendLocked(data []byte, flush bool, writeoutStep int64) error {
	const op = "append to chunk"
	t, length := r.tail, r.view.length
	if _, err := t.file.WriteAt(data, r.disk.DataOffset+length); err != nil {
		return r.rollbackLocked(op, err)
	}
	end, count := t.hash(data, length)
	if count > 0 {
		if _, err := t.file.WriteAt(t.sums[:count*chunkfile.SumBytes], r.disk.SumAt(length/blockBytes)); err != nil {
			return r.rollbackLocked(op, err)
		}
	}
	partial := uint64(0)
	if end%blockBytes != 0 {
		partial = t.hasher.Sum64()
		if flush {
			if err := r.writeSlotLocked(t.file, t.slot[:], chunkfile.FlushSlot, end, partial); err != nil {
				return r.rollbackLocked(op, err)
			}
		}
	}
	r.view.Lock()
	r.view.length, r.view.partial = end, partial
	r.view.Unlock()
	if step := end - t.writtenOut; step >= writeoutStep {
		if err := t.file.SyncRange(r.disk.DataOffset+t.writtenOut, step); err != nil {
			return r.failLocked("start write-out of chunk", err)
		}
		t.writtenOut = end
	}
	return nil
}

// hash goes over data that follow length, leaves the sums of the blocks that
// became full in t.sums and tells their number and the new length.
func (t *tail) hash(data []byte, length int64) (end int64, count int) {
	end = length
	for len(data) > 0 {
		piece := min(blockBytes-end%blockBytes, int64(len(data)))
		var sum uint64
		whole := piece == blockBytes
		if whole {
			sum = xxh3.Hash(data[:piece])
		} else {
			_, _ = t.hasher.Write(data[:piece]) // never fails
		}
		end += piece
		data = data[piece:]
		if end%blockBytes != 0 {
			break
		}
		if !whole {
			sum = t.hasher.Sum64()
			t.hasher.Reset()
		}
		binary.LittleEndian.PutUint64(t.sums[count*chunkfile.SumBytes:], sum)
		count++
	}
	return end, count
}

// rollbackLocked undoes an append that failed half way. After a full disk the
// file is cut back to the acknowledged length and the Writer goes on; after
// anything else, or if the cut fails, the replica takes no more writes.
func (r *replica) rollbackLocked(op string, cause error) error {
	if !vfs.IsFull(cause) {
		return r.failLocked(op, cause)
	}
	t, v := r.tail, r.view.snapshot
	if err := t.file.Truncate(r.disk.DataOffset + v.length); err != nil {
		return r.failLocked("cut chunk back after "+op, err)
	}
	t.preallocated, t.ahead = 0, 0
	if err := r.clearSumsLocked(v.length); err != nil {
		return r.failLocked("clear sums after "+op, err)
	}
	if err := r.rehashLocked(v.length); err != nil {
		return r.failLocked("read chunk back after "+op, err)
	}
	if v.length%blockBytes != 0 { // the failed append may have torn it
		if err := r.writeSlotLocked(t.file, t.slot[:], chunkfile.FlushSlot, v.length, v.partial); err != nil {
			return r.failLocked("write flush slot after "+op, err)
		}
	}
	return diskError(op, r.path(), r.id, cause)
}

// syncLocked makes everything up to the present length durable: the older sync
// slot, fdatasync, and the directory if the name is new.
func (r *replica) syncLocked(name bool) error {
	const op = "sync chunk"
	if v := &r.view.snapshot; r.disk.synced != v.length {
		if !r.disk.settled {
			if err := r.tail.file.Datasync(); err != nil {
				return r.failLocked(op, err)
			}
			r.disk.settled = true
		}
		index := r.disk.nextSlot
		if err := r.writeSlotLocked(r.tail.file, r.tail.slot[:], index, v.length, v.partial); err != nil {
			return r.failLocked(op, err)
		}
		if err := r.tail.file.Datasync(); err != nil {
			return r.failLocked(op, err)
		}
		r.disk.nextSlot, r.disk.synced = 1-index, v.length
	}
	if name && !r.disk.named {
		if err := r.volume.fs.SyncDir(r.directory()); err != nil {
			return r.failLocked("sync directory of chunk", err)
		}
		r.disk.named = true
	}
	return nil
}

// sync is the Sync of the jobs that were written.
func (w *Writer) sync() error {
	r := w.replica
	r.io.Lock()
	defer r.io.Unlock()
	if err := w.readyLocked("sync chunk"); err != nil {
		return err
	}
	w.syncs++
	return r.syncLocked(true)
}

// finish runs a job that ends the session.
func (w *Writer) finish(job Job) (int64, error) {
	r := w.replica
	r.io.Lock()
	mine := !w.closed && r.session == w.session
	r.io.Unlock()
	length, err := w.Length(), error(nil)
	if len(job.Data) > 0 || job.Seal || job.Sync || !mine {
		plain := Job{Offset: job.Offset, Data: job.Data, Sync: job.Sync || job.Seal}
		if length, err = w.write(&plain, true); err == nil && job.Sync && !job.Seal {
			err = w.sync()
		}
	}
	r.io.Lock()
	defer r.io.Unlock()
	if err == nil && job.Seal {
		if err = w.readyLocked("seal chunk"); err == nil {
			err = w.store.sealLocked(r, r.view.generation)
		}
	}
	if r.session == w.session && !w.closed {
		w.store.endSessionLocked(r)
		w.store.leftLocked(r)
	}
	w.closed = true
	return length, err
}

// sealLocked syncs the replica and gives the file its final name: durable on
// return. It needs r.tail and leaves it.
func (s *Store) sealLocked(r *replica, generation chunk.Generation) error {
	const op = "seal chunk"
	v := r.view.snapshot
	if size := r.disk.DataOffset + v.length; r.tail.preallocated > size {
		if err := r.tail.file.Truncate(size); err != nil { // gives back what is behind the end
			return r.failLocked(op, err)
		}
		r.tail.preallocated = 0
	}
	if err := r.syncLocked(false); err != nil {
		return err
	}
	if err := s.renameLocked(r, op, chunk.Sealed, generation); err != nil {
		return err
	}
	s.options.OnEvent(Event{Kind: Stored, Replica: r.describe(r.view.snapshot)})
	return nil
}

// renameLocked gives the replica a new state and generation by renaming its
// file, durably.
func (s *Store) renameLocked(r *replica, op string, state chunk.State, generation chunk.Generation) error {
	next := r.view.snapshot
	next.state, next.generation, next.hidden = state, generation, false
	source, target := r.path(), r.volume.path(r.name(next).Relative())
	if source != target {
		if err := s.fs.Rename(source, target); err != nil {
			return r.failLocked(op, err)
		}
		r.disk.named = false
	}
	r.updateLocked(func(v *snapshot) { v.state, v.generation, v.hidden = state, generation, false })
	if !r.disk.named {
		if err := s.fs.SyncDir(r.directory()); err != nil {
			return r.failLocked(op, err)
		}
		r.disk.named = true
	}
	return nil
}

// endSessionLocked fences the Writer, if there is one, and gives its file back
// to the cache.
func (s *Store) endSessionLocked(r *replica) {
	r.session++
	if r.tail != nil {
		s.files.Release(r.tail.file)
		r.tail = nil
	}
}
