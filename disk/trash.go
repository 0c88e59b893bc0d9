package disk

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/disk/pack"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// Delete takes a replica out of service: from now on it is not found, and its
// file waits in the trash for Options.TrashDelay. A writer is fenced; readers
// finish. The move is not synced: after a power failure the replica may be
// back. A corrupt replica is forgotten, its file stays in quarantine.
//
// Errors: fault.NotFound; fault.StaleGeneration if the replica has another
// generation than gen; fault.Disk, and the replica stays.
func (s *Store) Delete(id chunk.ID, gen chunk.Generation) error {
	const op = "delete replica"
	r := s.lookup(id)
	if r == nil {
		return notFound(op, id)
	}
	r.io.Lock()
	defer r.io.Unlock()
	if r.gone {
		return notFound(op, id)
	}
	if r.view.Generation != gen {
		return chunkError(fault.StaleGeneration, op, id, "the replica has generation %d, the order is for %d", r.view.Generation, gen)
	}
	if err := s.removeLocked(r); err != nil {
		return err
	}
	if r.view.hidden {
		return nil // nobody was told that it was there
	}
	s.options.OnEvent(Event{Kind: Removed, Replica: r.describe(r.view.snapshot)})
	return nil
}

// removeLocked moves the replica's file to the trash, strikes its record, or
// marks a corrupt one as forgotten, and drops it from the index.
func (s *Store) removeLocked(r *replica) error {
	if r.small != nil {
		return s.forgetLocked(r)
	}
	v, source := r.volume, r.relativePath()
	var parked string
	var err error
	if r.view.segment != nil {
		strike := r.view.segment.Remove
		if r.view.state == chunk.Corrupt { // it could not be set aside
			strike = r.view.segment.RemoveDurably
		}
		if err := strike(r.record(r.view.snapshot)); err != nil {
			return r.blameLocked("delete replica", err)
		}
		return s.forgetLocked(r)
	}
	if r.view.state == chunk.Corrupt {
		err = s.fs.Rename(v.path(source), v.path(source+forgottenSuffix))
	} else {
		name := chunkfile.ParkedName{At: s.options.Clock.Now(), Name: r.name(r.view.snapshot)}
		parked, err = v.park(trashDirectory, source, name)
	}
	if err != nil {
		failure := diskError("delete replica", v.path(source), r.id, err)
		v.noteError(failure)
		return failure
	}
	if parked != "" {
		s.trash.add(v, parked, s.options.Clock.Now())
	}
	return s.forgetLocked(r)
}

// forgetLocked drops a replica from memory. It returns nil.
func (s *Store) forgetLocked(r *replica) error {
	s.endSessionLocked(r)
	s.files.Detach(&r.Owner)
	r.small, r.gone = nil, true
	s.drop(r)
	return nil
}

// janitor unlinks what has waited in the trash long enough.
type janitor struct {
	store *Store
	wake  chan struct{} // capacity 1: there is something new
	done  chan struct{} // closed by stop

	mu struct {
		sync.Mutex
		items []trashItem // by due time
	}
}

// trashItem is a file, or a record.
type trashItem struct {
	volume  *volume
	path    string
	segment *pack.Segment // of the record; path is empty
	bytes   int64         // of the record
	due     time.Time
}

// newJanitor lists what earlier runs left in the trash. A time in the future is
// a clock that was set back: it counts from now.
func newJanitor(s *Store) (*janitor, error) {
	j := &janitor{store: s, wake: make(chan struct{}, 1), done: make(chan struct{})}
	now := s.options.Clock.Now()
	for _, v := range s.volumes {
		directory := v.path(trashDirectory)
		entries, err := v.fs.ReadDir(directory)
		if err != nil {
			return nil, diskError("list trash", directory, chunk.ID{}, err)
		}
		for _, entry := range entries {
			parked, ok := chunkfile.ParseParkedName(entry.Name())
			if !ok {
				v.logger.Warn("file in the trash is not a replica and is left alone", "path", path.Join(directory, entry.Name()))
				continue
			}
			at := parked.At
			if at.After(now) {
				at = now
			}
			j.mu.items = append(j.mu.items, trashItem{volume: v, path: path.Join(directory, entry.Name()), due: at.Add(s.options.TrashDelay)})
		}
	}
	slices.SortFunc(j.mu.items, func(a, b trashItem) int { return a.due.Compare(b.due) })
	return j, nil
}

// add takes a file that was moved into the trash now.
func (j *janitor) add(v *volume, relative string, now time.Time) {
	j.wait(trashItem{volume: v, path: v.path(relative), due: now.Add(j.store.options.TrashDelay)})
}

// addRecord takes a record that was struck at a time.
func (j *janitor) addRecord(g *pack.Segment, bytes int64, at time.Time) {
	j.wait(trashItem{segment: g, bytes: bytes, due: at.Add(j.store.options.TrashDelay)})
}

// wait puts an item at its place.
func (j *janitor) wait(item trashItem) {
	j.mu.Lock()
	at := len(j.mu.items) // nearly always the last to be due
	for at > 0 && j.mu.items[at-1].due.After(item.due) {
		at--
	}
	j.mu.items = slices.Insert(j.mu.items, at, item)
	j.mu.Unlock()
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

func (j *janitor) stop() { close(j.done) }

func (j *janitor) run(group *sync.WaitGroup) {
	defer group.Done()
	clock := j.store.options.Clock
	for {
		item, wait, any := j.next(clock.Now())
		if any && wait <= 0 {
			j.unlink(item)
			select {
			case <-j.done:
				return
			default:
			}
			continue
		}
		if !any {
			select {
			case <-j.wake:
			case <-j.done:
				return
			}
			continue
		}
		timer := clock.NewTimer(wait)
		select {
		case <-timer.C():
		case <-j.wake:
		case <-j.done:
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// next takes the first item if it is due, else tells how long until it is.
func (j *janitor) next(now time.Time) (item trashItem, wait time.Duration, any bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.mu.items) == 0 {
		return trashItem{}, 0, false
	}
	item = j.mu.items[0]
	if wait = item.due.Sub(now); wait > 0 {
		return item, wait, true
	}
	j.mu.items[0] = trashItem{}
	j.mu.items = j.mu.items[1:]
	return item, 0, true
}

// unlink removes one file, or gives the room of a record up. What fails is tried again by the next start.
func (j *janitor) unlink(item trashItem) {
	if item.segment != nil {
		item.segment.Free(item.bytes)
		return
	}
	err := j.store.fs.Remove(item.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		item.volume.noteError(err)
		item.volume.logger.Warn("cannot unlink a deleted replica", "path", item.path, "err", err)
	}
}
