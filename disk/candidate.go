package disk

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

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
	removed := slices.ContainsFunc(c.membership.records(), func(r volumeRecord) bool {
		return r.Removed && r.VolumeID == identity.VolumeID
	})
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
