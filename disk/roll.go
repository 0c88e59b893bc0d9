package disk

import (
	"errors"
	"io/fs"
	"path"
	"slices"

	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// roll is which volumes a store had before, as the identity files say. It exists during a start, so that a volume
// that is missing is not made anew: its directory is the mount point of a disk that is not mounted, and what
// would be written there would fill the disk below, or a disk that was lost without anybody noticing.
type roll struct {
	fs      vfs.FS
	found   map[string]string       // the ids of the volumes that are here, by directory
	here    map[string]bool         // the same ids
	marks   map[string]string       // ids of the volumes that the marks beside directories name
	known   map[string]volumeRecord // by directory; without removed ones
	removed map[string]volumeRecord // by volume id
	records []volumeRecord          // both, as one of the lists has them
	change  uint64                  // of the list that is true
}

// callRoll reads the identity files of all directories, and the marks beside them. What cannot be read is found
// out again when the volume is opened.
func callRoll(fsys vfs.FS, volumes []*volume) *roll {
	found := &roll{fs: fsys, found: make(map[string]string), here: make(map[string]bool),
		marks: make(map[string]string), known: make(map[string]volumeRecord), removed: make(map[string]volumeRecord)}
	for _, v := range volumes {
		found.read(v)
	}
	return found
}

// read asks one more directory.
func (r *roll) read(v *volume) {
	directory := path.Clean(v.directory)
	if mark, ok, err := readIdentity(r.fs, markPath(directory)); ok && err == nil {
		r.marks[directory] = mark.VolumeID
	}
	identity, ok, err := readIdentity(v.fs, v.path(identityName))
	if !ok || err != nil {
		return
	}
	r.here[identity.VolumeID], r.found[directory] = true, identity.VolumeID
	if identity.VolumesChange > r.change {
		r.change, r.records = identity.VolumesChange, nil
	}
	if identity.VolumesChange < r.change {
		return // it missed what happened since
	}
	r.records = merge(r.records, identity.Volumes)
	clear(r.known)
	clear(r.removed)
	for _, record := range r.records {
		if record.Removed {
			r.removed[record.VolumeID] = record
		} else {
			r.known[path.Clean(record.Directory)] = record
		}
	}
}

// merge joins two lists of the same count of changes: each was written when the other had not been read, as the store
// was killed before all disks had it. Nothing is lost when a removed disk stays removed.
func merge(one, other []volumeRecord) []volumeRecord {
	all := slices.Clone(one)
	for _, record := range other {
		switch at := slices.IndexFunc(all, func(r volumeRecord) bool { return r.VolumeID == record.VolumeID }); {
		case at < 0:
			all = append(all, record)
		case record.Removed:
			all[at] = record
		case !all[at].Removed:
			all[at].Added = all[at].Added || record.Added
			all[at].Draining = all[at].Draining || record.Draining
		}
	}
	return all
}

// again tells whether one of the volumes is in the same directory, under another name.
func (r *roll) again(list []*volume, v *volume) bool {
	id, here := r.found[path.Clean(v.directory)]
	return here && slices.ContainsFunc(list, func(other *volume) bool {
		return r.found[path.Clean(other.directory)] == id && v.sameDirectory(other)
	})
}

// drains tells whether the volume of a directory was to be removed.
func (r *roll) drains(directory string) bool { return r.known[path.Clean(directory)].Draining }

// added lists the directories of volumes that were added while the store ran, in their order.
func (r *roll) added() (directories []string) {
	for _, record := range r.records {
		if record.Added && !record.Removed {
			directories = append(directories, path.Clean(record.Directory))
		}
	}
	return directories
}

// left is the volume that was removed from a directory, while the store ran, and for which no other has come.
func (r *roll) left(directory string) (left volumeRecord, yes bool) {
	directory = path.Clean(directory)
	if _, follows := r.known[directory]; follows {
		return left, false
	}
	if id, here := r.found[directory]; here {
		left, yes = r.removed[id]
		return left, yes
	}
	for _, record := range r.records { // the last one
		if record.Removed && path.Clean(record.Directory) == directory {
			left, yes = record, true
		}
	}
	return left, yes
}

// recordOf is what is known of the volume of a directory.
func (r *roll) recordOf(directory string) (volumeRecord, bool) {
	directory = path.Clean(directory)
	record, known := r.known[directory]
	if id, marked := r.marks[directory]; !known && marked && r.removed[id].VolumeID == "" {
		return volumeRecord{VolumeID: id, Directory: directory, MountPoint: true}, true
	}
	return record, known
}

// missing tells whether a known volume should be in a directory that has none; nil: it may be opened, or made.
// The operator says with a file (formatName) that it shall be made anew.
func (r *roll) missing(volume *volume) error {
	const op = "open volume"
	record, known := r.recordOf(volume.directory)
	if !known || r.here[record.VolumeID] {
		return nil
	}
	if old := r.removed[r.found[path.Clean(volume.directory)]]; old.VolumeID != "" {
		return &fault.Error{Kind: fault.Disk, Op: op, Path: volume.directory,
			Reason: "volume " + old.VolumeID + " is here, which was removed from this datanode; volume " +
				record.VolumeID + " belongs here", Hint: "mount its disk and start again"}
	}
	if _, err := volume.fs.Stat(path.Join(volume.directory, identityName)); !errors.Is(err, fs.ErrNotExist) {
		return nil // another volume, or a disk that cannot tell
	}
	if _, err := volume.fs.Stat(path.Join(volume.directory, formatName)); err == nil {
		volume.logger.Warn("a missing volume is made anew, as its directory says", "was", record.VolumeID)
		return nil
	}
	reason := "volume " + record.VolumeID + " of this datanode was here, and is not"
	if record.MountPoint {
		reason += ": its disk is not mounted"
	}
	return &fault.Error{Kind: fault.Disk, Op: op, Path: volume.directory, Reason: reason,
		Hint: "mount or restore its disk and start again; if it is lost, put an empty disk there, " +
			"touch " + path.Join(volume.directory, formatName) + ", and start again"}
}

// markPath is the file beside a mount point that says what belongs there: it is seen when the disk is not mounted.
func markPath(directory string) string {
	directory = path.Clean(directory)
	return path.Join(path.Dir(directory), "."+path.Base(directory)+markSuffix)
}

// note leaves the mark of a volume that is a mount point, and takes the operator's word for done. Both are of use to
// a later start only, so their errors are told and not returned.
func (r *roll) note(volume *volume) {
	if err := r.takeFormat(volume); err != nil {
		volume.logger.Warn("cannot remove the file that let this volume be made anew: remove it", "err", err)
	}
	if !volume.mounted {
		return
	}
	old, ok, err := readIdentity(r.fs, markPath(volume.directory))
	if ok && err == nil && old.VolumeID == volume.id {
		return
	}
	mark := volumeIdentity{VolumeID: volume.id}.with(datanode.Identity{NodeID: volume.identity.NodeID})
	if err := writeIdentity(r.fs, markPath(volume.directory), mark); err != nil {
		volume.logger.Info("the directory above the mount point cannot be written: if this is the node's only disk, "+
			"a start does not notice that it is not mounted", "path", markPath(volume.directory), "err", err)
	}
}

func (r *roll) takeFormat(v *volume) error {
	name := path.Join(v.directory, formatName)
	if _, err := v.fs.Stat(name); err != nil {
		return nil //nolint:nilerr // there is none
	}
	return v.fs.Remove(name)
}
