package disk

import (
	"errors"
	"io/fs"
	"sync"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/disk/filecache"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// compactor gives the room of dead records back: it moves what is left of a
// segment to the one that is being written, and unlinks it. One goroutine per
// store, at compactRateBytes per second.
type compactor struct {
	store *Store
	wake  chan struct{} // capacity 1
	done  chan struct{} // closed by stop
}

func newCompactor(s *Store) *compactor {
	return &compactor{store: s, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// look makes the compactor look for work.
func (c *compactor) look() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *compactor) stop() { close(c.done) }

func (c *compactor) run(group *sync.WaitGroup) {
	defer group.Done()
	for {
		g := c.next()
		if g == nil {
			select {
			case <-c.wake:
				continue
			case <-c.done:
				return
			}
		}
		err := c.store.compact(g, c.pace)
		if errors.Is(err, errStopped) {
			return
		}
		if err != nil {
			g.volume.logger.Warn("segment could not be compacted, it is tried again later", "path", g.path(), "err", err)
			if !c.sleep(compactRetryDelay) {
				return
			}
		}
	}
}

// next takes the segment that holds the least of those worth it.
func (c *compactor) next() (best *segment) {
	for _, v := range c.store.volumes {
		v.pack.mu.Lock()
		for _, g := range v.pack.mu.segments {
			if g.wasteful() && (best == nil || (best.volume == v && g.live < best.live)) {
				best = g
			}
		}
		if best != nil {
			best.busy = true
		}
		v.pack.mu.Unlock()
		if best != nil {
			return best
		}
	}
	return nil
}

// pace waits until so many bytes may have been moved. false: stop.
func (c *compactor) pace(bytes int64) bool {
	return c.sleep(time.Duration(bytes) * time.Second / compactRateBytes)
}

func (c *compactor) sleep(d time.Duration) bool {
	timer := c.store.options.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return true
	case <-c.done:
		return false
	}
}

var errStopped = errors.New("the store is being closed")

// compact moves the living records of a closed, busy segment and unlinks it.
// pace is called between batches.
//
// Crash points: a record that was moved is on the disk twice; the later one
// counts. It is struck at its old place before the replica can be deleted at the
// new one.
func (s *Store) compact(g *segment, pace func(int64) bool) (err error) {
	p := g.volume.pack
	defer func() {
		p.mu.Lock()
		g.busy = false
		p.mu.Unlock()
	}()
	p.mu.Lock()
	size, live := g.bytes, g.live
	p.mu.Unlock()
	if live > 0 {
		if err := s.moveRecords(g, size, pace); err != nil {
			return err
		}
	}
	if err := s.unlinkSegment(g); err != nil {
		g.volume.noteError(err)
		return err
	}
	g.volume.logger.Info("segment compacted", "path", g.path(), "bytes", size, "moved", live)
	return nil
}

// moveRecords moves every living replica to the segment that is being written.
func (s *Store) moveRecords(g *segment, size int64, pace func(int64) bool) error {
	f, err := s.openSegment(g, true)
	if err != nil {
		return diskError("compact segment", g.path(), chunk.ID{}, err)
	}
	defer s.files.Release(f)
	all, err := scanSegment(f, size, g.name)
	if err != nil {
		return diskError("compact segment", g.path(), chunk.ID{}, err)
	}
	m := &move{store: s, from: g, file: f}
	for records := all.records; len(records) > 0; {
		n := min(len(records), compactBatchMax)
		m.bytes = 0
		for _, r := range records[:n] {
			m.submit(r)
		}
		m.waiting.Wait()
		if m.err != nil {
			// What was moved must not come back here when its new place is gone.
			return errors.Join(m.err, f.Datasync())
		}
		if m.bytes > 0 && !pace(m.bytes) {
			return errStopped
		}
		records = records[n:]
	}
	return nil
}

// move is the compaction of one segment.
type move struct {
	store   *Store
	from    *segment
	file    *filecache.File
	bytes   int64 // submitted in this batch
	waiting sync.WaitGroup

	mu  sync.Mutex
	err error
}

func (m *move) failed(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = errors.Join(m.err, err)
}

// submit has the record of a living replica moved. A deleted one whose delay is
// not over goes with the segment: written again it would be younger than a new
// replica of the chunk.
func (m *move) submit(rec record) {
	r := m.store.lookup(rec.id)
	if r == nil || !rec.removed.IsZero() {
		return
	}
	r.io.Lock()
	if r.gone || r.view.segment != m.from || r.view.at != rec.offset {
		r.io.Unlock()
		return
	}
	m.submitLocked(r, rec)
}

// submitLocked moves a living replica; the packer gives its lock back.
func (m *move) submitLocked(r *replica, rec record) {
	s := m.store
	data, err := m.data(rec)
	if err != nil {
		if fault.KindOf(err) == fault.CorruptData && r.view.state != chunk.Corrupt {
			s.quarantineLocked(r, err.Error())
			if r.view.segment == nil {
				err = nil // it is out of the way
			}
		}
		r.io.Unlock()
		if err != nil {
			m.failed(err)
		}
		return
	}
	m.enqueue(&packJob{record: rec, data: data, done: func(j *packJob, to *segment, err error) {
		defer m.waiting.Done()
		defer r.io.Unlock()
		if err == nil {
			old := rec
			r.updateLocked(func(v *snapshot) { v.segment, v.at = to, j.offset })
			if err = s.strike(m.from, old, s.options.Clock.Now(), false); err == nil {
				r.volume.pack.shrink(m.from, old.bytes())
			}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			m.failed(err)
		}
	}})
}

func (m *move) enqueue(j *packJob) {
	m.waiting.Add(1)
	m.bytes += j.bytes()
	m.from.volume.pack.packer.queue <- j
}

// data reads and verifies the bytes of a record.
func (m *move) data(r record) ([]byte, error) {
	data := make([]byte, r.length)
	if err := vfs.ReadFull(m.file, data, r.offset+chunkfile.SectorBytes); err != nil {
		return nil, diskError("compact segment", m.from.path(), r.id, err)
	}
	if got := xxh3.Hash(data); got != r.sum {
		return nil, chunkError(fault.CorruptData, "compact segment", r.id, "the record at %d has sum %016x, recorded is %016x", r.offset, got, r.sum)
	}
	return data, nil
}
