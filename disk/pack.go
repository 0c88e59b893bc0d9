package disk

import (
	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/disk/pack"
	"github.com/whispering-woods/ww/internal/chunk"
)

// small is a new replica that is only in memory: it is expected to become a
// record in one step. Whatever else happens to it first gives it a file
// (materialiseLocked).
type small struct {
	// data of a hidden replica that waits for its seal: a copy comes in one
	// piece and is sealed by another job. Nobody else can see it.
	data []byte
	hint int64
}

// packable tells whether a new replica may become a record.
func (s *Store) packable(o CreateOptions) bool {
	return o.SizeHint > 0 && o.SizeHint <= s.options.PackBytesMax
}

// CreateSmall is a Create that does no I/O and does not wait, so that an event
// loop may call it: for a replica that stays in memory until it is a record. ok is
// false, and nothing has happened, if this one would not, or its volume has to
// be looked for; then call Create. Errors: fault.Exists, fault.StaleGeneration.
func (s *Store) CreateSmall(id chunk.ID, gen chunk.Generation, o CreateOptions) (w *Writer, ok bool, err error) {
	if !s.packable(o) {
		return nil, false, nil
	}
	if err := checkCreate(id, gen, o); err != nil {
		return nil, false, nil //nolint:nilerr // Create says the same, and the caller turns to it
	}
	v, _ := s.place(id, o.SizeHint, s.rememberedSpace) // Create tells the error, if it finds no better
	if v == nil {
		return nil, false, nil
	}
	w, err = s.createSmall(v, id, gen, o)
	return w, true, err
}

func (s *Store) createSmall(v *volume, id chunk.ID, gen chunk.Generation, o CreateOptions) (*Writer, error) {
	r := &replica{id: id, volume: v, small: &small{hint: o.SizeHint}}
	r.io.Lock()
	defer r.io.Unlock()
	r.view.Generation, r.view.hidden = gen, o.Hidden
	r.disk.Layout = chunkfile.Layout{ChunkSize: o.ChunkSize}
	if err := s.insert(r); err != nil {
		return nil, err
	}
	return s.startLocked(r), nil
}

// packs makes a job of a small replica its record, if the job is all of it:
// the replica's lock then belongs to the packer. Else the lock is released and
// the job has to be done another way. wait: for a place in the packer's queue.
func (w *Writer) packs(job *Job, wait bool) bool {
	r := w.replica
	if wait {
		r.io.Lock()
	} else if !r.io.TryLock() {
		return false
	}
	if r.small == nil || !job.Seal || job.Close || w.readyLocked("seal chunk") != nil ||
		job.Offset != int64(len(r.small.data)) || job.Offset+int64(len(job.Data)) > w.store.options.PackBytesMax ||
		job.Offset+int64(len(job.Data)) > r.disk.ChunkSize {
		r.io.Unlock()
		return false
	}
	j := &sealJob{writer: w, answer: job.Done}
	j.Job = pack.Job{
		Record: pack.Record{ID: r.id, Generation: r.view.Generation, ChunkSize: r.disk.ChunkSize},
		Data:   job.Data, Done: j.done,
	}
	if len(r.small.data) > 0 {
		j.Data = append(r.small.data, job.Data...)
	}
	w.closed = true
	if wait {
		r.volume.packs.Submit(&j.Job)
		return true
	}
	if r.volume.packs.TrySubmit(&j.Job) {
		return true
	}
	w.closed = false
	r.io.Unlock()
	return false
}

// sealJob makes a small replica a record. It holds the replica's lock.
type sealJob struct {
	pack.Job
	writer *Writer
	answer func(int64, error) // of the Writer's job
}

// done ends the job: the replica is a record, or gone.
func (j *sealJob) done(g *pack.Segment, err error) {
	w := j.writer
	r, s := w.replica, w.store
	r.small = nil
	s.endSessionLocked(r)
	length := int64(0)
	if err != nil {
		s.lostLocked(r)
	} else {
		length = j.Length
		r.updateLocked(func(v *snapshot) {
			v.state, v.hidden, v.readable, v.layout = chunk.Sealed, false, true, r.disk.Layout
			v.Length, v.Partial, v.segment, v.at = j.Length, j.Sum, g, j.Offset
		})
		w.length.Store(length)
		s.options.OnEvent(Event{Kind: Stored, Replica: r.describe(r.view.snapshot)})
	}
	r.io.Unlock()
	if j.answer != nil {
		j.answer(length, err)
	}
}

// lostLocked drops a replica that nothing was acknowledged of.
func (s *Store) lostLocked(r *replica) {
	r.gone = true
	s.drop(r)
	if !r.view.hidden {
		s.options.OnEvent(Event{Kind: Removed, Replica: r.describe(r.view.snapshot)})
	}
}

// leftLocked tells of a replica that its Writer left in memory, which nobody has
// been told of yet: somebody has to order its deletion.
func (s *Store) leftLocked(r *replica) {
	if r.small != nil && !r.view.hidden && !r.gone {
		s.options.OnEvent(Event{Kind: Stored, Replica: r.describe(r.view.snapshot)})
	}
}

// materialiseLocked gives a replica that is only in memory a file of its own,
// an open one, with the same promises as if it had had it from the start.
func (s *Store) materialiseLocked(r *replica) error {
	if r.small == nil {
		return nil
	}
	data, hint := r.small.data, r.small.hint
	r.small = nil
	r.updateLocked(func(v *snapshot) { v.Length = 0 })
	err := s.createLocked(r, r.disk.Layout, hint)
	if err == nil && len(data) > 0 {
		err = r.appendLocked(data, true, s.options.WriteoutStepBytes)
	}
	if err != nil {
		s.endSessionLocked(r)
		s.lostLocked(r)
		return err
	}
	if !r.view.hidden {
		s.options.OnEvent(Event{Kind: Stored, Replica: r.describe(r.view.snapshot)})
	}
	return nil
}

// holdLocked keeps the data of a hidden small replica until its seal. ok is
// false if that is not what the job wants.
func (w *Writer) holdLocked(job *Job) (ok bool) {
	r := w.replica
	if r.small == nil || !r.view.hidden || job.Sync || job.Offset != int64(len(r.small.data)) {
		return false
	}
	length := job.Offset + int64(len(job.Data))
	if length > min(w.store.options.PackBytesMax, r.disk.ChunkSize) {
		return false
	}
	r.small.data = append(r.small.data, job.Data...)
	r.updateLocked(func(v *snapshot) { v.Length = length })
	w.length.Store(length)
	return true
}

// submitRecord hands a job that makes its replica a record straight to the
// packer, if nothing else is under way on the replica. It never waits.
func (w *Writer) submitRecord(job *Job) (done bool, err error) {
	if !job.Seal || w.queued.Load() {
		w.queued.Store(true)
		return false, nil
	}
	s := w.store
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.closed {
		return false, closedError("write chunk")
	}
	return w.packs(job, false), nil
}
