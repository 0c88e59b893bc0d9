package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/disk/filecache"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// quarantine takes corrupt replicas out of service. It owns the quarantine directories, in which nothing is
// ever deleted.
type quarantine struct{ *env }

// putLocked cannot fail: if the file cannot be moved, the replica is out of service until the next start, and
// the error counts against the volume.
func (q *quarantine) putLocked(replica *replica, reason string) {
	volume := replica.volume
	replica.endSessionLocked()
	q.files.Detach(&replica.Owner)
	name := chunkfile.ParkedName{At: q.options.Clock.Now(), Name: replica.name(replica.view.snapshot)}
	move := q.moveFileLocked
	if replica.view.place.kind == inRecord {
		move = q.copyRecordLocked
	}
	to, err := move(replica, name)
	if errors.Is(err, fs.ErrNotExist) { // there is nothing to keep
		to = place{kind: aside, path: path.Join(quarantineDirectory, name.String())}
	} else if err != nil {
		volume.noteError(err)
	}
	replica.updateLocked(func(v *snapshot) { v.state, v.place = chunk.Corrupt, to })
	volume.logger.Error("replica is corrupt and in quarantine",
		"chunk", replica.id, "gen", replica.view.Generation, "path", replica.path(), "reason", reason, "err", err)
	replica.reportLocked(Corrupt, reason)
}

// moveFileLocked moves the replica's file into quarantine.
func (q *quarantine) moveFileLocked(r *replica, name chunkfile.ParkedName) (place, error) {
	v, source := r.volume, name.Name.Relative()
	parked, err := v.park(quarantineDirectory, source, name)
	if err != nil {
		return place{kind: aside, path: source}, err
	}
	err = errors.Join(v.fs.SyncDir(v.path(quarantineDirectory)), v.fs.SyncDir(r.directory()))
	return place{kind: aside, path: parked}, err
}

// copyRecordLocked copies a corrupt record into quarantine, as a chunk file with the recorded sum, and strikes it.
// Bytes that cannot be read are zeros there. After an error the record is still the replica's place.
func (q *quarantine) copyRecordLocked(replica *replica, name chunkfile.ParkedName) (place, error) {
	seen := replica.view.snapshot
	data, err := seen.place.segment.ReadData(seen.place.offset, seen.Length)
	if errors.Is(err, fs.ErrNotExist) {
		return seen.place, err
	}
	if err != nil {
		data = make([]byte, seen.Length)
	}
	if err := replica.volume.keepDirectory(quarantineDirectory); err != nil {
		return seen.place, err
	}
	name.Serial = replica.volume.serial.Add(1)
	parked := path.Join(quarantineDirectory, name.String())
	f, _, err := replica.writeWhole(replica.volume.path(parked), data)
	if err != nil {
		return seen.place, err
	}
	if err := errors.Join(f.Close(), replica.volume.fs.SyncDir(replica.volume.path(quarantineDirectory))); err != nil {
		return seen.place, err
	}
	if err := seen.place.segment.RemoveDurably(replica.record(seen)); err != nil {
		return seen.place, err
	}
	return place{kind: aside, path: parked}, nil
}

// loadLocked reads the front of a replica's file if that was not done yet; a replica that turns out to be
// corrupt goes to quarantine.
func (q *quarantine) loadLocked(r *replica, f *filecache.File) error {
	err := r.loadLocked(f)
	if fault.KindOf(err) == fault.CorruptData {
		q.putLocked(r, err.Error())
	}
	return err
}

// keep moves a surplus file that a scan found to quarantine, without an entry in the index, or copies a record there.
func (q *quarantine) keep(replica *replica) error {
	volume, name := replica.volume, replica.name(replica.view.snapshot)
	if replica.view.place.kind == inRecord {
		_, err := q.copyRecordLocked(replica, chunkfile.ParkedName{At: q.options.Clock.Now(), Name: name})
		return err
	}
	source := name.Relative()
	parked, err := volume.park(quarantineDirectory, source, chunkfile.ParkedName{At: q.options.Clock.Now(), Name: name})
	if err == nil {
		err = volume.fs.SyncDir(volume.path(quarantineDirectory))
	}
	if err != nil {
		return diskError("set surplus replica aside", volume.path(source), replica.id, err)
	}
	volume.logger.Error("two files of one chunk, the lesser one was set aside",
		"chunk", replica.id, "path", volume.path(source), "now", volume.path(parked))
	return nil
}

// setAside moves a file that is no replica to quarantine, where no start takes it for one. relative is its path below
// the volume.
func (q *quarantine) setAside(volume *volume, relative string) error {
	name := fmt.Sprintf("%012x_%08x_%s%s", q.options.Clock.Now().UnixMilli(), volume.serial.Add(1), path.Base(relative),
		forgottenSuffix)
	file, parked := volume.path(relative), volume.path(path.Join(quarantineDirectory, name))
	err := volume.keepDirectory(quarantineDirectory)
	if err == nil {
		err = volume.fs.Rename(file, parked)
	}
	if err == nil {
		err = errors.Join(volume.fs.SyncDir(path.Dir(parked)), volume.fs.SyncDir(path.Dir(file)))
	}
	if err != nil {
		return diskError("set stray file aside", file, chunk.ID{}, err)
	}
	volume.logger.Error("a file that is no replica was set aside", "path", file, "now", parked)
	return nil
}
