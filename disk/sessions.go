package disk

import (
	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// sessions begins write sessions: on new replicas, and on those that are there.
type sessions struct {
	*env
	gate       *gate
	index      *index
	volumes    *volumes
	quarantine *quarantine
	unpacker   *unpacker
}

// create is Store.Create.
func (s *sessions) create(id chunk.ID, gen chunk.Generation, o CreateOptions) (*Writer, error) {
	if err := checkCreate(id, gen, o); err != nil {
		return nil, err
	}
	hint := min(o.SizeHint, o.ChunkSize)
	v, err := s.volumeFor(id, hint)
	if err != nil {
		return nil, err
	}
	if s.packable(o) {
		return s.createInMemory(v, id, gen, o)
	}
	r := &replica{id: id, volume: v}
	r.io.Lock()
	defer r.io.Unlock()
	r.view.Generation, r.view.hidden = gen, o.Hidden
	if err := s.index.insert(r); err != nil {
		return nil, err
	}
	if err := r.createFileLocked(chunkfile.Layout{ChunkSize: o.ChunkSize}, hint); err != nil {
		s.index.removeLocked(r)
		return nil, err
	}
	return s.startLocked(r), nil
}

func checkCreate(id chunk.ID, gen chunk.Generation, o CreateOptions) error {
	if err := chunkfile.CheckSize(o.ChunkSize); err != nil {
		return err
	}
	if gen == 0 || id.IsZero() || o.SizeHint < 0 {
		return chunkError(fault.Invalid, "create replica", id, "generation %d, size hint %d", gen, o.SizeHint)
	}
	return nil
}

// volumeFor is the volume that Do chose for the chunk, if it did, or a new
// choice.
func (s *sessions) volumeFor(id chunk.ID, hint int64) (*volume, error) {
	chosen, err := s.volumes.choose(id, hint, s.volumes.space)
	if err != nil {
		return nil, err
	}
	for _, v := range s.index.intendedFor(id) {
		free, err := s.volumes.rememberedSpace(v) // choose has just asked
		if ok, _ := v.healthy(); ok && err == nil && free-s.options.ReserveBytes >= max(hint, 1) {
			return v, nil
		}
	}
	return chosen, nil
}

// packable tells whether a new replica may become a record.
func (s *sessions) packable(o CreateOptions) bool {
	return o.SizeHint > 0 && o.SizeHint <= s.options.PackBytesMax
}

// createSmall is Store.CreateSmall.
func (s *sessions) createSmall(id chunk.ID, gen chunk.Generation, o CreateOptions) (w *Writer, ok bool, err error) {
	if !s.packable(o) || checkCreate(id, gen, o) != nil { // Create tells what is wrong
		return nil, false, nil
	}
	v, _ := s.volumes.choose(id, o.SizeHint, s.volumes.rememberedSpace) // Create tells the error, if it finds no better
	if v == nil {
		return nil, false, nil
	}
	w, err = s.createInMemory(v, id, gen, o)
	return w, true, err
}

func (s *sessions) createInMemory(v *volume, id chunk.ID, gen chunk.Generation, o CreateOptions) (*Writer, error) {
	r := &replica{id: id, volume: v}
	r.io.Lock()
	defer r.io.Unlock()
	r.view.Generation, r.view.hidden = gen, o.Hidden
	r.view.place = place{kind: inMemory, memory: &memory{hint: o.SizeHint}}
	r.disk.Layout = chunkfile.Layout{ChunkSize: o.ChunkSize}
	if err := s.index.insert(r); err != nil {
		return nil, err
	}
	return s.startLocked(r), nil
}

// takeOver is what Reopen and Resume ask for.
type takeOver struct {
	previous   chunk.Generation // lowest that the caller accepts
	generation chunk.Generation // of the new session
	length     int64            // where it begins
	cut        bool             // the replica may be longer
}

// takeOver is Store.Reopen and Store.Resume.
func (s *sessions) takeOver(op string, id chunk.ID, want takeOver) (*Writer, error) {
	r, err := s.index.lock(op, id)
	if err != nil {
		return nil, err
	}
	defer r.io.Unlock()
	if err := r.usableLocked(op); err != nil {
		return nil, err
	}
	v, gen := r.view.snapshot, want.generation
	switch {
	case v.Generation < want.previous || v.Generation > gen ||
		(v.Generation == gen && (v.state == chunk.Sealed || want.length < v.Length)):
		// At its own generation a replica is never cut: the request may be a
		// late copy of one that was served long ago.
		return nil, chunkError(fault.StaleGeneration, op, id, "the replica is %s at generation %d, wanted one from %d and below %d",
			v.state, v.Generation, want.previous, gen)
	case want.length < 0 || want.length > v.Length || (want.length < v.Length && !want.cut):
		return nil, chunkError(fault.Invalid, op, id, "wanted at length %d, the replica has %d verified bytes", want.length, v.Length)
	}
	if err = s.prepareLocked(r, op, gen, want.length); err == nil {
		err = r.renameLocked(op, chunk.Open, gen)
	}
	if err != nil {
		r.endSessionLocked()
		return nil, err
	}
	return s.startLocked(r), nil
}

// startLocked begins the session of a new Writer on a replica whose tail is
// ready.
func (s *sessions) startLocked(r *replica) *Writer {
	r.session++
	if r.tail != nil {
		r.tail.SkipWriteOut(r.view.Length)
	}
	w := &Writer{sessions: s, replica: r, worker: r.volume.workerOf(r.id), session: r.session}
	w.length.Store(r.view.Length)
	if r.view.hidden {
		return w
	}
	r.updateLocked(func(v *snapshot) { v.state = chunk.Open })
	if r.view.place.kind != inMemory { // else it is reported when it is sealed, or gets a file
		r.reportLocked(Stored, "")
	}
	return w
}

// prepareLocked fences the Writer before, verifies the block in which the
// replica shall end, cuts the replica to length if it is longer, and leaves
// r.tail ready to append. gen is who asks; a promise to a higher generation
// (BeginRecovery) stands in its way. A record, or a replica in memory, gets a
// file first. After an error the caller ends the session.
func (s *sessions) prepareLocked(r *replica, op string, gen chunk.Generation, length int64) error {
	if err := s.unpacker.unpackLocked(r); err != nil {
		return err
	}
	f, err := r.openLocked(op, true)
	if err != nil {
		return err
	}
	if err := s.quarantine.loadLocked(r, f); err != nil {
		s.files.Release(f)
		return err
	}
	if promised := r.disk.Promised(); gen < promised {
		s.files.Release(f)
		return chunkError(fault.StaleGeneration, op, r.id, "a recovery was promised generation %d, this is %d", promised, gen)
	}
	r.endSessionLocked()
	r.tail, r.file = chunkfile.NewAppender(f.File, r.id, &r.disk), f
	partial, err := r.tail.VerifyEnd(length, r.view.End)
	if fault.KindOf(err) == fault.CorruptData {
		s.quarantine.putLocked(r, err.Error())
		return err
	}
	if err != nil {
		return r.failLocked(op, err)
	}
	if length == r.view.Length {
		// A session that was cut off between an append and its sync may not
		// have left a slot for this length.
		if err := r.tail.Flush(r.view.End); err != nil {
			return r.failLocked(op, err)
		}
		return nil
	}
	if r.view.state == chunk.Sealed {
		// The name promises the old length: it goes first, durably.
		if err := r.renameLocked(op, chunk.Recovered, r.view.Generation); err != nil {
			return err
		}
	}
	return r.cutLocked(op, length, partial)
}

// do is Store.Do.
func (s *sessions) do(id chunk.ID, f func()) error {
	const op = "queue disk work"
	if r := s.index.lookup(id); r != nil {
		return s.gate.enqueue(r.volume.workerOf(id), task{f: f}, op, id)
	}
	v, err := s.volumes.choose(id, 0, s.volumes.space)
	if err != nil { // f may only want to read; a Create in it gets the error
		v = s.volumes.list[0]
	}
	s.index.intend(id, v)
	run := func() {
		defer s.index.intendNoMore(id, v)
		f()
	}
	err = s.gate.enqueue(v.workerOf(id), task{f: run}, op, id)
	if err != nil {
		s.index.intendNoMore(id, v)
	}
	return err
}
