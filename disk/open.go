package disk

import (
	"errors"
	"io/fs"
	"os"
	"slices"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// Create makes an empty open replica and its Writer. Nothing is durable before
// the first sync. A corrupt replica in quarantine does not stand in the way.
// Does file I/O: call it from Do. Errors: fault.Exists, fault.StaleGeneration (a
// recovery above gen found no replica here), fault.Invalid, fault.NoSpace (also
// when only the reserve is left), fault.Disk.
func (s *Store) Create(id chunk.ID, gen chunk.Generation, o CreateOptions) (*Writer, error) {
	if err := checkCreate(id, gen, o); err != nil {
		return nil, err
	}
	hint := min(o.SizeHint, o.ChunkSize)
	v, err := s.volumeFor(id, hint)
	if err != nil {
		return nil, err
	}
	if s.packable(o) {
		return s.createSmall(v, id, gen, o)
	}
	r := &replica{id: id, volume: v}
	r.io.Lock()
	defer r.io.Unlock()
	r.view.Generation, r.view.hidden = gen, o.Hidden
	if err := s.insert(r); err != nil {
		return nil, err
	}
	if err := s.createLocked(r, chunkfile.Layout{ChunkSize: o.ChunkSize}, hint); err != nil {
		r.gone = true
		s.drop(r)
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
func (s *Store) volumeFor(id chunk.ID, hint int64) (*volume, error) {
	placed, err := s.place(id, hint, s.space)
	if err != nil {
		return nil, err
	}
	s.index.RLock()
	intended := slices.Clone(s.index.placing[id])
	s.index.RUnlock()
	for _, v := range intended {
		free, err := s.rememberedSpace(v) // place has just asked
		if ok, _ := v.healthy(); ok && err == nil && free-s.options.ReserveBytes >= max(hint, 1) {
			return v, nil
		}
	}
	return placed, nil
}

// createLocked makes the file: header and a first sync slot that says length 0.
func (s *Store) createLocked(r *replica, l chunkfile.Layout, hint int64) error {
	const op = "create replica"
	name := r.path()
	inner, err := s.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return chunkError(fault.Exists, op, r.id, "the file %s is there already", name)
	}
	if err != nil {
		return r.blameLocked(op, err)
	}
	if hint < preallocateMin {
		hint = 0
	}
	t, err := chunkfile.Create(inner, chunkfile.Header{ID: r.id, Layout: l}, r.view.Generation, hint, &r.disk)
	if err != nil {
		failure := r.blameLocked(op, err)
		// What cannot be removed is found by the next start, which drops a
		// replica that was never synced.
		return errors.Join(failure, inner.Close(), s.fs.Remove(name))
	}
	r.tail, r.file, r.named = t, s.files.Add(&r.Owner, inner, true), false
	r.updateLocked(func(v *snapshot) { v.readable, v.layout = true, l })
	return nil
}

// Reopen makes a sealed or recovered replica open again, at generation gen, to
// append at length, which must be its length. previous is the lowest generation
// that the caller accepts; a replica that an earlier attempt opened under a
// generation up to gen is taken over. The bytes of the last block are verified
// before anything is built on them. The new state is durable on return.
//
// Does file I/O: call it from Do. Errors: fault.NotFound, fault.StaleGeneration,
// fault.Invalid (length), fault.CorruptData (quarantined), fault.Disk.
func (s *Store) Reopen(id chunk.ID, previous, gen chunk.Generation, length int64) (*Writer, error) {
	return s.takeOver("reopen replica", id, previous, gen, length, false)
}

// Resume goes on writing a replica after its pipeline broke: the bytes beyond
// length are cut, the generation becomes gen, and the Writer before, if any, is
// fenced. previous is the lowest generation that the caller accepts. A replica
// that was sealed when the pipeline broke is opened again. The new state and
// the cut are durable on return; bytes that were not synced stay unsynced.
//
// Does file I/O: call it from Do. Errors: as Reopen; fault.Invalid if the
// replica is shorter than length.
func (s *Store) Resume(id chunk.ID, previous, gen chunk.Generation, length int64) (*Writer, error) {
	return s.takeOver("resume replica", id, previous, gen, length, true)
}

func (s *Store) takeOver(op string, id chunk.ID, previous, gen chunk.Generation, length int64, cut bool) (*Writer, error) {
	r := s.lookup(id)
	if r == nil {
		return nil, notFound(op, id)
	}
	r.io.Lock()
	defer r.io.Unlock()
	if err := r.usableLocked(op); err != nil {
		return nil, err
	}
	v := r.view.snapshot
	switch {
	case v.Generation < previous || v.Generation > gen || (v.Generation == gen && (v.state == chunk.Sealed || length < v.Length)):
		// At its own generation a replica is never cut: the request may be a
		// late copy of one that was served long ago.
		return nil, chunkError(fault.StaleGeneration, op, id, "the replica is %s at generation %d, wanted one from %d and below %d", v.state, v.Generation, previous, gen)
	case length < 0 || length > v.Length || (length < v.Length && !cut):
		return nil, chunkError(fault.Invalid, op, id, "wanted at length %d, the replica has %d verified bytes", length, v.Length)
	}
	if err := s.prepareLocked(r, op, gen, length); err != nil {
		s.endSessionLocked(r)
		return nil, err
	}
	if err := s.renameLocked(r, op, chunk.Open, gen); err != nil {
		s.endSessionLocked(r)
		return nil, err
	}
	return s.startLocked(r), nil
}

// usableLocked tells whether the replica can be worked on at all.
func (r *replica) usableLocked(op string) error {
	switch {
	case r.gone || r.view.hidden:
		return notFound(op, r.id)
	case r.view.state == chunk.Corrupt:
		return chunkError(fault.CorruptData, op, r.id, "the replica is in quarantine")
	}
	return r.failed
}

// startLocked begins the session of a new Writer on a replica whose tail is
// ready.
func (s *Store) startLocked(r *replica) *Writer {
	r.session++
	if r.tail != nil {
		r.tail.SkipWriteOut(r.view.Length)
	}
	w := &Writer{store: s, replica: r, worker: r.volume.workerOf(r.id), session: r.session}
	w.length.Store(r.view.Length)
	if r.view.hidden {
		return w
	}
	r.updateLocked(func(v *snapshot) { v.state = chunk.Open })
	if r.small != nil {
		return w // told when it is sealed, or gets a file
	}
	s.options.OnEvent(Event{Kind: Stored, Replica: r.describe(r.view.snapshot)})
	return w
}

// prepareLocked fences the Writer before, verifies the block in which the
// replica shall end, cuts the replica to length if it is longer, and leaves
// r.tail ready to append. gen is who asks; a promise to a higher generation
// (BeginRecovery) stands in its way. A record, or a replica in memory, gets a
// file first.
func (s *Store) prepareLocked(r *replica, op string, gen chunk.Generation, length int64) error {
	if err := s.unpackLocked(r); err != nil {
		return err
	}
	f, err := r.openLocked(op, true)
	if err != nil {
		return err
	}
	if err := s.loadOrQuarantineLocked(r, f); err != nil {
		s.files.Release(f)
		return err
	}
	if gen < r.disk.Promised() {
		s.files.Release(f)
		return chunkError(fault.StaleGeneration, op, r.id, "a recovery was promised generation %d, this is %d", r.disk.Promised(), gen)
	}
	s.endSessionLocked(r)
	r.tail, r.file = chunkfile.NewAppender(f.File, r.id, &r.disk), f
	partial, err := r.tail.VerifyEnd(length, r.view.End)
	if fault.KindOf(err) == fault.CorruptData {
		s.quarantineLocked(r, err.Error())
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
		if err := s.renameLocked(r, op, chunk.Recovered, r.view.Generation); err != nil {
			return err
		}
	}
	return r.cutLocked(op, length, partial)
}

// cutLocked shortens the replica's file to length, whose partial block has the
// given sum, so that no crash brings the rest back:
//
//  1. a sync slot for the new length, fdatasync: from here on recovery goes
//     by it, even when length is less than what was synced before;
//  2. no more sums of blocks that end behind it, truncation, fdatasync: the bytes
//     behind do not come back, and zeros written ahead later are not taken for
//     them.
//
// A crash in between leaves a replica of at least length verified bytes.
func (r *replica) cutLocked(op string, length int64, partial uint64) error {
	r.updateLocked(func(v *snapshot) { v.Length, v.Partial, v.cuts = length, partial, v.cuts+1 })
	r.disk.Outdate()
	if err := r.syncLocked(false); err != nil {
		return err
	}
	if err := r.tail.Cut(length); err != nil {
		return r.failLocked(op, err)
	}
	return nil
}
