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
	trash      *trash
	unpacker   *unpacker
}

// create is Store.Create.
func (s *sessions) create(id chunk.ID, gen chunk.Generation, options CreateOptions) (*Writer, error) {
	if err := checkCreate(id, gen, options); err != nil {
		return nil, err
	}
	hint := min(options.SizeHint, options.ChunkSize)
	v, err := s.volumeFor(id, hint)
	if err != nil {
		return nil, err
	}
	// One beside a stale replica is never packed: a packer must not wait for another replica's lock.
	if s.packable(options) && (!options.Hidden || s.index.lookup(id) == nil) {
		return s.createInMemory(v, id, gen, options)
	}
	replica := &replica{id: id, volume: v}
	replica.io.Lock()
	defer replica.io.Unlock()
	replica.view.Generation, replica.view.hidden = gen, options.Hidden
	if err := s.index.insert(replica); err != nil {
		return nil, err
	}
	if err := replica.createFileLocked(chunkfile.Layout{ChunkSize: options.ChunkSize}, hint); err != nil {
		s.index.removeLocked(replica)
		return nil, err
	}
	w := s.startLocked(replica)
	if w.background = options.Background; w.background {
		w.worker = replica.volume.nextCopyWorker()
	}
	return w, nil
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

// volumeFor is the volume that Do chose for the chunk, if it did, or a new choice.
func (s *sessions) volumeFor(id chunk.ID, hint int64) (*volume, error) {
	chosen, err := s.volumes.choose(id, hint, s.volumes.space)
	if err != nil {
		return nil, err
	}
	for _, v := range s.index.intendedFor(id) {
		free, err := s.volumes.rememberedSpace(v) // choose has just asked
		if v.placeable() && err == nil && free-s.options.ReserveBytes >= max(hint, 1) {
			return v, nil
		}
	}
	return chosen, nil
}

// packable reports whether a new replica may become a record.
func (s *sessions) packable(o CreateOptions) bool {
	return o.SizeHint > 0 && o.SizeHint <= s.options.PackBytesMax
}

// createSmall is Store.CreateSmall.
func (s *sessions) createSmall(id chunk.ID, gen chunk.Generation, o CreateOptions) (w *Writer, ok bool, err error) {
	if !s.packable(o) || checkCreate(id, gen, o) != nil {
		return nil, false, nil //nolint:nilerr // Create returns the error
	}
	v, _ := s.volumes.choose(id, o.SizeHint, s.volumes.rememberedSpace) // Create returns the error
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
	replica, err := s.index.lock(op, id)
	if err != nil {
		return nil, err
	}
	defer replica.io.Unlock()
	if err := replica.usableLocked(op); err != nil {
		return nil, err
	}
	seen, gen := replica.view.snapshot, want.generation
	switch {
	case seen.Generation < want.previous || seen.Generation > gen ||
		(seen.Generation == gen && (seen.state == chunk.Sealed || want.length < seen.Length)):
		// At its own generation a replica is never cut: the request may be a late copy of one that was served long ago.
		return nil, chunkError(fault.StaleGeneration, op, id,
			"the replica is %s at generation %d, wanted one from %d and below %d",
			seen.state, seen.Generation, want.previous, gen)
	case want.length < 0 || want.length > seen.Length || (want.length < seen.Length && !want.cut):
		return nil, chunkError(fault.Invalid, op, id, "wanted at length %d, the replica has %d verified bytes",
			want.length, seen.Length)
	}
	if err = s.prepareLocked(replica, op, gen, want.length); err == nil {
		err = replica.renameLocked(op, chunk.Open, gen)
	}
	if err != nil {
		replica.endSessionLocked()
		return nil, err
	}
	return s.startLocked(replica), nil
}

// showLocked makes a hidden replica what readers find. The stale one whose place it takes goes to the trash after that:
// from show on, which is durable, a start that finds both takes the newer.
func (s *sessions) showLocked(replica *replica, op string, show func() error) error {
	old := s.index.stale(replica)
	if old == nil {
		return show()
	}
	if err := old.lock(op); err != nil {
		return err
	}
	defer old.io.Unlock()
	if old.gone {
		return show()
	}
	if generation := max(old.view.Generation, old.disk.Promised()); generation > replica.view.Generation {
		return chunkError(fault.StaleGeneration, op, replica.id,
			"the replica in whose place it was to come went on to generation %d, or promised that", generation)
	}
	if err := show(); err != nil {
		return err
	}
	if err := s.trash.takeLocked(old); err != nil {
		old.endSessionLocked()
		s.index.removeLocked(old)
	}
	return nil
}

// startLocked begins the session of a new Writer on a replica whose tail is ready.
func (s *sessions) startLocked(replica *replica) *Writer {
	replica.session++
	if replica.tail != nil {
		replica.tail.SkipWriteOut(replica.view.Length)
	}
	w := &Writer{sessions: s, replica: replica, worker: replica.volume.workerOf(replica.id), session: replica.session}
	w.length.Store(replica.view.Length)
	if replica.view.hidden {
		return w
	}
	replica.updateLocked(func(v *snapshot) { v.state = chunk.Open })
	if replica.view.place.kind != inMemory { // else it is reported when it is sealed, or gets a file
		replica.reportLocked(Stored, "")
	}
	return w
}

// prepareLocked fences the Writer before, verifies the block in which the replica shall end, cuts the replica to length
// if it is longer, and leaves r.tail ready to append. gen is who asks; a promise to a higher generation (BeginRecovery)
// stands in its way. A record, or a replica in memory, gets a file first. After an error the caller ends the session.
func (s *sessions) prepareLocked(replica *replica, op string, gen chunk.Generation, length int64) error {
	if err := s.unpacker.unpackLocked(replica); err != nil {
		return err
	}
	file, err := replica.openLocked(op, true)
	if err != nil {
		return err
	}
	if err := s.quarantine.loadLocked(replica, file); err != nil {
		s.files.Release(file)
		return err
	}
	if promised := replica.disk.Promised(); gen < promised {
		s.files.Release(file)
		return chunkError(fault.StaleGeneration, op, replica.id, "a recovery was promised generation %d, this is %d",
			promised, gen)
	}
	replica.endSessionLocked()
	replica.tail, replica.file = chunkfile.NewAppender(file.File, replica.id, &replica.disk), file
	partial, err := replica.tail.VerifyEnd(length, replica.view.End)
	if fault.KindOf(err) == fault.CorruptData {
		s.quarantine.putLocked(replica, err.Error())
		return err
	}
	if err != nil {
		return replica.failLocked(op, err)
	}
	if length == replica.view.Length {
		// A session that was cut off between an append and its sync may not have left a slot for this length.
		if err := replica.tail.Flush(replica.view.End); err != nil {
			return replica.failLocked(op, err)
		}
		return nil
	}
	if replica.view.state == chunk.Sealed {
		// The name promises the old length: it goes first, durably.
		if err := replica.renameLocked(op, chunk.Recovered, replica.view.Generation); err != nil {
			return err
		}
	}
	return replica.cutLocked(op, length, partial)
}

// do is Store.Do.
func (s *sessions) do(id chunk.ID, work func()) error {
	const op = "queue disk work"
	if r := s.index.lookup(id); r != nil && !r.volume.health.Out() {
		return s.gate.enqueue(r.volume.workerOf(id), task{f: work}, op, id)
	}
	volume, err := s.volumes.choose(id, 0, s.volumes.space)
	if err != nil { // f may only want to read; a Create in it gets the error
		volume = s.volumes.any()
	}
	s.index.intend(id, volume)
	run := func() {
		defer s.index.intendNoMore(id, volume)
		work()
	}
	err = s.gate.enqueue(volume.workerOf(id), task{f: run}, op, id)
	if err != nil {
		s.index.intendNoMore(id, volume)
	}
	return err
}
