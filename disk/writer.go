package disk

import (
	"sync/atomic"

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
	if err := w.store.renameLocked(r, op, chunk.Open, r.view.Generation); err != nil {
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
			r.view.state, r.view.Generation)
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
	length := r.view.Length
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
		if err := r.tail.WriteAhead(w.worker.zeroBytes(), r.view.Length); err != nil {
			return length, r.failLocked("write ahead of chunk", err)
		}
	}
	w.length.Store(r.view.Length)
	return r.view.Length, nil
}

// appendLocked writes data and then shows the new length to readers. flush is
// false if a sync follows at once.
func (r *replica) appendLocked(data []byte, flush bool, writeoutStep int64) error {
	const op = "append to chunk"
	end, err := r.tail.Append(data, r.view.End, flush)
	if err != nil {
		return r.rollbackLocked(op, err)
	}
	r.view.Lock()
	r.view.End = end
	r.view.Unlock()
	if err := r.tail.WriteOut(end.Length, writeoutStep); err != nil {
		return r.failLocked("start write-out of chunk", err)
	}
	return nil
}

// rollbackLocked undoes an append that failed half way. After a full disk the
// file is cut back to the acknowledged length and the Writer goes on; after
// anything else, or if the cut fails, the replica takes no more writes.
func (r *replica) rollbackLocked(op string, cause error) error {
	if !vfs.IsFull(cause) {
		return r.failLocked(op, cause)
	}
	if step, err := r.tail.CutBack(r.view.End); err != nil {
		return r.failLocked(step+" after "+op, err)
	}
	return diskError(op, r.path(), r.id, cause)
}

// syncLocked makes everything up to the present length durable, and with name the
// directory if the name is new.
func (r *replica) syncLocked(name bool) error {
	const op = "sync chunk"
	if err := r.tail.Sync(r.view.End); err != nil {
		return r.failLocked(op, err)
	}
	if name && !r.named {
		if err := r.volume.fs.SyncDir(r.directory()); err != nil {
			return r.failLocked("sync directory of chunk", err)
		}
		r.named = true
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
			err = w.store.sealLocked(r, r.view.Generation)
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
	if err := r.tail.Trim(r.view.Length); err != nil {
		return r.failLocked(op, err)
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
	next.state, next.Generation, next.hidden = state, generation, false
	source, target := r.path(), r.volume.path(r.name(next).Relative())
	if source != target {
		if err := s.fs.Rename(source, target); err != nil {
			return r.failLocked(op, err)
		}
		r.named = false
	}
	r.updateLocked(func(v *snapshot) { v.state, v.Generation, v.hidden = state, generation, false })
	if !r.named {
		if err := s.fs.SyncDir(r.directory()); err != nil {
			return r.failLocked(op, err)
		}
		r.named = true
	}
	return nil
}

// endSessionLocked fences the Writer, if there is one, and gives its file back
// to the cache.
func (s *Store) endSessionLocked(r *replica) {
	r.session++
	if r.tail != nil {
		s.files.Release(r.file)
		r.tail, r.file = nil, nil
	}
}
