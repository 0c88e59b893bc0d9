package disk

import (
	"errors"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
)

// changes adds volumes to a store that runs, and takes volumes out of it, one at a time. What the identity files say is
// true: a volume is added once its own file and those of its siblings say so, and removed once theirs do.
type changes struct {
	*Store
	one sync.Mutex // held through a change
}

// begin has no other change begin until one is unlocked. Error: fault.Busy; nobody waits for a disk that may hang.
func (c *changes) begin(op, name string) error {
	if c.one.TryLock() {
		return nil
	}
	return &fault.Error{Kind: fault.Busy, Op: op, Path: name, Node: c.Identity().NodeID,
		Reason: "the disks of this datanode are being changed already", Hint: "try again when that has ended"}
}

// add is Store.AddDisk.
func (c *changes) add(op, directory string) (datanode.VolumeState, error) {
	if err := c.begin(op, directory); err != nil {
		return datanode.VolumeState{}, err
	}
	defer c.one.Unlock()
	return c.addOne(op, path.Clean(directory), nil)
}

// addOne adds a volume, in the place of a removed one if there is one. It is in service when it was read: whoever used
// it before would take what was not read yet for nothing, or what came meanwhile for a stray.
func (c *changes) addOne(op, directory string, instead *volumeRecord) (datanode.VolumeState, error) {
	if known := c.at(directory); known != nil {
		if !known.health.Out() {
			return known.describe(), nil
		}
		return known.describe(), &fault.Error{Kind: fault.Exists, Op: op, Path: directory,
			Reason: "it is a disk of this datanode, and is out of service: " + known.health.Status().Last,
			Hint: "if it works again with what it had, `ww admin disk remove` and then add it; else put an empty " +
				"one in its place: `ww admin disk replace`"}
	}
	next := c.arrive(directory)
	c.volumes.coming.Store(next.volume)
	err := next.attempt(op, func() error { return next.prepare(op, instead) })
	if err == nil {
		if err = next.admit(op); err != nil {
			err = errors.Join(err, next.discard())
		}
	}
	if err != nil {
		c.volumes.coming.CompareAndSwap(next.volume, nil)
		return datanode.VolumeState{}, err
	}
	if err := next.serve(op); err != nil {
		return next.describe(), err
	}
	next.logger.Info("disk added", "id", next.id, "mounted", next.mounted, "replicas", next.replicas.Load())
	return next.describe(), nil
}

// at is the volume of a directory, nil if there is none.
func (c *changes) at(directory string) *volume {
	for _, v := range c.volumes.all() {
		if path.Clean(v.directory) == directory {
			return v
		}
	}
	return nil
}

// find is the volume, or the record of a removed one, that a person names.
func (c *changes) find(op, name string) (*volume, *volumeRecord, error) {
	refuse := func(kind fault.Kind, reason string) error {
		return &fault.Error{Kind: kind, Op: op, Path: name, Node: c.Identity().NodeID, Reason: reason,
			Hint: "see `ww admin disk list`"}
	}
	for _, means := range []func(id, directory string) bool{
		func(id, directory string) bool { return id == name || directory == path.Clean(name) },
		func(id, _ string) bool { return strings.HasPrefix(id, name) },
	} {
		var listed []*volume
		for _, v := range c.volumes.all() {
			if means(v.id, path.Clean(v.directory)) {
				listed = append(listed, v)
			}
		}
		switch {
		case len(listed) == 1:
			return listed[0], nil, nil
		case len(listed) > 1:
			return nil, nil, refuse(fault.Invalid, "more than one disk has an id that begins so")
		}
		for _, record := range slices.Backward(c.membership.records()) {
			if record.Removed && means(record.VolumeID, record.Directory) {
				return nil, &record, nil
			}
		}
	}
	return nil, nil, refuse(fault.NotFound, "the datanode has no such disk")
}

// decide finds the disk that a person names and has its fate decided: that of a volume, or of one that is removed.
func (c *changes) decide(op, name string, listed func(*volume) (datanode.VolumeState, error),
	removed func(*volumeRecord) (datanode.VolumeState, error)) (datanode.VolumeState, error) {
	if err := c.begin(op, name); err != nil {
		return datanode.VolumeState{}, err
	}
	defer c.one.Unlock()
	v, left, err := c.find(op, name)
	switch {
	case err != nil:
		return datanode.VolumeState{}, err
	case left != nil:
		return removed(left)
	}
	return listed(v)
}

// remove is Store.RemoveDisk.
func (c *changes) remove(name string) (datanode.VolumeState, error) {
	const op = "remove disk"
	return c.decide(op, name, func(v *volume) (datanode.VolumeState, error) {
		if v.health.Out() {
			return c.removeOne(op, v)
		}
		return c.drain(op, v, true)
	}, func(left *volumeRecord) (datanode.VolumeState, error) {
		return datanode.VolumeState{ID: left.VolumeID, Directory: left.Directory}, nil
	})
}

// keep is Store.KeepDisk.
func (c *changes) keep(name string) (datanode.VolumeState, error) {
	const op = "keep disk"
	return c.decide(op, name, func(v *volume) (datanode.VolumeState, error) {
		return c.drain(op, v, false)
	}, func(left *volumeRecord) (datanode.VolumeState, error) {
		return datanode.VolumeState{}, &fault.Error{Kind: fault.Exists, Op: op, Path: left.Directory,
			Reason: "the disk is removed already", Hint: "`ww admin disk add` takes it back"}
	})
}

// drain says of a volume whether it is to be removed, durably, and reports its replicas anew.
func (c *changes) drain(op string, chosen *volume, leaves bool) (datanode.VolumeState, error) {
	others := slices.ContainsFunc(c.volumes.all(), func(other *volume) bool {
		return other != chosen && !other.health.Out() && !other.draining.Load()
	})
	switch {
	case chosen.draining.Load() == leaves:
		return chosen.describe(), nil
	case leaves && !others:
		return chosen.describe(), &fault.Error{Kind: fault.TooFewNodes, Op: op, Path: chosen.directory,
			Reason: "no other disk of the datanode takes new replicas",
			Hint:   "add another one first (`ww admin disk add`), or decommission the datanode"}
	}
	if err := c.writeDraining(op, chosen, leaves); err != nil {
		return chosen.describe(), err
	}
	chosen.logger.Info("an operator decided about a disk", "leaves", leaves)
	c.gate.RLock()
	defer c.gate.RUnlock()
	if c.gate.closed {
		return chosen.describe(), closedError(op)
	}
	c.group.Go(func() { // what was reported of them says something else
		for id := range c.index.each(chosen) {
			if c.over() {
				return
			}
			c.index.announce(id, func() {})
		}
	})
	return chosen.describe(), nil
}

// writeDraining writes down whether a volume is to be removed. It holds from then on, also after an error.
func (c *changes) writeDraining(op string, chosen *volume, leaves bool) error {
	member := c.membership
	member.persist.Lock()
	defer member.persist.Unlock()
	if member.persist.closed {
		return closedError(op)
	}
	chosen.draining.Store(leaves)
	records := slices.Clone(member.persist.records)
	for i := range records {
		if records[i].VolumeID == chosen.id {
			records[i].Draining = leaves
		}
	}
	return member.recordLocked(c.volumes.all(), records)
}

// over tells whether the store is being closed.
func (c *changes) over() bool {
	c.gate.RLock()
	defer c.gate.RUnlock()
	return c.gate.closed
}

// finish removes a volume that is to be removed, if its disk fails, or if nothing but corrupt replicas is on it.
func (c *changes) finish(chosen *volume) {
	if !chosen.health.Out() && !c.index.empty(chosen) {
		return
	}
	if !c.one.TryLock() {
		return // the next time
	}
	defer c.one.Unlock()
	if !chosen.draining.Load() || c.at(path.Clean(chosen.directory)) != chosen ||
		!chosen.health.Out() && !c.index.empty(chosen) {
		return // meanwhile it is kept, or gone, or something came
	}
	if _, err := c.removeOne("remove drained disk", chosen); err != nil {
		chosen.logger.Warn("the drained disk cannot be removed yet", "err", err)
		return
	}
	c.index.lose(chosen) // corrupt ones
}

// releaseAll gives the disks of removed volumes free on which an operation was under way.
func (c *changes) releaseAll() {
	c.gate.RLock()
	left := slices.Clone(c.volumes.left)
	c.gate.RUnlock()
	for _, v := range left {
		if !v.released.Load() && !v.finishing.Swap(true) {
			c.monitor.group.Go(func() {
				defer v.finishing.Store(false)
				c.release(v)
			})
		}
	}
}

func (c *changes) removeOne(op string, leaving *volume) (datanode.VolumeState, error) {
	rest := slices.DeleteFunc(slices.Clone(c.volumes.all()), func(other *volume) bool { return other == leaving })
	refuse := func(kind fault.Kind, hint, reason string) error {
		return &fault.Error{Kind: kind, Op: op, Path: leaving.directory, Reason: reason, Hint: hint}
	}
	switch {
	case len(inService(rest)) == 0:
		return leaving.describe(), refuse(fault.TooFewNodes, "add another one first: `ww admin disk add`",
			"no other disk of the datanode works")
	case len(c.volumes.left) >= changesMax:
		return leaving.describe(), refuse(fault.Busy, "restart the datanode",
			"too many disks were removed since its start")
	}
	gone := volumeRecord{VolumeID: leaving.id, Directory: path.Clean(leaving.directory), MountPoint: leaving.mounted,
		Removed: true}
	if leaving.unindexed.Load() || !c.index.empty(leaving) {
		gone.RemovedAt = c.options.Clock.Now().UnixMilli()
	}
	if err := c.writeRemoved(op, rest, gone); err != nil {
		return leaving.describe(), err
	}
	c.gate.Lock()
	closed := c.gate.closed
	if !closed {
		c.volumes.set(rest)
		c.volumes.left = append(c.volumes.left, leaving)
	}
	c.gate.Unlock()
	if closed {
		return leaving.describe(), closedError(op)
	}
	leaving.logger.Warn("disk removed: its files stay, and no start uses it", "id", leaving.id)
	state := leaving.describe()
	if leaving.scrubber != nil {
		leaving.scrubber.Stop()
	}
	if state.Error = c.release(leaving); state.Error != "" && !leaving.draining.Load() {
		leaving.logger.Warn("the disk of a removed volume stays locked", "why", state.Error)
	}
	return state, nil
}

// writeRemoved writes down that a volume was removed.
func (c *changes) writeRemoved(op string, rest []*volume, gone volumeRecord) error {
	member := c.membership
	member.persist.Lock()
	defer member.persist.Unlock()
	if member.persist.closed {
		return closedError(op)
	}
	return member.recordLocked(rest, withRemoved(member.persist.records, gone))
}

// withRemoved is the list of volumes after one was removed. The oldest removed ones are forgotten.
func withRemoved(records []volumeRecord, gone volumeRecord) []volumeRecord {
	var rest, removed []volumeRecord
	for _, record := range records {
		switch {
		case record.VolumeID == gone.VolumeID:
			gone.MountPoint = gone.MountPoint || record.MountPoint
		case record.Removed:
			removed = append(removed, record)
		default:
			rest = append(rest, record)
		}
	}
	removed = append(removed, gone)
	return append(rest, removed[max(0, len(removed)-changesMax):]...)
}

// release gives the disk of a removed volume free, so that it can be unmounted. hanging says why that is not possible
// while this process runs; "": it is.
func (c *changes) release(leaving *volume) (hanging string) {
	c.trash.forget(leaving)
	if hanging = leaving.health.Retire(); hanging != "" {
		return hanging
	}
	leaving.packs.Retire()
	for _, r := range c.index.all() {
		if r.volume == leaving {
			c.files.Detach(&r.Owner)
		}
	}
	if err := leaving.close(); err != nil {
		return err.Error()
	}
	leaving.released.Store(true)
	return ""
}

// replace is Store.ReplaceDisk.
func (c *changes) replace(name, directory string) (datanode.VolumeState, error) {
	const op = "replace disk"
	if err := c.begin(op, name); err != nil {
		return datanode.VolumeState{}, err
	}
	defer c.one.Unlock()
	old, left, err := c.find(op, name)
	if err != nil {
		return datanode.VolumeState{}, err
	}
	switch {
	case left != nil:
	case old.health.Out():
		if left, err = c.vacate(op, old, directory); err != nil {
			return old.describe(), err
		}
	case c.removedFrom(old.directory) && (directory == "" || path.Clean(directory) == path.Clean(old.directory)):
		return old.describe(), nil // it is the new one
	default:
		return old.describe(), &fault.Error{Kind: fault.Exists, Op: op, Path: old.directory, Reason: "the disk works",
			Hint: "remove it first: `ww admin disk remove`"}
	}
	if directory == "" {
		directory = left.Directory
	}
	return c.addOne(op, path.Clean(directory), left)
}

// vacate removes a volume that is to be replaced, unless it is clear before that the new one cannot be taken.
func (c *changes) vacate(op string, old *volume, directory string) (*volumeRecord, error) {
	left := c.recordOf(old)
	if directory = path.Clean(directory); directory != "." && directory != path.Clean(old.directory) {
		if c.at(directory) != nil {
			return nil, &fault.Error{Kind: fault.Exists, Op: op, Path: directory,
				Reason: "it is a disk of this datanode already", Hint: "name an empty directory"}
		}
		next := c.arrive(directory)
		c.volumes.coming.Store(next.volume) // so that it is watched
		err := next.attempt(op, func() error { return next.checkPlace(op, next.volume, left) })
		c.volumes.coming.Store(nil)
		if err != nil {
			return nil, err
		}
	}
	_, err := c.removeOne(op, old)
	return left, err
}

// recordOf is what is written down of a volume: one that was missing at the start does not know what it was.
func (c *changes) recordOf(v *volume) *volumeRecord {
	for _, record := range c.membership.records() {
		if record.VolumeID == v.id {
			return &record
		}
	}
	record := v.record()
	return &record
}

// removedFrom tells whether a volume was removed from a directory.
func (c *changes) removedFrom(directory string) bool {
	return slices.ContainsFunc(c.membership.records(), func(r volumeRecord) bool {
		return r.Removed && r.Directory == path.Clean(directory)
	})
}
