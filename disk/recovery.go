package disk

import (
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// recovery brings the replicas of a chunk to one length, in two halves.
type recovery struct {
	sessions *sessions
}

// begin is Store.BeginRecovery.
func (c *recovery) begin(id chunk.ID, newGen chunk.Generation) (_ chunk.Replica, wasRestarted bool, err error) {
	const op = "begin chunk recovery"
	sessions := c.sessions
	replica, err := sessions.index.lock(op, id)
	for ; err != nil; replica, err = sessions.index.lock(op, id) {
		if fault.KindOf(err) != fault.NotFound {
			return chunk.Replica{}, false, err
		}
		if err := c.coming(op, id); err != nil {
			return chunk.Replica{}, false, err
		}
		if sessions.index.fence(id, newGen) {
			return chunk.Replica{}, false, c.absent(op, id, err)
		} // else it has just been created, or is leaving the index
	}
	defer replica.io.Unlock()
	if err := replica.usableLocked(op); err != nil {
		return chunk.Replica{}, false, err
	}
	seen := replica.view.snapshot
	if seen.Generation >= newGen {
		return chunk.Replica{}, false, recoveryIsStale(op, replica, newGen)
	}
	if err = sessions.prepareLocked(replica, op, newGen, seen.Length); err == nil {
		replica.disk.Promise(newGen)
		err = replica.syncLocked(true)
	}
	replica.endSessionLocked()
	if err != nil {
		return chunk.Replica{}, false, err
	}
	return replica.describe(seen), seen.state == chunk.Recovered, nil
}

// absent is the answer when no replica is in the index. With a volume that was never listed, or that was removed, that
// does not mean that there is none: the namenode must not take acknowledged bytes for ones that nobody wrote.
func (c *recovery) absent(op string, id chunk.ID, notFound error) error {
	if err := c.coming(op, id); err != nil {
		return err
	}
	for _, v := range c.sessions.volumes.all() {
		if err := v.outError(op, id); err != nil && v.unindexed.Load() {
			return err
		}
	}
	if away := c.sessions.volumes.away.Load(); away > 0 && id.UnixMillis() <= away+clocksApartMax.Milliseconds() {
		return &fault.Error{Kind: fault.Disk, Op: op, Chunk: id.String(), Hint: "see `ww admin disk list`",
			Reason: "it may have been on a disk that was removed from this datanode"}
	}
	return notFound
}

// coming refuses to say that there is no replica while a volume comes that may have one.
func (c *recovery) coming(op string, id chunk.ID) error {
	v := c.sessions.volumes.coming.Load()
	if v == nil {
		return nil
	}
	return &fault.Error{Kind: fault.Disk, Op: op, Path: v.directory, Chunk: id.String(), Hint: "try again",
		Reason: "the disk is being added, and it is not known yet what is on it"}
}

// finish is Store.FinishRecovery.
func (c *recovery) finish(id chunk.ID, newGen chunk.Generation, length int64) error {
	const op = "finish chunk recovery"
	replica, err := c.sessions.index.lock(op, id)
	if err != nil {
		return err
	}
	defer replica.io.Unlock()
	if err := replica.usableLocked(op); err != nil {
		return err
	}
	seen := replica.view.snapshot
	switch {
	case seen.state == chunk.Sealed && seen.Generation == newGen && seen.Length == length:
		return nil
	case seen.Generation >= newGen:
		return recoveryIsStale(op, replica, newGen)
	case length < 0 || length > seen.Length:
		return chunkError(fault.Invalid, op, id, "length %d was agreed, the replica has %d verified bytes",
			length, seen.Length)
	}
	if err := c.promisedLocked(replica, op, newGen); err != nil {
		return err
	}
	if err = c.sessions.prepareLocked(replica, op, newGen, length); err == nil {
		err = replica.sealLocked(newGen)
	}
	replica.endSessionLocked()
	return err
}

func recoveryIsStale(op string, r *replica, newGen chunk.Generation) error {
	return chunkError(fault.StaleGeneration, op, r.id, "the replica is %s at generation %d, the recovery is for %d",
		r.view.state, r.view.Generation, newGen)
}

// promisedLocked checks that exactly newGen was promised last, before anything is changed.
func (c *recovery) promisedLocked(replica *replica, op string, newGen chunk.Generation) error {
	if replica.view.place.kind != inFile { // a promise would have given it a file
		return chunkError(fault.StaleGeneration, op, replica.id, "no recovery was begun, this one is for generation %d",
			newGen)
	}
	f, err := replica.openLocked(op, false)
	if err != nil {
		return err
	}
	defer c.sessions.files.Release(f)
	if err := c.sessions.quarantine.loadLocked(replica, f); err != nil {
		return err
	}
	if promised := replica.disk.Promised(); promised != newGen {
		return chunkError(fault.StaleGeneration, op, replica.id,
			"generation %d was promised to a recovery, this one is %d", promised, newGen)
	}
	return nil
}
