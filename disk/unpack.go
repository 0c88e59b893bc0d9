package disk

import (
	"encoding/binary"
	"errors"
	"os"
	"path"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/internal/chunk"
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
	data, err := s.readRecordData(r, v)
	if err != nil {
		return r.blameLocked(op, err)
	}
	if got := xxh3.Hash(data); got != v.partial {
		err := chunkError(fault.CorruptData, op, r.id, "the record has sum %016x, recorded is %016x", got, v.partial)
		s.quarantineLocked(r, err.Error())
		return err
	}
	name := chunkfile.Name{ID: r.id, Generation: v.generation, Hidden: true}
	f, err := s.writeFile(r, r.volume.path(name.Relative()), data)
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
	r.disk = diskState{
		Layout: v.layout, loaded: true, counter: 1, nextSlot: 1, synced: v.length, settled: true, named: true,
	}
	r.updateLocked(func(v *snapshot) {
		v.segment, v.at = nil, 0
		if v.length%blockBytes == 0 {
			v.partial = 0
		}
	})
	s.files.Release(s.files.Add(&r.Owner, f, true))
	if err := s.strike(segment, rec, s.options.Clock.Now(), true); err != nil {
		return r.failLocked(op, err)
	}
	r.volume.pack.shrink(segment, rec.bytes())
	return nil
}

// readRecordData reads the bytes of a packed replica; they are not verified.
func (s *Store) readRecordData(r *replica, v snapshot) ([]byte, error) {
	f, err := s.openSegment(v.segment, false)
	if err != nil {
		return nil, err
	}
	defer s.files.Release(f)
	data := make([]byte, v.length)
	return data, vfs.ReadFull(f, data, v.dataAt())
}

// writeFile writes a chunk file that holds data with the recorded sum of r's
// record, durably but for its name.
func (s *Store) writeFile(r *replica, name string, data []byte) (_ vfs.File, err error) {
	v := r.view.snapshot
	f, err := s.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), s.fs.Remove(name))
		}
	}()
	b := make([]byte, v.layout.DataOffset, v.layout.DataOffset+int64(len(data)))
	chunkfile.PutHeader(b, chunkfile.Header{ID: r.id, ChunkSize: v.layout.ChunkSize})
	first := chunkfile.Slot{ID: r.id, Counter: 1, Generation: v.generation, Length: int64(len(data)), Partial: v.partial}
	if len(data)%blockBytes == 0 {
		first.Partial = 0
		if len(data) > 0 {
			binary.LittleEndian.PutUint64(b[chunkfile.SumsOffset:], v.partial)
		}
	}
	chunkfile.PutSlot(b[chunkfile.SectorBytes:], first)
	if _, err := f.WriteAt(append(b, data...), 0); err != nil {
		return nil, err
	}
	return f, f.Datasync()
}

// setRecordAsideLocked copies a corrupt record into quarantine, as a chunk file
// with the recorded sum, and strikes it. Bytes that cannot be read are zeros
// there.
func (s *Store) setRecordAsideLocked(r *replica, parked chunkfile.ParkedName) (relative string, err error) {
	v := r.view.snapshot
	data, err := s.readRecordData(r, v)
	if err != nil {
		data = make([]byte, v.length)
	}
	parked.Serial = r.volume.serial.Add(1)
	relative = path.Join(quarantineDirectory, parked.String())
	f, err := s.writeFile(r, r.volume.path(relative), data)
	if err != nil {
		return "", err
	}
	if err := errors.Join(f.Close(), s.fs.SyncDir(r.volume.path(quarantineDirectory))); err != nil {
		return "", err
	}
	if err := s.strikeLocked(r, true); err != nil {
		return "", err
	}
	r.updateLocked(func(v *snapshot) { v.segment, v.at = nil, 0 })
	return relative, nil
}

// removeRecordLocked strikes the record of a replica that is deleted.
func (s *Store) removeRecordLocked(r *replica) error {
	if r.view.state == chunk.Corrupt { // it could not be set aside
		return s.strikeLocked(r, true)
	}
	return s.strikeLocked(r, false)
}
