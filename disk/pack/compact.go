package pack

import (
	"errors"
	"io/fs"
	"sync"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/disk/filecache"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// Owner knows which records are replicas.
type Owner interface {
	// Claim locks the replica of a record, so that it stays there until it is released; nil if the record is
	// not, or no longer, that of a replica.
	Claim(g *Segment, r Record) Claim
	// Left counts the replicas whose records are in a segment. It takes longer the more replicas there are.
	Left(g *Segment) int
}

// Claim is a replica that its Owner has locked.
type Claim interface {
	// Moved notes that the replica is now the record at offset of another segment.
	Moved(to *Segment, offset int64)
	// Corrupt takes the replica out of service, and its bytes out of the segment. It returns nil, or reason
	// if the record is still there.
	Corrupt(reason error) error
	// Release unlocks the replica.
	Release()
}

// Compactor frees the room of dead records: it moves what is left of a segment to the one that is being
// written, and unlinks it. One goroutine for each set, at compactRateBytes per second: a disk that hangs holds up only
// its own.
type Compactor struct {
	owner Owner
	clock clock.Clock
	done  chan struct{} // closed by Stop
}

// NewCompactor makes a compactor.
func NewCompactor(owner Owner, clock clock.Clock) *Compactor {
	return &Compactor{owner: owner, clock: clock, done: make(chan struct{})}
}

// Stop ends Run.
func (c *Compactor) Stop() { close(c.done) }

// Run compacts the segments of a set until Stop.
func (c *Compactor) Run(set *Set) {
	for {
		segment := c.next(set)
		if segment == nil {
			select {
			case <-set.wake:
				continue
			case <-c.done:
				return
			}
		}
		err := c.Compact(segment, c.pace)
		if errors.Is(err, ErrStopped) {
			return
		}
		if err != nil {
			set.options.Logger.Warn("segment could not be compacted, it is tried again later",
				"path", segment.Path(), "err", err)
			set.mu.Lock()
			segment.retryAt = c.clock.Now().Add(compactAgainDelay) // the others go on
			set.mu.Unlock()
			if !c.sleep(compactRetryDelay) {
				return
			}
		}
	}
}

// next is the segment of a set that holds the least of those worth it; nil: there is none.
func (c *Compactor) next(set *Set) (best *Segment) {
	now := c.clock.Now()
	set.mu.Lock()
	defer set.mu.Unlock()
	for _, g := range set.mu.segments {
		if !set.mu.retired && g.wasteful() && !now.Before(g.retryAt) && (best == nil || g.live < best.live) {
			best = g
		}
	}
	return best
}

// pace waits until so many bytes may have been moved. false: stop.
func (c *Compactor) pace(bytes int64) bool {
	return c.sleep(time.Duration(bytes) * time.Second / compactRateBytes)
}

func (c *Compactor) sleep(d time.Duration) bool {
	timer := c.clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return true
	case <-c.done:
		return false
	}
}

// ErrStopped is why a compaction broke off.
var ErrStopped = errors.New("the store is being closed")

// Compact moves the living records of a closed segment and unlinks it. pace is called between batches; false
// breaks it off. A segment that is gone is left alone.
//
// Crash points: a record that was moved is on the disk twice; the later one counts. It is struck at its old
// place before the replica can be deleted at the new one.
func (c *Compactor) Compact(segment *Segment, pace func(int64) bool) (err error) {
	set := segment.set
	set.mu.Lock()
	size, live, gone := segment.bytes, segment.live, segment.gone
	segment.busy = !gone
	set.mu.Unlock()
	if gone {
		return nil
	}
	defer func() {
		set.mu.Lock()
		segment.busy = false
		set.mu.Unlock()
	}()
	if live > 0 {
		if err := c.moveRecords(segment, size, pace); err != nil {
			return err
		}
	}
	// The header of a living record may be damaged: then nobody has met it.
	if left := c.owner.Left(segment); left > 0 {
		return fault.New(fault.CorruptData, opCompact, "%d replicas are left in %s whose headers are damaged", left,
			segment.Path())
	}
	if err := set.unlink(segment); err != nil {
		set.options.OnError(err)
		return err
	}
	set.options.Logger.Info("segment compacted", "path", segment.Path(), "bytes", size, "moved", live)
	return nil
}

const opCompact = "compact segment"

// moveRecords moves every living replica to the segment that is being written.
func (c *Compactor) moveRecords(g *Segment, size int64, pace func(int64) bool) error {
	file, err := g.Open(true)
	if err != nil {
		return vfs.Fault(opCompact, g.Path(), err)
	}
	defer g.set.options.Files.Release(file)
	all, err := scanSegment(file, size, g.name)
	if err != nil {
		return vfs.Fault(opCompact, g.Path(), err)
	}
	moving := &move{owner: c.owner, from: g, file: file}
	for records := all.records; len(records) > 0; {
		count := min(len(records), compactBatchMax)
		moving.bytes = 0
		for _, r := range records[:count] {
			moving.submit(r)
		}
		moving.waiting.Wait()
		if moving.err != nil {
			// What was moved must not come back here when its new place is gone.
			return errors.Join(moving.err, file.Datasync())
		}
		if moving.bytes > 0 && !pace(moving.bytes) {
			return ErrStopped
		}
		records = records[count:]
	}
	return nil
}

// move is the compaction of one segment.
type move struct {
	owner   Owner
	from    *Segment
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

// submit has the record of a living replica moved. A deleted one whose delay is not over goes with the
// segment: written again it would be younger than a new replica of the chunk.
func (m *move) submit(record Record) {
	if !record.removed.IsZero() {
		return
	}
	claim := m.owner.Claim(m.from, record)
	if claim == nil {
		return
	}
	data, err := m.data(record)
	if err != nil {
		if fault.KindOf(err) == fault.CorruptData {
			err = claim.Corrupt(err)
		}
		claim.Release()
		if err != nil {
			m.failed(err)
		}
		return
	}
	m.waiting.Add(1)
	job := &Job{Record: record, Data: data}
	job.Done = func(to *Segment, err error) {
		defer m.waiting.Done()
		defer claim.Release()
		if err == nil {
			claim.Moved(to, job.Offset)
			err = m.from.replaced(record)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			m.failed(err)
		}
	}
	m.bytes += record.bytes()
	m.from.set.Submit(job)
}

// data reads and verifies the bytes of a record.
func (m *move) data(r Record) ([]byte, error) {
	data := make([]byte, r.Length)
	if err := vfs.ReadFull(m.file, data, DataOffset(r.Offset)); err != nil {
		e := vfs.Fault(opCompact, m.from.Path(), err)
		e.Chunk = r.ID.String()
		return nil, e
	}
	if got := xxh3.Hash(data); got != r.Sum {
		e := fault.New(fault.CorruptData, opCompact, "the record at %d has sum %016x, recorded is %016x",
			r.Offset, got, r.Sum)
		e.Chunk = r.ID.String()
		return nil, e
	}
	return data, nil
}
