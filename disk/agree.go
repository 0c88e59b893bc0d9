package disk

import (
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// BeginRecovery is the first half of bringing the replicas of a chunk to one
// length: it fences the writer, syncs what there is, and promises, durably,
// that nobody below newGen writes the replica any more. It returns the replica
// as it is, with its verified length; wasRestarted tells that its node
// restarted while it was open, so that bytes that were only flushed may be
// missing. The same newGen may come again. Does file I/O.
//
// Without a replica it promises that none below newGen is created; see fences.
//
// Errors: fault.NotFound; fault.StaleGeneration if the replica is at newGen or
// above, or promised a higher one; fault.CorruptData; fault.Disk.
func (s *Store) BeginRecovery(id chunk.ID, newGen chunk.Generation) (described chunk.Replica, wasRestarted bool, err error) {
	const op = "begin chunk recovery"
	var r *replica
	for {
		if r = s.lookup(id); r == nil {
			if s.fence(id, newGen) {
				return chunk.Replica{}, false, notFound(op, id)
			}
			continue // it has just been created
		}
		if r.io.Lock(); !r.gone {
			break
		}
		r.io.Unlock() // it has left the index, too
	}
	defer r.io.Unlock()
	if err := r.usableLocked(op); err != nil {
		return chunk.Replica{}, false, err
	}
	v := r.view.snapshot
	if v.Generation >= newGen {
		return chunk.Replica{}, false, chunkError(fault.StaleGeneration, op, id, "the replica is %s at generation %d, the recovery is for %d", v.state, v.Generation, newGen)
	}
	if err := s.prepareLocked(r, op, newGen, v.Length); err != nil {
		s.endSessionLocked(r)
		return chunk.Replica{}, false, err
	}
	r.disk.Promise(newGen)
	err = r.syncLocked(true)
	s.endSessionLocked(r)
	if err != nil {
		return chunk.Replica{}, false, err
	}
	return r.describe(v), v.state == chunk.Recovered, nil
}

// FinishRecovery is the second half: it cuts the replica to the length that was
// agreed, at most its own, and seals it at newGen, durably. BeginRecovery must
// have promised newGen, possibly before a restart. The same call again does
// nothing. Does file I/O.
//
// Errors: fault.NotFound, fault.StaleGeneration, fault.Invalid (length),
// fault.CorruptData, fault.Disk.
func (s *Store) FinishRecovery(id chunk.ID, newGen chunk.Generation, length int64) error {
	const op = "finish chunk recovery"
	r := s.lookup(id)
	if r == nil {
		return notFound(op, id)
	}
	r.io.Lock()
	defer r.io.Unlock()
	if err := r.usableLocked(op); err != nil {
		return err
	}
	v := r.view.snapshot
	switch {
	case v.state == chunk.Sealed && v.Generation == newGen && v.Length == length:
		return nil
	case v.Generation >= newGen:
		return chunkError(fault.StaleGeneration, op, id, "the replica is %s at generation %d, the recovery is for %d", v.state, v.Generation, newGen)
	case length < 0 || length > v.Length:
		return chunkError(fault.Invalid, op, id, "length %d was agreed, the replica has %d verified bytes", length, v.Length)
	}
	if err := s.promisedLocked(r, op, newGen); err != nil {
		return err
	}
	err := s.prepareLocked(r, op, newGen, length)
	if err == nil {
		err = s.sealLocked(r, newGen)
	}
	s.endSessionLocked(r)
	return err
}

// promisedLocked checks that exactly newGen was promised last, before anything
// is changed.
func (s *Store) promisedLocked(r *replica, op string, newGen chunk.Generation) error {
	if r.small != nil || r.view.segment != nil { // a promise would have given it a file
		return chunkError(fault.StaleGeneration, op, r.id, "no recovery was begun, this one is for generation %d", newGen)
	}
	f, err := r.openLocked(op, false)
	if err != nil {
		return err
	}
	defer s.files.Release(f)
	if err := s.loadOrQuarantineLocked(r, f); err != nil {
		return err
	}
	if r.disk.Promised() != newGen {
		return chunkError(fault.StaleGeneration, op, r.id, "generation %d was promised to a recovery, this one is %d", r.disk.Promised(), newGen)
	}
	return nil
}
