package disk

import (
	"errors"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/internal/fault"
)

// unpacker gives replicas that are in memory or in a record a file of their own:
// what changes a replica works on files only.
type unpacker struct {
	*env
	index      *index
	quarantine *quarantine
}

// materialiseLocked gives a replica that is only in memory a file of its own,
// an open one, with the same promises as if it had had it from the start.
func (u *unpacker) materialiseLocked(r *replica) error {
	if r.view.place.kind != inMemory {
		return nil
	}
	m := r.view.place.memory
	r.updateLocked(func(v *snapshot) { v.Length, v.place = 0, place{kind: inFile} })
	err := r.createFileLocked(r.disk.Layout, m.hint)
	if err == nil && len(m.data) > 0 {
		err = r.appendLocked(m.data, true)
	}
	if err != nil {
		r.endSessionLocked()
		u.index.loseLocked(r)
		return err
	}
	if !r.view.hidden {
		r.reportLocked(Stored, "")
	}
	return nil
}

// unpackLocked gives the replica a file of its own, if it has none. Crash points,
// each of which leaves the replica whole at its generation:
//
//  1. the file under a hidden name, fdatasync (a start drops it);
//  2. rename to the sealed name, fsync of the directory (a start that finds file
//     and record takes the file);
//  3. the record is struck, fdatasync: it cannot come back under this generation
//     when the file has gone on to the next.
func (u *unpacker) unpackLocked(r *replica) error {
	const op = "unpack replica"
	if err := u.materialiseLocked(r); err != nil || r.view.place.kind != inRecord {
		return err
	}
	v := r.view.snapshot
	data, err := v.place.segment.ReadData(v.place.offset, v.Length)
	if err != nil {
		return r.blameLocked(op, err)
	}
	if got := xxh3.Hash(data); got != v.Partial {
		err := chunkError(fault.CorruptData, op, r.id, "the record has sum %016x, recorded is %016x", got, v.Partial)
		u.quarantine.putLocked(r, err.Error())
		return err
	}
	name := chunkfile.Name{ID: r.id, Generation: v.Generation, Hidden: true}
	f, state, err := r.writeWhole(r.volume.path(name.Relative()), data)
	if err != nil {
		return r.blameLocked(op, err)
	}
	if err := u.fs.Rename(r.volume.path(name.Relative()), r.volume.path(r.name(v).Relative())); err != nil {
		return r.blameLocked(op, errors.Join(err, f.Close()))
	}
	if err := u.fs.SyncDir(r.directory()); err != nil { // both are there, the file counts at the next start
		return errors.Join(r.failLocked(op, err), f.Close())
	}
	r.disk, r.named = state, true
	r.updateLocked(func(v *snapshot) {
		v.place = place{kind: inFile}
		if v.Length%blockBytes == 0 {
			v.Partial = 0
		}
	})
	u.files.Release(u.files.Add(&r.Owner, f, true))
	if err := v.place.segment.RemoveDurably(r.record(v)); err != nil {
		return r.failLocked(op, err)
	}
	return nil
}
