package disk

import (
	"github.com/whispering-woods/ww/disk/chunkfile"
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
	j := &packJob{
		record:  record{id: r.id, generation: r.view.Generation, chunkSize: r.disk.ChunkSize},
		replica: r, data: job.Data, done: w.store.packed, writer: w, told: job.Done,
	}
	if len(r.small.data) > 0 {
		j.data = append(r.small.data, job.Data...)
	}
	queue := r.volume.pack.packer.queue
	if wait {
		w.closed = true
		queue <- j
		return true
	}
	w.closed = true
	select {
	case queue <- j:
		return true
	default:
		w.closed = false
		r.io.Unlock()
		return false
	}
}

// packed ends the job of a seal.
func (s *Store) packed(j *packJob, g *segment, err error) {
	r, w := j.replica, j.writer
	r.small = nil
	s.endSessionLocked(r)
	if err != nil {
		s.lostLocked(r)
		r.io.Unlock()
		if j.told != nil {
			j.told(0, err)
		}
		return
	}
	r.updateLocked(func(v *snapshot) {
		v.state, v.hidden, v.readable, v.layout = chunk.Sealed, false, true, r.disk.Layout
		v.Length, v.Partial, v.segment, v.at = j.length, j.sum, g, j.offset
	})
	w.length.Store(j.length)
	s.options.OnEvent(Event{Kind: Stored, Replica: r.describe(r.view.snapshot)})
	r.io.Unlock()
	if j.told != nil {
		j.told(j.length, nil)
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

// strikeLocked ends a replica's record. With sync the record can not come back.
// Without, it is in the page cache, and the room is free when the trash delay
// is over.
func (s *Store) strikeLocked(r *replica, sync bool) error {
	v := r.view.snapshot
	now := s.options.Clock.Now()
	rec := r.record(v)
	if err := s.strike(v.segment, rec, now, sync); err != nil {
		return err
	}
	if sync {
		r.volume.pack.shrink(v.segment, rec.bytes())
		return nil
	}
	s.trash.addRecord(v.segment, rec, now)
	return nil
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
