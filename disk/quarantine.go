package disk

import (
	"errors"
	"path"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/disk/filecache"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// Quarantine takes a replica out of service for ever: it is reported as
// corrupt, its file is moved to the volume's quarantine and never deleted. A
// writer is fenced. Errors: fault.NotFound; fault.StaleGeneration if the
// replica has another generation than gen. A corrupt one again: no error.
func (s *Store) Quarantine(id chunk.ID, gen chunk.Generation, reason string) error {
	const op = "quarantine replica"
	r := s.lookup(id)
	if r == nil {
		return notFound(op, id)
	}
	r.io.Lock()
	defer r.io.Unlock()
	switch {
	case r.gone || r.view.state == 0:
		return notFound(op, id)
	case r.view.Generation != gen:
		return chunkError(fault.StaleGeneration, op, id, "the replica has generation %d, the order is for %d", r.view.Generation, gen)
	case r.view.state == chunk.Corrupt:
		return nil
	}
	if err := s.materialiseLocked(r); err != nil {
		return err
	}
	s.quarantineLocked(r, reason)
	return nil
}

// quarantineLocked cannot fail: if the file cannot be moved, the replica is out
// of service until the next start, and the volume is blamed.
func (s *Store) quarantineLocked(r *replica, reason string) {
	v := r.volume
	s.endSessionLocked(r)
	s.files.Detach(&r.Owner)
	name := chunkfile.ParkedName{At: s.options.Clock.Now(), Name: r.name(r.view.snapshot)}
	var err error
	if r.view.segment != nil {
		r.parked, err = s.setRecordAsideLocked(r, name)
	} else {
		err = s.setFileAsideLocked(r, name)
	}
	if err != nil {
		v.noteError(err)
	}
	r.updateLocked(func(v *snapshot) { v.state = chunk.Corrupt })
	v.logger.Error("replica is corrupt and in quarantine", "chunk", r.id, "gen", r.view.Generation, "path", r.path(), "reason", reason, "err", err)
	s.options.OnEvent(Event{Kind: Corrupt, Replica: r.describe(r.view.snapshot), Reason: reason})
}

// setFileAsideLocked moves the replica's file into quarantine.
func (s *Store) setFileAsideLocked(r *replica, name chunkfile.ParkedName) error {
	v, source := r.volume, r.relativePath()
	parked, err := v.park(quarantineDirectory, source, name)
	if err != nil {
		r.parked = source
		return err
	}
	r.parked = parked
	return errors.Join(s.fs.SyncDir(v.path(quarantineDirectory)), s.fs.SyncDir(v.path(path.Dir(source))))
}

// loadOrQuarantineLocked reads the prelude of a replica if that was not done
// yet; a replica that turns out to be corrupt goes to quarantine.
func (s *Store) loadOrQuarantineLocked(r *replica, f *filecache.File) error {
	err := r.loadLocked(f)
	switch fault.KindOf(err) {
	case fault.CorruptData:
		s.quarantineLocked(r, err.Error())
	case fault.Disk:
		r.volume.noteError(err)
	}
	return err
}

// VerifyReplica reads a replica and compares it with its sums: what to do when
// a reader reports it. A mismatch puts the replica in quarantine and returns
// fault.CorruptData. An open replica is verified as far as it is visible, and
// may be written meanwhile. Other errors: fault.NotFound; fault.Disk if it
// cannot be read; fault.Busy if it is cut again and again.
//
// Reads the whole replica on the caller's goroutine.
func (s *Store) VerifyReplica(id chunk.ID) error {
	const op = "verify replica"
	reader, err := s.OpenReader(id, 0)
	if err != nil {
		return err
	}
	defer reader.Close() // cannot fail the first time
	r := reader.replica
	for range rangeRetriesMax {
		v := reader.seen(r.snapshot())
		err := verifyData(reader.file, r.id, v)
		if err == nil {
			return nil
		}
		if fault.KindOf(err) != fault.CorruptData {
			failure := diskError(op, r.seenPath(), id, err)
			r.volume.noteError(failure)
			return failure
		}
		r.io.Lock()
		now := r.view.snapshot
		switch {
		case r.gone:
			r.io.Unlock()
			return notFound(op, id)
		case now.state == chunk.Corrupt:
			r.io.Unlock()
			return err
		case now.cuts == v.cuts && now.segment == v.segment && now.at == v.at: // the bytes that were compared have not changed since
			s.quarantineLocked(r, err.Error())
			r.io.Unlock()
			return err
		}
		r.io.Unlock()
	}
	return chunkError(fault.Busy, op, id, "the replica was cut while it was verified, %d times", rangeRetriesMax)
}

// verifyData compares a replica's bytes with their sums. Error:
// fault.CorruptData, or that of a read.
func verifyData(f *filecache.File, id chunk.ID, v snapshot) error {
	sums, err := v.sums(f, 0, v.Length)
	if err != nil {
		return err
	}
	buffer := make([]byte, min(verifyBufferBytes, max(v.Length, 1)))
	for at := int64(0); at < v.Length; at += int64(len(buffer)) {
		buffer = buffer[:min(int64(len(buffer)), v.Length-at)]
		if err := vfs.ReadFull(f, buffer, v.dataAt()+at); err != nil {
			return err
		}
		for start := 0; start < len(buffer); start += blockBytes {
			data := buffer[start:min(start+blockBytes, len(buffer))]
			block := (at + int64(start)) / blockBytes
			if got, want := xxh3.Hash(data), chunkfile.SumIn(sums, block); got != want {
				return chunkError(fault.CorruptData, "verify replica", id, "block %d (bytes %d to %d) has sum %016x, recorded is %016x",
					block, block*blockBytes, block*blockBytes+int64(len(data)), got, want)
			}
		}
	}
	return nil
}
