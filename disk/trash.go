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
)

// trash takes replicas that are deleted, and unlinks what has waited in it long enough. It owns the trash
// directories, and runs one goroutine per store, and one for what is being discarded.
type trash struct {
	*env
	index *index
	wake  chan struct{}  // capacity 1: there is something new
	done  chan struct{}  // closed by stop
	group sync.WaitGroup // of what is being discarded: more than one only after a disk that hangs

	mu struct {
		sync.Mutex
		items  []trashItem // by number: in the order in which they are due, but for one that was put back
		taken  int         // of items: they have only their number, and the first has not been taken
		number uint64      // the highest so far
		// held are those of a volume that is being read: nothing is discarded there before it is in service.
		held map[*volume][]trashItem
	}
}

// trashItem is a file, or a record.
type trashItem struct {
	volume *volume
	path   string      // of the file
	record *pack.Found // path is empty
	due    time.Time
	number uint64
}

// taken tells whether somebody has the item: its place in the list is left empty.
func (item *trashItem) taken() bool { return item.volume == nil }

// name is what the replica was.
func (item *trashItem) name() chunkfile.Name {
	if r := item.record; r != nil {
		return chunkfile.Name{ID: r.ID, Generation: r.Generation, Sealed: true, Length: r.Length}
	}
	parked, _ := chunkfile.ParseParkedName(path.Base(item.path)) // it was made or read so
	return parked.Name
}

func newTrash(e *env, x *index) *trash {
	return &trash{env: e, index: x, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// load lists what earlier runs left in the trash of a volume. A time in the future is a clock that was set back: it
// counts from now.
func (t *trash) load(volume *volume) error {
	now := t.options.Clock.Now()
	directory := volume.path(trashDirectory)
	entries, err := volume.fs.ReadDir(directory)
	if err != nil {
		return diskError("list trash", directory, chunk.ID{}, err)
	}
	for _, entry := range entries {
		parked, ok := chunkfile.ParseParkedName(entry.Name())
		if !ok {
			volume.logger.Warn("file in the trash is not a replica and is left alone",
				"path", path.Join(directory, entry.Name()))
			continue
		}
		at := parked.At
		if at.After(now) {
			at = now
		}
		item := trashItem{volume: volume, path: path.Join(directory, entry.Name()), due: at.Add(t.options.TrashDelay)}
		t.wait(item)
	}
	return nil
}

// takeLocked moves the replica's file to the trash, strikes its record, or marks a corrupt one as forgotten,
// and drops it from the index. The move is not durable.
func (t *trash) takeLocked(replica *replica) error {
	const op = "delete replica"
	volume, seen := replica.volume, replica.view.snapshot
	now := t.options.Clock.Now()
	var err error
	switch seen.place.kind {
	case inMemory:
	case inRecord:
		strike := seen.place.segment.Remove
		if seen.state == chunk.Corrupt { // it could not be set aside
			strike = seen.place.segment.RemoveDurably
		}
		err = strike(replica.record(seen))
	case aside:
		err = volume.fs.Rename(replica.path(), replica.path()+forgottenSuffix)
		if errors.Is(err, fs.ErrNotExist) { // its file was gone, or somebody has emptied the quarantine
			err = nil
		}
	default:
		var parked string
		name := replica.name(seen)
		parked, err = volume.park(trashDirectory, name.Relative(), chunkfile.ParkedName{At: now, Name: name})
		if err == nil {
			t.wait(trashItem{volume: volume, path: volume.path(parked), due: now.Add(t.options.TrashDelay)})
		}
	}
	if err != nil {
		return replica.ioErrorLocked(op, err)
	}
	replica.endSessionLocked()
	t.files.Detach(&replica.Owner)
	t.index.removeLocked(replica)
	return nil
}

// expire has the room of a record that was removed at a time freed after the delay.
func (t *trash) expire(volume *volume, record pack.Found, at time.Time) {
	t.wait(trashItem{volume: volume, record: &record, due: at.Add(t.options.TrashDelay)})
}

// sort puts what a start found in order.
func (t *trash) sort() {
	t.mu.Lock()
	defer t.mu.Unlock()
	slices.SortFunc(t.mu.items, func(a, b trashItem) int { return a.due.Compare(b.due) })
	for i := range t.mu.items {
		t.mu.items[i].number = uint64(i + 1)
	}
}

// wait puts an item behind all others. One that was put back may so be late.
func (t *trash) wait(item trashItem) {
	t.mu.Lock()
	if _, held := t.mu.held[item.volume]; held {
		t.mu.held[item.volume] = append(t.mu.held[item.volume], item)
		t.mu.Unlock()
		return
	}
	t.mu.number++
	item.number = t.mu.number
	t.mu.items = append(t.mu.items, item)
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// hold keeps what is in the trash of a volume out of everybody's hands, until serve or forget.
func (t *trash) hold(v *volume) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.held == nil {
		t.mu.held = make(map[*volume][]trashItem)
	}
	t.mu.held[v] = nil
}

// serve ends hold.
func (t *trash) serve(v *volume) {
	t.mu.Lock()
	items := t.mu.held[v]
	delete(t.mu.held, v)
	t.mu.Unlock()
	slices.SortFunc(items, func(a, b trashItem) int { return a.due.Compare(b.due) })
	for _, item := range items {
		t.wait(item)
	}
}

// forget leaves what is in the trash of a volume there for ever.
func (t *trash) forget(v *volume) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.mu.held, v)
	t.mu.items = slices.DeleteFunc(t.mu.items, func(item trashItem) bool { return item.taken() || item.volume == v })
	t.mu.taken = 0
}

func (t *trash) stop() { close(t.done) }

func (t *trash) run() {
	for {
		item, wait, waiting := t.next(t.options.Clock.Now())
		if waiting && wait <= 0 {
			t.unlink(item)
			select {
			case <-t.done:
				return
			default:
			}
			continue
		}
		if !waiting {
			select {
			case <-t.wake:
			case <-t.done:
				return
			}
			continue
		}
		timer := t.options.Clock.NewTimer(wait)
		select {
		case <-timer.C():
		case <-t.wake:
		case <-t.done:
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// next removes the first item if it is due, else returns how long until it is.
func (t *trash) next(now time.Time) (item trashItem, wait time.Duration, waiting bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.mu.items) == 0 {
		return trashItem{}, 0, false
	}
	item = t.mu.items[0]
	if wait = item.due.Sub(now); wait > 0 {
		return item, wait, true
	}
	t.removeLocked(0)
	return item, 0, true
}

// removeLocked takes an item out of the list. Those behind it are moved only when half of the places are empty.
func (t *trash) removeLocked(at int) {
	t.mu.items[at] = trashItem{number: t.mu.items[at].number}
	t.mu.taken++
	for len(t.mu.items) > 0 && t.mu.items[0].taken() {
		t.mu.items = t.mu.items[1:]
		t.mu.taken--
	}
	if t.mu.taken > len(t.mu.items)/2 {
		t.mu.items = slices.DeleteFunc(t.mu.items, func(item trashItem) bool { return item.taken() })
		t.mu.taken = 0
	}
}

// unlink discards what is due. What fails is tried again by the next start. A disk that hangs is not waited for any
// more when it is out of service: the others need their room.
func (t *trash) unlink(item trashItem) {
	if item.volume.draining.Load() {
		return // what was on a disk that is removed stays there
	}
	done := make(chan struct{})
	t.group.Go(func() {
		defer close(done)
		if err := item.discard(); err != nil {
			item.volume.logger.Warn("cannot unlink a deleted replica", "path", item.path, "err", err)
		}
	})
	select {
	case <-done:
	case <-item.volume.health.Gone():
	}
}

// discard removes the file, or frees the room of the record.
func (item *trashItem) discard() error {
	if r := item.record; r != nil {
		r.Segment.Free(r.Record)
		return nil
	}
	err := item.volume.fs.Remove(item.path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	item.volume.noteError(err)
	return err
}
