package disk

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
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

// checkPlace refuses a directory that cannot be a volume, before anything is written to it.
func (c *changes) checkPlace(op string, candidate *volume, instead *volumeRecord) error {
	directory := candidate.directory
	refuse := func(hint, reason string) error {
		return &fault.Error{Kind: fault.Invalid, Op: op, Path: directory, Reason: reason, Hint: hint}
	}
	if !path.IsAbs(directory) {
		return refuse("name the whole path, as the datanode sees it", "the directory is not an absolute path")
	}
	volumes := c.volumes.all()
	if len(volumes) >= limits.VolumesPerNodeMax {
		return refuse("", limits.CheckCount("volumes", len(volumes)+1, limits.VolumesPerNodeMax))
	}
	info, err := candidate.fs.Stat(directory)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return refuse("mount the disk, or make the directory", "the directory does not exist")
	case err != nil:
		return diskError(op, directory, chunk.ID{}, err)
	case !info.IsDir():
		return refuse("", "it is not a directory")
	}
	if err := candidate.locate(info); err != nil {
		return diskError(op, directory, chunk.ID{}, err)
	}
	for _, v := range volumes {
		other := v.real
		switch {
		case other == candidate.real && path.Clean(v.directory) == path.Clean(directory): // it is being replaced
		case other == candidate.real || v.info != nil && os.SameFile(v.info, info):
			return refuse("name a directory of its own", "it is the disk "+v.directory+" under another name")
		case within(candidate.real, other) || within(other, candidate.real):
			return refuse("name a directory of its own", "it is inside or above the disk "+v.directory)
		}
	}
	theirs, own, err := readIdentity(candidate.fs, path.Join(directory, identityName))
	if err != nil || own && instead == nil {
		return err
	}
	if own {
		if unfinished, err := c.unfinished(candidate, theirs); err != nil || unfinished {
			return err
		}
	}
	entries, err := candidate.fs.ReadDir(directory)
	if err != nil {
		return diskError(op, directory, chunk.ID{}, err)
	}
	for _, entry := range entries {
		if own || !slices.Contains(emptyVolume, entry.Name()) {
			return refuse("name an empty directory", "it is not empty: "+entry.Name()+" is in it")
		}
	}
	return nil
}

// unfinished tells whether a volume is one of this node that never came into service: an earlier try to add it was cut
// off.
func (c *changes) unfinished(candidate *volume, identity volumeIdentity) (bool, error) {
	c.membership.persist.Lock()
	removed := slices.ContainsFunc(c.membership.persist.records, func(r volumeRecord) bool {
		return r.Removed && r.VolumeID == identity.VolumeID
	})
	c.membership.persist.Unlock()
	if removed || identity.NodeID != c.Identity().NodeID {
		return false, nil
	}
	used, err := candidate.hasReplicas()
	if err != nil {
		return false, diskError("look into volume", candidate.directory, chunk.ID{}, err)
	}
	return !used, nil
}

// emptyVolume are the names in the root of an empty file system, and of a volume whose making was cut off.
var emptyVolume = []string{"lost+found", chunkfile.Directory, packsDirectory, trashDirectory, quarantineDirectory,
	lockName, formatName, identityName + ".tmp"}

// within tells whether a path is below a directory.
func within(p, directory string) bool {
	return strings.HasPrefix(p, strings.TrimSuffix(directory, "/")+"/")
}

// checkVolume refuses a volume of somebody else, and one without room or that is not mounted.
func (c *changes) checkVolume(op string, candidate *volume, instead *volumeRecord) error {
	now, theirs := c.Identity(), candidate.identity
	refuse := func(kind fault.Kind, hint, reason string) error {
		return &fault.Error{Kind: kind, Op: op, Path: candidate.directory, Node: now.NodeID, Reason: reason, Hint: hint}
	}
	switch {
	case theirs.NodeID != "" && theirs.NodeID != now.NodeID:
		return refuse(fault.Invalid, "name an empty directory", "it is a disk of datanode "+theirs.NodeID)
	case theirs.ClusterID != "" && now.ClusterID != "" && theirs.ClusterID != now.ClusterID:
		return refuse(fault.Invalid, "name an empty directory", "it is a disk of cluster "+theirs.ClusterID)

	case instead != nil && instead.MountPoint && path.Clean(instead.Directory) == candidate.directory &&
		!candidate.mounted:
		return refuse(fault.Invalid, "mount the new disk, or name another directory",
			"the disk that it replaces was mounted here, and nothing is mounted here now")
	}
	for _, other := range c.volumes.all() {
		if theirs.VolumeID != "" && other.id == theirs.VolumeID {
			return refuse(fault.Invalid, "name an empty directory", "it is a copy of the disk "+other.directory)
		}
	}
	free, err := c.volumes.space(candidate)
	if err != nil {
		return diskError(op, candidate.directory, chunk.ID{}, err)
	}
	if free <= c.options.ReserveBytes && theirs.NodeID == "" {
		return noRoom(op, chunk.ID{}, "the disk has no room above datanode.reserve")
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
		c.membership.persist.Lock()
		records := c.membership.persist.records
		c.membership.persist.Unlock()
		for _, record := range slices.Backward(records) {
			if record.Removed && means(record.VolumeID, record.Directory) {
				return nil, &record, nil
			}
		}
	}
	return nil, nil, refuse(fault.NotFound, "the datanode has no such disk")
}

// remove is Store.RemoveDisk.
func (c *changes) remove(name string) (datanode.VolumeState, error) {
	const op = "remove disk"
	if err := c.begin(op, name); err != nil {
		return datanode.VolumeState{}, err
	}
	defer c.one.Unlock()
	v, left, err := c.find(op, name)
	switch {
	case err != nil:
		return datanode.VolumeState{}, err
	case left != nil:
		return datanode.VolumeState{ID: left.VolumeID, Directory: left.Directory}, nil
	case v.health.Out():
		return c.removeOne(op, v)
	}
	return c.drain(op, v, true)
}

// keep is Store.KeepDisk.
func (c *changes) keep(name string) (datanode.VolumeState, error) {
	const op = "keep disk"
	if err := c.begin(op, name); err != nil {
		return datanode.VolumeState{}, err
	}
	defer c.one.Unlock()
	v, left, err := c.find(op, name)
	switch {
	case err != nil:
		return datanode.VolumeState{}, err
	case left != nil:
		return datanode.VolumeState{}, &fault.Error{Kind: fault.Exists, Op: op, Path: left.Directory,
			Reason: "the disk is removed already", Hint: "`ww admin disk add` takes it back"}
	}
	return c.drain(op, v, false)
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
		for last := range 256 {
			for _, id := range c.index.on(chosen, byte(last)) {
				if c.over() {
					return
				}
				c.index.announce(id, func() {})
			}
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
	c.membership.persist.Lock()
	defer c.membership.persist.Unlock()
	for _, record := range c.membership.persist.records {
		if record.VolumeID == v.id {
			return &record
		}
	}
	record := v.record()
	return &record
}

// removedFrom tells whether a volume was removed from a directory.
func (c *changes) removedFrom(directory string) bool {
	c.membership.persist.Lock()
	defer c.membership.persist.Unlock()
	return slices.ContainsFunc(c.membership.persist.records, func(r volumeRecord) bool {
		return r.Removed && r.Directory == path.Clean(directory)
	})
}
