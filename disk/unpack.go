package disk

import (
	"errors"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/internal/fault"
)

// unpacker gives replicas that are in memory or in a record a file of their own: what changes a replica works
// on files only.
type unpacker struct {
	*env
	index      *index
	quarantine *quarantine
}

// materialiseLocked gives a replica that is only in memory a file of its own, an open one, with the same
// promises as if it had had it from the start.
func (u *unpacker) materialiseLocked(replica *replica) error {
	if replica.view.place.kind != inMemory {
		return nil
	}
	m := replica.view.place.memory
	replica.updateLocked(func(v *snapshot) { v.Length, v.place = 0, place{kind: inFile} })
	err := replica.createFileLocked(replica.disk.Layout, m.hint)
	if err == nil && len(m.data) > 0 {
		err = replica.appendLocked(m.data, true)
	}
	if err != nil {
		replica.endSessionLocked()
		u.index.loseLocked(replica)
		return err
	}
	if !replica.view.hidden {
		replica.reportLocked(Stored, "")
	}
	return nil
}

// unpackLocked gives the replica a file of its own, if it has none. Crash points, each of which leaves the
// replica whole at its generation:
//
//  1. the file under a hidden name, fdatasync (a start drops it);
//  2. rename to the sealed name, fsync of the directory (a start that finds file
//     and record takes the file);
//  3. the record is struck, fdatasync: it cannot come back under this generation
//     when the file has gone on to the next.
func (u *unpacker) unpackLocked(replica *replica) error {
	const op = "unpack replica"
	if err := u.materialiseLocked(replica); err != nil || replica.view.place.kind != inRecord {
		return err
	}
	seen := replica.view.snapshot
	data, err := seen.place.segment.ReadData(seen.place.offset, seen.Length)
	if err != nil {
		return replica.ioErrorLocked(op, err)
	}
	if got := xxh3.Hash(data); got != seen.Partial {
		err := chunkError(fault.CorruptData, op, replica.id, "the record has sum %016x, recorded is %016x", got,
			seen.Partial)
		u.quarantine.putLocked(replica, err.Error())
		return err
	}
	name := chunkfile.Name{ID: replica.id, Generation: seen.Generation, Hidden: true}
	file, state, err := replica.writeWhole(replica.volume.path(name.Relative()), data)
	if err != nil {
		return replica.ioErrorLocked(op, err)
	}
	if err := replica.volume.fs.Rename(replica.volume.path(name.Relative()),
		replica.volume.path(replica.name(seen).Relative())); err != nil {
		return replica.ioErrorLocked(op, errors.Join(err, file.Close()))
	}
	// After an error both are there, and the file counts at the next start.
	if err := replica.volume.fs.SyncDir(replica.directory()); err != nil {
		return errors.Join(replica.failLocked(op, err), file.Close())
	}
	replica.disk, replica.named = state, true
	replica.updateLocked(func(v *snapshot) {
		v.place = place{kind: inFile}
		if v.Length%blockBytes == 0 {
			v.Partial = 0
		}
	})
	u.files.Release(u.files.Add(&replica.Owner, file, true))
	if err := seen.place.segment.RemoveDurably(replica.record(seen)); err != nil {
		return replica.failLocked(op, err)
	}
	return nil
}
