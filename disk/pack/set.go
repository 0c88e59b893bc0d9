package pack

import (
	"cmp"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/disk/filecache"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/vfs"
)

// Options of a Set. All are needed, but for ZeroBytes.
type Options struct {
	FS           vfs.FS
	Directory    string // of the segments' files; it is there
	Files        *filecache.Cache
	Logger       *slog.Logger
	Clock        clock.Clock
	SegmentBytes int64 // size of a segment
	ZeroBytes    int64 // written ahead in a segment; 0: 1 MiB
	TrashDelay   time.Duration
	Random       func([]byte) error // fills the key of a new segment
	// OnError counts an I/O error against the volume.
	OnError func(error)
	// Expire has Segment.Free called when the trash delay of a record that was removed at a time is over.
	Expire func(removed Found, at time.Time)
}

// Set is the segments of one volume, with the packer that appends to the last of them.
type Set struct {
	options Options
	packer  *packer
	naming  sync.Mutex    // held while a file is made and becomes a segment: it is no stray
	wake    chan struct{} // capacity 1: the compactor looks for work

	mu struct {
		sync.Mutex
		segments map[uint64]*Segment // by sequence
		retired  bool
	}
}

// New makes an empty Set. The caller calls Load, then Run on a goroutine.
func New(o Options) *Set {
	if o.ZeroBytes == 0 {
		o.ZeroBytes = zeroBytesDefault
	}
	s := &Set{options: o, wake: make(chan struct{}, 1)}
	s.packer = &packer{set: s, queue: make(chan *Job, queueDepth)}
	s.mu.segments = make(map[uint64]*Segment)
	return s
}

// Submit queues a job, and waits for a place in the queue.
func (s *Set) Submit(j *Job) { s.packer.queue <- j }

// TrySubmit queues a job unless the queue is full.
func (s *Set) TrySubmit(j *Job) bool {
	select {
	case s.packer.queue <- j:
		return true
	default:
		return false
	}
}

// Run is the packer: it works until Close, and what is queued by then is done.
func (s *Set) Run() { s.packer.run() }

// Close ends the queue; nothing may be submitted any more.
func (s *Set) Close() { close(s.packer.queue) }

// Retire closes the files that nobody uses, and has the compactor leave the segments alone.
func (s *Set) Retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.retired = true
	for _, g := range s.mu.segments {
		s.options.Files.Detach(&g.Owner)
	}
}

// Closed lists the segments that nothing is appended to any more, oldest first.
func (s *Set) Closed() []*Segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*Segment
	for _, g := range s.mu.segments {
		if g.closed {
			list = append(list, g)
		}
	}
	slices.SortFunc(list, func(a, b *Segment) int { return cmp.Compare(a.name.sequence, b.name.sequence) })
	return list
}

// update changes the counts of a segment, and wakes the compactor if that made compacting it pay.
func (s *Set) update(g *Segment, change func()) {
	s.mu.Lock()
	change()
	due := g.wasteful()
	s.mu.Unlock()
	if due {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// lost tells whether the file of a segment has gone.
func (s *Set) lost(g *Segment) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return g.lost
}

// add takes a segment into the set.
func (s *Set) add(g *Segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.segments[g.name.sequence] = g
}

// create makes an empty segment; its file is not durable yet. The caller has one use of the file.
func (s *Set) create(n segmentName) (*Segment, *filecache.File, error) {
	s.naming.Lock()
	defer s.naming.Unlock()
	segment := &Segment{set: s, name: n, bytes: chunkfile.SectorBytes}
	inner, err := s.options.FS.OpenFile(segment.Path(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, nil, err
	}
	b := make([]byte, chunkfile.SectorBytes)
	putSegmentHeader(b, n)
	if _, err := inner.WriteAt(b, 0); err != nil {
		// What cannot be removed is found empty by the next start.
		return nil, nil, errors.Join(err, inner.Close(), s.options.FS.Remove(segment.Path()))
	}
	s.add(segment)
	return segment, s.options.Files.Add(&segment.Owner, inner, true), nil
}

// unlink removes a segment without live records, durably.
func (s *Set) unlink(segment *Segment) error {
	const op = "remove segment"
	if err := s.options.FS.Remove(segment.Path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return vfs.Fault(op, segment.Path(), err)
	}
	s.mu.Lock()
	segment.gone = true
	delete(s.mu.segments, segment.name.sequence)
	s.mu.Unlock()
	s.options.Files.Detach(&segment.Owner)
	if err := s.options.FS.SyncDir(s.options.Directory); err != nil {
		return vfs.Fault(op, segment.Path(), err)
	}
	return nil
}

// failure is an I/O error that counts against the volume.
func (s *Set) failure(op, path string, err error) error {
	e := vfs.Fault(op, path, err)
	s.options.OnError(e)
	return e
}
