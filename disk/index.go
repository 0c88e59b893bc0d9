package disk

import (
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// index knows the replicas of a store by their chunk, and what a new one has to heed: the volume that was
// intended for it, and fences.
type index struct {
	mu struct {
		sync.RWMutex
		replicas shards
		// Hidden copies that take the place of a stale replica, which is in replicas, when they are whole.
		beside map[chunk.ID]*replica
		// Volumes that Do chose for chunks that may be created soon. Bounded by the workers' queues.
		intended map[chunk.ID][]*volume
		fences   fences
	}
}

// shards are replicas by the last byte of their id, as on the disk: the scrub goes from one shard to the next.
type shards [256]map[chunk.ID]*replica

// of is the shard that a chunk belongs to.
func (s *shards) of(id chunk.ID) map[chunk.ID]*replica { return s[id[len(id)-1]] }

func newIndex() *index {
	x := &index{}
	for last := range x.mu.replicas {
		x.mu.replicas[last] = make(map[chunk.ID]*replica)
	}
	x.mu.beside = make(map[chunk.ID]*replica)
	x.mu.intended = make(map[chunk.ID][]*volume)
	return x
}

func (x *index) lookup(id chunk.ID) *replica {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.mu.replicas.of(id)[id]
}

// lock finds a replica and locks it; the caller unlocks r.io. Errors: fault.NotFound; fault.Disk if its volume is
// out of service.
func (x *index) lock(op string, id chunk.ID) (*replica, error) { return lockFound(op, id, x.lookup) }

// lockAt is lock, but of a hidden copy beside a stale replica if that has the generation.
func (x *index) lockAt(op string, id chunk.ID, generation chunk.Generation) (*replica, error) {
	return lockFound(op, id, func(id chunk.ID) *replica {
		x.mu.RLock()
		defer x.mu.RUnlock()
		if copied := x.mu.beside[id]; copied != nil && copied.snapshot().Generation == generation {
			return copied
		}
		return x.mu.replicas.of(id)[id]
	})
}

func lockFound(op string, id chunk.ID, find func(chunk.ID) *replica) (*replica, error) {
	for {
		replica := find(id)
		if replica == nil {
			return nil, notFound(op, id)
		}
		if err := replica.lock(op); err != nil {
			return nil, err
		}
		if !replica.gone {
			return replica, nil
		}
		replica.io.Unlock()
		if find(id) == nil {
			return nil, notFound(op, id)
		} // else another one took its place
	}
}

// announce is Store.Announce; absent reports that there is nothing.
func (x *index) announce(id chunk.ID, absent func()) {
	if replica, err := x.lock("announce replica", id); err == nil {
		defer replica.io.Unlock()
		replica.announceLocked(absent)
		return
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	if found := x.mu.replicas.of(id)[id]; found == nil || found.volume.health.Out() {
		absent()
	} // else it came at this moment, and is reported as anything new
}

// all lists the replicas, hidden ones too.
func (x *index) all() []*replica {
	x.mu.RLock()
	defer x.mu.RUnlock()
	count := len(x.mu.beside)
	for _, shard := range x.mu.replicas {
		count += len(shard)
	}
	list := slices.AppendSeq(make([]*replica, 0, count), maps.Values(x.mu.beside))
	for _, shard := range x.mu.replicas {
		list = slices.AppendSeq(list, maps.Values(shard))
	}
	return list
}

// stale returns the replica that a hidden copy is to take the place of, if there is one.
func (x *index) stale(copied *replica) *replica {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.mu.beside[copied.id] != copied {
		return nil
	}
	return x.mu.replicas.of(copied.id)[copied.id]
}

// on lists the chunks with replicas on a volume whose ids end with a byte.
func (x *index) on(v *volume, last byte) (ids []chunk.ID) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for id, r := range x.mu.replicas[last] {
		if r.volume == v {
			ids = append(ids, id)
		}
	}
	return ids
}

// each lists the chunks with replicas on a volume, as they are when the caller comes to them. No lock is held
// meanwhile.
func (x *index) each(v *volume) iter.Seq[chunk.ID] {
	return func(yield func(chunk.ID) bool) {
		for last := range x.mu.replicas {
			for _, id := range x.on(v, byte(last)) {
				if !yield(id) {
					return
				}
			}
		}
	}
}

// empty tells whether a volume has no replicas but corrupt ones.
func (x *index) empty(chosen *volume) bool {
	for id := range x.each(chosen) {
		if r := x.lookup(id); r != nil && r.volume == chosen && r.snapshot().state != chunk.Corrupt {
			return false
		}
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, copied := range x.mu.beside {
		if copied.volume == chosen {
			return false
		}
	}
	return true
}

// reserve holds the place of a chunk that has no replica, so that none is created meanwhile. The caller removes what it
// returns, whose lock is held; nil: there is a replica.
func (x *index) reserve(id chunk.ID, v *volume) *replica {
	r := &replica{id: id, volume: v}
	r.io.Lock()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.mu.replicas.of(id)[id] != nil {
		return nil
	}
	x.mu.replicas.of(id)[id] = r
	v.replicas.Add(1)
	return r
}

// insert puts a new replica into the index; only a corrupt one may be there, one on a volume that is out of service, or
// a stale one beside a hidden copy, and no fence in its way.
func (x *index) insert(replica *replica) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	const op = "create replica"
	old, into := x.mu.replicas.of(replica.id)[replica.id], x.mu.replicas.of(replica.id)
	if old != nil {
		v := old.snapshot()
		switch {
		case v.state == chunk.Corrupt || old.volume.health.Out():
		case x.besideLocked(replica.id) == nil && replica.replaces(v, old.volume.draining.Load()):
			into = x.mu.beside
		default:
			return chunkError(fault.Exists, op, replica.id, "there is a replica, %s at generation %d, %d bytes",
				v.state, v.Generation, v.Length)
		}
	}
	// What was found on a disk is not new: a start, too, takes it up whatever was promised before.
	generation, isNew := replica.view.Generation, replica.view.state == 0
	if isNew && !x.mu.fences.allows(replica.id, generation) {
		return chunkError(fault.StaleGeneration, op, replica.id,
			"its generation is %d, a recovery that found nothing here was for %d",
			generation, x.mu.fences.generations[replica.id])
	}
	if old != nil && into[replica.id] == old {
		old.volume.replicas.Add(-1)
		if old.reportLost() { // before anything that is said of the new one
			old.volume.unindexed.Store(true)
		}
	}
	into[replica.id] = replica
	replica.volume.replicas.Add(1)
	return nil
}

// besideLocked is the hidden copy beside a stale replica; one on a volume that is out of service is none any more.
func (x *index) besideLocked(id chunk.ID) *replica {
	if copied := x.mu.beside[id]; copied != nil && !copied.volume.health.Out() {
		return copied
	}
	return nil
}

// removeLocked removes a replica from the index, if it is there; its io is held. A copy beside it takes its place.
func (x *index) removeLocked(old *replica) {
	old.gone = true
	x.mu.Lock()
	defer x.mu.Unlock()
	copied := x.mu.beside[old.id]
	switch {
	case copied == old:
	case x.mu.replicas.of(old.id)[old.id] != old:
		return
	case copied != nil:
		x.mu.replicas.of(old.id)[old.id] = copied
	default:
		delete(x.mu.replicas.of(old.id), old.id)
	}
	delete(x.mu.beside, old.id)
	old.volume.replicas.Add(-1)
}

// lose reports all replicas of a volume that is out of service as removed. They stay in the index, so that
// recoveries are not told that there never was one. None is reported behind one that took its place: that one
// came into the index later.
func (x *index) lose(v *volume) (count int) {
	v.reporting.Lock()   // what was being reported has been: from now on nothing is
	v.reporting.Unlock() //nolint:staticcheck // a barrier, not a critical section
	for _, r := range x.all() {
		if r.volume != v {
			continue
		}
		x.mu.RLock()
		if x.mu.replicas.of(r.id)[r.id] == r && r.reportLost() {
			count++
		}
		x.mu.RUnlock()
	}
	return count
}

// loseLocked drops a replica that nothing was acknowledged of.
func (x *index) loseLocked(r *replica) {
	x.removeLocked(r)
	if !r.view.hidden {
		r.reportLocked(Removed, "")
	}
}

// fence promises a recovery that nothing below its generation is created, unless there is a replica.
func (x *index) fence(id chunk.ID, generation chunk.Generation) (done bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.mu.replicas.of(id)[id] != nil {
		return false
	}
	x.mu.fences.raise(id, generation)
	return true
}

// intend notes that a chunk shall be created on a volume.
func (x *index) intend(id chunk.ID, v *volume) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.mu.intended[id] = append(x.mu.intended[id], v)
}

// intendedFor lists the volumes that were intended for a chunk.
func (x *index) intendedFor(id chunk.ID) []*volume {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return slices.Clone(x.mu.intended[id])
}

// intendNoMore withdraws one intention.
func (x *index) intendNoMore(id chunk.ID, v *volume) {
	x.mu.Lock()
	defer x.mu.Unlock()
	list := x.mu.intended[id]
	if i := slices.Index(list, v); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	x.mu.intended[id] = list
	if len(list) == 0 {
		delete(x.mu.intended, id)
	}
}
