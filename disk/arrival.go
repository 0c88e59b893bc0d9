package disk

import (
	"errors"
	"path"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
)

// arrival is a volume that is being added to a store that runs, in the order of a start: it is opened, read, written
// down, taken into the index, and only then used, by packer, compactor and scrubber too. While it comes
// (volumes.coming) recoveries are not told that there is no replica: there may be one on it.
type arrival struct {
	*changes
	*volume
	found listing
	// admitted: it is one of the volumes, and what befalls it is told.
	admitted atomic.Bool
	tell     func()
}

func (c *changes) arrive(directory string) *arrival {
	a := &arrival{changes: c}
	a.tell = sync.OnceFunc(func() { c.lost(a.volume) })
	a.volume = newVolume(c.Store.env, directory, func(*volume) {
		if a.admitted.Load() {
			a.tell()
		}
	})
	a.unindexed.Store(true)
	named := func(d string) bool { return path.Clean(d) == directory }
	a.added = !slices.ContainsFunc(c.Store.options.Directories, named)
	return a
}

// attempt runs what asks the disk of a volume that is not in service yet. When a disk that hangs goes out of service,
// which the monitor sees to, it is not waited for any more. After an error the volume is given up.
func (a *arrival) attempt(op string, work func() error) error {
	done, gone := make(chan error), a.health.Gone()
	go func() { // it outlives this call only when the disk hangs
		err := work()
		if err != nil || a.health.Out() {
			err = errors.Join(err, a.outError(op, chunk.ID{}), a.discard())
		}
		select {
		case done <- err:
		case <-gone:
		}
	}()
	select {
	case err := <-done:
		return err
	case <-gone:
		return a.outError(op, chunk.ID{})
	}
}

// discard gives up a volume that is not in service.
func (a *arrival) discard() error {
	a.trash.forget(a.volume)
	if a.packs != nil {
		a.packs.Retire()
	}
	return a.close()
}

// prepare opens and reads the volume, and writes its own identity. That comes before those of its siblings: a volume
// that the others do not know may be added again, one that they know and that has no file would be missing.
func (a *arrival) prepare(op string, instead *volumeRecord) error {
	if err := a.checkPlace(op, a.volume, instead); err != nil {
		return err
	}
	if err := a.open(); err != nil {
		return err
	}
	if err := a.checkVolume(op, a.volume, instead); err != nil {
		return err
	}
	a.equip(a.volume)
	a.trash.hold(a.volume)
	if err := a.trash.load(a.volume); err != nil {
		return err
	}
	if err := a.found.read(a.volume); err != nil {
		return err
	}
	identity, err := a.nextIdentity(op)
	if err != nil {
		return err
	}
	if err := writeIdentity(a.volume.fs, a.path(identityName), identity); err != nil {
		return err
	}
	a.identity = identity
	return nil
}

// nextIdentity gives the volume its id, and is what its file shall say.
func (a *arrival) nextIdentity(op string) (next volumeIdentity, err error) {
	member := a.membership
	member.persist.Lock()
	defer member.persist.Unlock()
	if member.persist.closed {
		return next, closedError(op)
	}
	if a.id = a.identity.VolumeID; a.id == "" {
		if a.id, err = member.newID(); err != nil {
			return next, err
		}
	}
	now := member.identity()
	now.HighestEpoch = max(now.HighestEpoch, a.identity.HighestEpoch)
	now.HighestTxid = max(now.HighestTxid, a.identity.HighestTxid)
	member.persist.change++
	return member.listedLocked(a.volume, a.withRecordLocked()).with(now), nil
}

// withRecordLocked is the list of volumes with this one; membership.persist is held.
func (a *arrival) withRecordLocked() []volumeRecord {
	others := slices.DeleteFunc(slices.Clone(a.membership.persist.records), func(r volumeRecord) bool {
		return r.VolumeID == a.id
	})
	return append(others, a.record())
}

// admit has the volume written down by its siblings too.
func (a *arrival) admit(op string) error {
	member := a.membership
	member.persist.Lock()
	defer member.persist.Unlock()
	if member.persist.closed {
		return closedError(op)
	}
	member.raise(a.identity)
	all := append(slices.Clone(a.volumes.all()), a.volume)
	return member.recordLocked(all, a.withRecordLocked())
}

// serve takes the volume into service. What it had is in the index before anything looks for strays, compacts or
// creates there. After an error it is one of the volumes, out of service, and its files are as they were or set aside.
func (a *arrival) serve(op string) error {
	(&roll{fs: a.Store.env.fs}).note(a.volume)
	adopted, gone := make(chan error), a.health.Gone()
	a.gate.Lock()
	if a.gate.closed {
		a.gate.Unlock()
		return errors.Join(closedError(op), a.discard())
	}
	a.staff(a.volume)
	a.group.Go(func() {
		err := a.adopt(op)
		select {
		case adopted <- err:
		case <-gone:
		}
	})
	a.gate.Unlock()
	var err error
	select {
	case err = <-adopted:
	case <-gone:
		err = a.outError(op, chunk.ID{})
	}
	a.gate.Lock()
	defer a.gate.Unlock()
	if a.gate.closed {
		return closedError(op) // volumes.ever has it
	}
	if err != nil {
		a.health.Condemn(datanode.VolumeFailed, "what is on it could not be read: "+err.Error())
	} else {
		a.unindexed.Store(false)
		a.trash.serve(a.volume)
		a.patrol(a.volume)
	}
	a.launch(a.volume)
	a.volumes.set(append(slices.Clone(a.volumes.all()), a.volume))
	a.volumes.coming.Store(nil)
	if a.admitted.Store(true); a.health.Out() {
		a.tell()
	}
	return err
}

// adopt takes what the volume had into the index.
func (a *arrival) adopt(op string) error {
	found := &scan{env: a.Store.env, index: a.index, quarantine: a.quarantine, trash: a.trash,
		best: make(map[chunk.ID]*replica)}
	for _, r := range a.found.replicas {
		found.add(r)
	}
	for _, r := range a.found.corrupt {
		found.addCorrupt(r)
	}
	a.found = listing{}
	for _, r := range found.surplus {
		if err := found.dropSurplus(r); err != nil {
			return err
		}
	}
	for _, r := range found.best {
		if a.over() {
			return closedError(op)
		}
		if err := found.adopt(r); err != nil {
			return err
		}
	}
	return nil
}
