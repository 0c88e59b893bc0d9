package disk

import (
	"sync/atomic"

	"github.com/whispering-woods/ww/disk/pack"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// Writer appends to one open replica on behalf of one write session. Its jobs run in order on the chunk's
// worker. It ends with a job that has Seal or Close, also when that job fails, or when it is fenced: by
// Resume, Reopen, BeginRecovery, Delete or Quarantine of the same replica. A Writer that does not end keeps a
// file open, so an owner that gives up submits a Close job.
type Writer struct {
	sessions *sessions
	replica  *replica
	worker   *worker
	// background: see CreateOptions.Background
	background bool
	session    uint64
	length     atomic.Int64
	queued     atomic.Bool // a job went to the worker: later ones follow it
	closed     bool        // guarded by replica.io

	// owned by the worker's goroutine
	syncDue bool
	syncErr error
	syncs   int // so far
}

// Job is one step of a write session.
type Job struct {
	// Offset in the chunk, in bytes; must equal the replica's length when the job runs, else fault.Invalid. A
	// job with only Close does not look at it.
	Offset int64
	Data   []byte // to append, 0..JobBytesMax bytes. It belongs to the caller again when Done is called
	Sync   bool   // fdatasync before Done, and once the directory
	Seal   bool   // sync, then make the replica immutable; ends the Writer
	// Close: end the Writer without sealing, and without syncing unless Sync is set; the replica stays open for Resume.
	Close bool
	// Done is called on a goroutine of the store (the worker's; for a record its packer's), in the order of
	// submission, without locks held: with the replica's length after the job, or with
	//
	//	fault.Invalid          wrong offset, too much data, or beyond the chunk size
	//	fault.StaleGeneration  the Writer was fenced
	//	fault.NoSpace          the disk is full; nothing of the job was kept, the Writer goes on
	//	fault.Disk             an I/O error; the Writer failed for good
	//	fault.Closed           the Writer had ended
	//	fault.NotFound         the replica was deleted
	//
	// Without an error the data are in the page cache and visible to readers; with Sync or Seal they also
	// survive a power failure. Must not block. nil: the result is of no interest.
	Done func(length int64, err error)
}

func (j *Job) done(length int64, err error) {
	if j.Done != nil {
		j.Done(length, err)
	}
}

// Submit queues a job and never waits. Errors: fault.Busy (the worker's queue is full), fault.Closed (the
// store is), fault.Disk (the volume is out of service); then Done is never called and Data stays with the caller.
func (w *Writer) Submit(job Job) error {
	if err := w.replica.volume.outError("write chunk", w.replica.id); err != nil { // its worker may hang
		return err
	}
	if done, err := w.submitRecord(&job); done || err != nil {
		return err
	}
	return w.sessions.gate.enqueue(w.worker, task{writer: w, job: job}, "write chunk", w.replica.id)
}

// Length of the replica after the last finished job, in bytes.
func (w *Writer) Length() int64 { return w.length.Load() }

// Publish shows a hidden replica as an open one, with its bytes durable. The Writer goes on. Does file I/O:
// call it from Do. Errors: as for jobs.
func (w *Writer) Publish() error {
	const op = "publish chunk"
	replica := w.replica
	replica.io.Lock()
	defer replica.io.Unlock()
	if err := w.readyLocked(op); err != nil {
		return err
	}
	if !replica.view.hidden {
		return nil
	}
	if err := w.sessions.unpacker.materialiseLocked(replica); err != nil {
		return err
	}
	if err := replica.syncLocked(false); err != nil { // before the name that promises them
		return err
	}
	return w.sessions.showLocked(replica, op, func() error {
		if err := replica.renameLocked(op, chunk.Open, replica.view.Generation); err != nil {
			return err
		}
		replica.reportLocked(Stored, "")
		return nil
	})
}

// readyLocked reports whether the Writer may still write; replica.io is held.
func (w *Writer) readyLocked(op string) error {
	replica := w.replica
	switch {
	case replica.gone:
		return notFound(op, replica.id)
	case w.closed:
		return chunkError(fault.Closed, op, replica.id, "the write session has ended")
	case replica.session != w.session:
		return chunkError(fault.StaleGeneration, op, replica.id,
			"another session, recovery or order took the replica over; it is %s at generation %d",
			replica.view.state, replica.view.Generation)
	}
	return replica.failed
}

// write appends a job's data. last: the session ends with it.
func (w *Writer) write(job *Job, last bool) (int64, error) {
	const op = "append to chunk"
	replica := w.replica
	if w.background {
		replica.volume.health.Yield()
	}
	replica.io.Lock()
	defer replica.io.Unlock()
	if err := w.readyLocked(op); err != nil {
		return w.Length(), err
	}
	if w.holdLocked(job) {
		return w.Length(), nil
	}
	if err := w.sessions.unpacker.materialiseLocked(replica); err != nil {
		return w.Length(), err
	}
	length := replica.view.Length
	switch {
	case job.Offset != length:
		return length, chunkError(fault.Invalid, op, replica.id, "offset is %d, the replica has %d bytes", job.Offset,
			length)
	case len(job.Data) == 0:
		return length, nil
	case len(job.Data) > JobBytesMax:
		return length, chunkError(fault.Invalid, op, replica.id, "%d bytes in one job, limit %d", len(job.Data),
			JobBytesMax)
	case length+int64(len(job.Data)) > replica.disk.ChunkSize:
		return length, chunkError(fault.Invalid, op, replica.id, "%d bytes at %d exceed the chunk size of %d",
			len(job.Data), length, replica.disk.ChunkSize)
	}
	if err := replica.appendLocked(job.Data, !job.Sync); err != nil {
		return length, err
	}
	if err := w.writeOutLocked(); err != nil {
		return length, err
	}
	if job.Sync && !last && w.syncs > 0 && len(job.Data) <= aheadJobBytesMax {
		if err := replica.tail.WriteAhead(w.worker.zeroBytes(), replica.view.Length); err != nil {
			return length, replica.failLocked("write ahead of chunk", err)
		}
	}
	w.length.Store(replica.view.Length)
	return replica.view.Length, nil
}

// writeOutLocked starts the write-out of what was appended, in steps.
func (w *Writer) writeOutLocked() (err error) {
	r := w.replica
	if w.background {
		err = r.tail.AwaitedWriteOut(r.view.Length, copyStepBytes)
	} else {
		err = r.tail.WriteOut(r.view.Length, r.volume.options.WriteoutStepBytes)
	}
	if err != nil {
		return r.failLocked("write out chunk", err)
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
	replica := w.replica
	replica.io.Lock()
	current := !w.closed && replica.session == w.session
	replica.io.Unlock()
	length, err := w.Length(), error(nil)
	if len(job.Data) > 0 || job.Seal || job.Sync || !current {
		plain := Job{Offset: job.Offset, Data: job.Data, Sync: job.Sync || job.Seal}
		if length, err = w.write(&plain, true); err == nil && job.Sync && !job.Seal {
			err = w.sync()
		}
	}
	replica.io.Lock()
	defer replica.io.Unlock()
	if err == nil && job.Seal {
		if err = w.readyLocked("seal chunk"); err == nil {
			err = w.sessions.showLocked(replica, "seal chunk", func() error {
				return replica.sealLocked(replica.view.Generation)
			})
		}
	}
	if replica.session == w.session && !w.closed {
		replica.endSessionLocked()
		if replica.view.place.kind == inMemory && !replica.view.hidden && !replica.gone {
			// It has not been reported yet: somebody has to order its deletion.
			replica.reportLocked(Stored, "")
		}
	}
	w.closed = true
	return length, err
}

// sealAsRecord makes a job of a small replica its record, if the job is all of it: the replica's lock then
// belongs to the packer. Else the lock is released and the job has to be done another way. wait: for a place
// in the packer's queue.
func (w *Writer) sealAsRecord(job *Job, wait bool) bool {
	replica := w.replica
	if wait {
		replica.io.Lock()
	} else if !replica.io.TryLock() {
		return false
	}
	waiting := replica.view.place.memory
	if waiting == nil || !job.Seal || job.Close || w.readyLocked("seal chunk") != nil ||
		job.Offset != int64(len(waiting.data)) || job.Offset+int64(len(job.Data)) > w.recordBytesMax() {
		replica.io.Unlock()
		return false
	}
	sealing := &sealJob{writer: w, answer: job.Done}
	sealing.Job = pack.Job{
		Record: pack.Record{ID: replica.id, Generation: replica.view.Generation, ChunkSize: replica.disk.ChunkSize},
		Data:   job.Data, Done: sealing.done,
	}
	if len(waiting.data) > 0 {
		sealing.Data = append(waiting.data, job.Data...)
	}
	w.closed = true
	if wait {
		replica.volume.packs.Submit(&sealing.Job)
		return true
	}
	if replica.volume.packs.TrySubmit(&sealing.Job) {
		return true
	}
	w.closed = false
	replica.io.Unlock()
	return false
}

// holdLocked keeps the data of a hidden small replica until its seal. ok is false if that is not what the job wants.
func (w *Writer) holdLocked(job *Job) (ok bool) {
	r := w.replica
	m, length := r.view.place.memory, job.Offset+int64(len(job.Data))
	if m == nil || !r.view.hidden || job.Sync || job.Offset != int64(len(m.data)) || length > w.recordBytesMax() {
		return false
	}
	m.data = append(m.data, job.Data...)
	r.updateLocked(func(v *snapshot) { v.Length = length })
	w.length.Store(length)
	return true
}

// recordBytesMax is how long the replica may be as a record.
func (w *Writer) recordBytesMax() int64 {
	return min(w.sessions.options.PackBytesMax, w.replica.disk.ChunkSize)
}

// submitRecord passes a job that makes its replica a record straight to the packer, if nothing else is under
// way on the replica. It never waits.
func (w *Writer) submitRecord(job *Job) (done bool, err error) {
	if !job.Seal || w.queued.Load() {
		w.queued.Store(true)
		return false, nil
	}
	g := w.sessions.gate
	g.RLock()
	defer g.RUnlock()
	if g.closed {
		return false, closedError("write chunk")
	}
	return w.sealAsRecord(job, false), nil
}
