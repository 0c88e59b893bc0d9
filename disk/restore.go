package disk

import (
	"cmp"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// Trashed is a deleted replica that the trash still has.
type Trashed struct {
	chunk.Replica        // Open: it is recovered when it is restored; 0: a copy that was never whole
	VolumeID      string // of its volume
	Deleted       time.Time
	Until         time.Time // its room is free then
	Number        uint64    // its place in the trash, until the store is closed: what goes sooner comes first
}

// list is Store.Trash.
func (t *trash) list(of chunk.ID, after uint64, most int) (list []Trashed) {
	for len(list) < most {
		items := t.page(after, most-len(list))
		if len(items) == 0 {
			break
		}
		for _, item := range items {
			after = item.number
			if !of.IsZero() && item.name().ID != of {
				continue
			}
			if entry, ok := t.describe(item); ok {
				list = append(list, entry)
			}
		}
	}
	return list
}

// page copies the items behind a place.
func (t *trash) page(after uint64, most int) (items []trashItem) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at, _ := t.findLocked(after + 1)
	for ; at < len(t.mu.items) && len(items) < most; at++ {
		if item := t.mu.items[at]; !item.taken() {
			items = append(items, item)
		}
	}
	return items
}

// findLocked finds an item, or where it would be.
func (t *trash) findLocked(number uint64) (at int, found bool) {
	return slices.BinarySearchFunc(t.mu.items, number,
		func(item trashItem, number uint64) int { return cmp.Compare(item.number, number) })
}

// describe tells what an item is; not ok if it cannot be restored: its volume does not answer, it or its segment is
// gone, or its record was only moved or unpacked.
func (t *trash) describe(item trashItem) (Trashed, bool) {
	name := item.name()
	entry := Trashed{Replica: chunk.Replica{ID: name.ID, Generation: name.Generation, Length: name.Length},
		VolumeID: item.volume.id, Deleted: item.due.Add(-t.options.TrashDelay), Until: item.due, Number: item.number}
	switch {
	case !item.volume.answers():
		return Trashed{}, false
	case item.record != nil && item.record.Segment.Gone():
		return Trashed{}, false
	case name.Sealed:
		entry.State = chunk.Sealed
	default:
		info, err := item.volume.fs.Stat(item.path)
		if err != nil {
			return Trashed{}, false
		}
		entry.Length = info.Size()
		if !name.Hidden {
			entry.State = chunk.Open
		}
	}
	if item.record != nil {
		live := t.index.lookup(name.ID)
		if live != nil && live.snapshot().Generation == name.Generation {
			return Trashed{}, false
		}
	}
	return entry, true
}

// take takes an item out of the trash's list, in a time that does not grow with that: deletions wait for it, and hold
// locks of replicas meanwhile.
func (t *trash) take(op string, id chunk.ID, generation chunk.Generation, number uint64) (trashItem, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at, found := t.findLocked(number); found {
		item := t.mu.items[at]
		if name := item.name(); !item.taken() && name.ID == id && name.Generation == generation {
			t.removeLocked(at)
			return item, nil
		}
	}
	return trashItem{}, chunkError(fault.NotFound, op, id, "generation %d is not in the trash (any more)", generation)
}

// empty is Store.EmptyTrash.
func (t *trash) empty(id chunk.ID, generation chunk.Generation, number uint64) error {
	const op = "empty trash"
	item, err := t.take(op, id, generation, number)
	if err != nil {
		return err
	}
	if err := item.discard(); err != nil {
		t.wait(item)
		return diskError(op, item.path, id, err)
	}
	return nil
}

// restorer brings replicas back from the trash. What it takes up is never overwritten: neither a replica that came
// meanwhile, nor a file that lies where the replica's was.
type restorer struct {
	*env
	index    *index
	trash    *trash
	unpacker *unpacker
	scan     *scan // recovers what was open
}

// restore is Store.Restore.
func (s *restorer) restore(id chunk.ID, generation chunk.Generation, number uint64) error {
	item, err := s.trash.take(opRestore, id, generation, number)
	if err != nil {
		return err
	}
	err = s.bringBack(item)
	if err != nil && !errors.Is(err, fault.CorruptData) && item.there() { // else it is in quarantine now
		s.trash.wait(item)
	}
	return err
}

const opRestore = "restore replica"

// there tells whether the item is still in the trash, as far as one can see.
func (item *trashItem) there() bool {
	if item.record != nil {
		return !item.record.Segment.Gone()
	}
	_, err := item.volume.fs.Stat(item.path)
	return !errors.Is(err, fs.ErrNotExist)
}

func (s *restorer) bringBack(item trashItem) error {
	name := item.name()
	if name.Hidden {
		return chunkError(fault.Invalid, opRestore, name.ID, "it is a copy that was never whole")
	}
	if err := item.volume.outError(opRestore, name.ID); err != nil {
		return err
	}
	back := &replica{id: name.ID, volume: item.volume}
	back.io.Lock()
	defer back.io.Unlock()
	back.view.Generation, back.view.Length = name.Generation, name.Length
	if err := s.index.insert(back); err != nil {
		return err
	}
	target := item.volume.path(name.Relative())
	err := back.requireNoFileLocked(target)
	if err == nil {
		bring := s.fileLocked
		if item.record != nil {
			bring = s.recordLocked
		}
		err = bring(back, item, target)
	}
	switch {
	case err == nil || back.failed != nil && back.view.state == chunk.Sealed && back.view.place.kind == inFile:
		back.reportLocked(Stored, "")
	case !back.gone && back.view.state != chunk.Corrupt && back.failed == nil:
		s.index.loseLocked(back)
	}
	return err
}

// requireNoFileLocked refuses to take the place of a file.
func (r *replica) requireNoFileLocked(name string) error {
	switch _, err := r.volume.fs.Stat(name); {
	case err == nil:
		return chunkError(fault.Exists, opRestore, r.id, "the file %s is there already", name)
	case !errors.Is(err, fs.ErrNotExist):
		return r.ioErrorLocked(opRestore, err)
	}
	return nil
}

// fileLocked moves a file back, durably. *Power fails*: it is at one of the two places. After an error it is in the
// trash again, or in quarantine. If that fails too, it stays in the index, failed, until a start looks at it.
func (s *restorer) fileLocked(back *replica, item trashItem, target string) error {
	volume := back.volume
	if err := volume.fs.Rename(item.path, target); err != nil {
		return back.ioErrorLocked(opRestore, err)
	}
	err := s.takeUpLocked(back, item.name().Sealed)
	if err == nil || back.gone || back.view.state == chunk.Corrupt {
		return err
	}
	back.endSessionLocked()
	s.files.Detach(&back.Owner)
	back.failed = nil
	undo := volume.fs.Rename(target, item.path)
	if undo == nil {
		return err
	}
	volume.logger.Error("replica can be neither restored nor put back into the trash; the next start takes it up",
		"chunk", back.id, "path", target, "err", undo)
	if item.name().Sealed {
		back.updateLocked(func(v *snapshot) { v.state = chunk.Sealed })
	}
	return errors.Join(err, back.failLocked(opRestore, undo))
}

// takeUpLocked makes the new name of a file durable. One that was open is recovered as by a start.
func (s *restorer) takeUpLocked(back *replica, sealed bool) error {
	v := back.volume
	if err := errors.Join(v.fs.SyncDir(back.directory()), v.fs.SyncDir(v.path(trashDirectory))); err != nil {
		return back.ioErrorLocked(opRestore, err)
	}
	back.named = true
	state := chunk.Sealed
	if !sealed {
		state = chunk.Recovered
		if err := s.scan.recoverLocked(back); err != nil {
			return err
		}
		if back.gone || back.view.state == chunk.Corrupt {
			return chunkError(fault.CorruptData, opRestore, back.id, "nothing of it was ever synced, or it is corrupt")
		}
	}
	back.updateLocked(func(v *snapshot) { v.state = state })
	return nil
}

// recordLocked gives a record that was struck a file. The record stays struck: at one generation a file counts before
// a record, so it does no harm if a power failure brings the record back too. After an error there is no file, as long
// as there is the record. *Power fails*: the file may be there again, whole.
func (s *restorer) recordLocked(back *replica, item trashItem, target string) error {
	record := item.record
	if record.Segment.Gone() {
		return chunkError(fault.NotFound, opRestore, back.id, "its segment was compacted")
	}
	back.updateLocked(func(v *snapshot) {
		v.state, v.readable, v.layout = chunk.Sealed, true, chunkfile.Layout{ChunkSize: record.ChunkSize}
		v.Partial, v.place = record.Sum, recordAt(record.Segment, record.Offset)
	})
	err := s.unpacker.unpackLocked(back)
	switch {
	case err == nil || back.view.state == chunk.Corrupt:
		return err
	case back.view.place.kind == inFile: // whole, and durable
		back.volume.logger.Warn("replica is restored, and takes no appends until the next start", "chunk", back.id,
			"gen", back.view.Generation, "err", err)
		return nil
	}
	back.failed = nil // a try again makes another file
	if record.Segment.Gone() {
		return err // the file, if there is one, is all there is
	}
	if remove := back.volume.fs.Remove(target); remove != nil && !errors.Is(remove, fs.ErrNotExist) {
		err = errors.Join(err, back.ioErrorLocked(opRestore, remove))
	}
	return err
}
