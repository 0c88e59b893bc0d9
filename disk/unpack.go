package disk

import (
	"errors"
	"os"
	"path"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// unpackLocked gives the replica a file of its own, if it has none: what changes
// a replica works on files only. Crash points, each of which leaves the replica
// whole at its generation:
//
//  1. the file under a hidden name, fdatasync (a start drops it);
//  2. rename to the sealed name, fsync of the directory (a start that finds file
//     and record takes the file);
//  3. the record is struck, fdatasync: it cannot come back under this generation
//     when the file has gone on to the next.
func (s *Store) unpackLocked(r *replica) error {
	const op = "unpack replica"
	if err := s.materialiseLocked(r); err != nil || r.view.segment == nil {
		return err
	}
	v := r.view.snapshot
	data, err := v.segment.ReadData(v.at, v.Length)
	if err != nil {
		return r.blameLocked(op, err)
	}
	if got := xxh3.Hash(data); got != v.Partial {
		err := chunkError(fault.CorruptData, op, r.id, "the record has sum %016x, recorded is %016x", got, v.Partial)
		s.quarantineLocked(r, err.Error())
		return err
	}
	name := chunkfile.Name{ID: r.id, Generation: v.Generation, Hidden: true}
	f, state, err := s.writeFile(r, r.volume.path(name.Relative()), data)
	if err != nil {
		return r.blameLocked(op, err)
	}
	sealed := r.volume.path(r.name(v).Relative())
	if err := s.fs.Rename(r.volume.path(name.Relative()), sealed); err != nil {
		return r.blameLocked(op, errors.Join(err, f.Close()))
	}
	if err := s.fs.SyncDir(r.directory()); err != nil { // both are there, the file counts at the next start
		return errors.Join(r.failLocked(op, err), f.Close())
	}
	segment, rec := v.segment, r.record(v)
	r.disk, r.named = state, true
	r.updateLocked(func(v *snapshot) {
		v.segment, v.at = nil, 0
		if v.Length%blockBytes == 0 {
			v.Partial = 0
		}
	})
	s.files.Release(s.files.Add(&r.Owner, f, true))
	if err := segment.RemoveDurably(rec); err != nil {
		return r.failLocked(op, err)
	}
	return nil
}

// writeFile writes a chunk file that holds data with the recorded sum of r's
// record, durably but for its name.
func (s *Store) writeFile(r *replica, name string, data []byte) (vfs.File, chunkfile.State, error) {
	v := r.view.snapshot
	f, err := s.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, chunkfile.State{}, err
	}
	state, err := chunkfile.WriteWhole(f, chunkfile.Header{ID: r.id, Layout: v.layout}, v.Generation, data, v.Partial)
	if err != nil {
		return nil, state, errors.Join(err, f.Close(), s.fs.Remove(name))
	}
	return f, state, nil
}

// setRecordAsideLocked copies a corrupt record into quarantine, as a chunk file
// with the recorded sum, and strikes it. Bytes that cannot be read are zeros
// there.
func (s *Store) setRecordAsideLocked(r *replica, parked chunkfile.ParkedName) (relative string, err error) {
	v := r.view.snapshot
	data, err := v.segment.ReadData(v.at, v.Length)
	if err != nil {
		data = make([]byte, v.Length)
	}
	parked.Serial = r.volume.serial.Add(1)
	relative = path.Join(quarantineDirectory, parked.String())
	f, _, err := s.writeFile(r, r.volume.path(relative), data)
	if err != nil {
		return "", err
	}
	if err := errors.Join(f.Close(), s.fs.SyncDir(r.volume.path(quarantineDirectory))); err != nil {
		return "", err
	}
	if err := v.segment.RemoveDurably(r.record(v)); err != nil {
		return "", err
	}
	r.updateLocked(func(v *snapshot) { v.segment, v.at = nil, 0 })
	return relative, nil
}
