// Package copier makes replicas by pulling them from other datanodes, every block verified before it is written.
//
// A Copier bounds how many copies run and wait. A copy runs on a goroutine of its own, for which its caller waits;
// disk workers carry out its writes. A task (task.go) is one copy: it alone owns the hidden replica that it writes,
// until that is whole. A caller does not wait for a disk that hangs (diskwatch.go): the copy has failed then, and its
// goroutine, of which there are at most so many, ends when the disk goes on.
//
// The package does not choose what is copied, nor from where. It does not know gnet, and nothing of sessions.
package copier

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whispering-woods/ww/dataplane/peers"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/disk"
	"github.com/whispering-woods/ww/internal/bufpool"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

// Options configure a Copier; all are wanted.
type Options struct {
	Store   *disk.Store
	Peers   *peers.Pool
	Buffers *bufpool.Pool
	Clock   clock.Clock
	Logger  *slog.Logger
	// RunningMax and WaitingMax bound the copies that run at once, and those that wait for them.
	RunningMax, WaitingMax int
	// StepTimeout is how long a source may send nothing; SilenceTimeout is that while there are others to ask.
	StepTimeout, SilenceTimeout time.Duration
	// DiskTimeout is how long the disk may do nothing for a copy that waits for it.
	DiskTimeout time.Duration
}

// Copier copies replicas. Two copies of one chunk run one after the other. Safe for concurrent use.
type Copier struct {
	Options
	slots chan struct{}
	asked atomic.Int64   // running and waiting
	work  sync.WaitGroup // copies, and what disk workers do for them

	copies, failed, bytesPulled atomic.Uint64
	diskJobs                    atomic.Int64 // submitted and not done

	mu struct {
		sync.Mutex
		running map[chunk.ID]*running
		hanging int                  // of running: at most hangingMax
		silent  map[string]time.Time // sources, by address, that are asked last until then; at most silentMax
	}
}

// running is a copy that runs.
type running struct {
	ended chan struct{} // closed at its end
	hangs chan struct{} // closed when its caller no longer waits for it, because its disk hangs
}

// New returns a copier.
func New(o Options) *Copier {
	c := &Copier{Options: o, slots: make(chan struct{}, o.RunningMax)}
	c.mu.running, c.mu.silent = make(map[chunk.ID]*running), make(map[string]time.Time)
	return c
}

// Stats are counters since the start, except Pending and DiskJobs, which are now.
type Stats struct {
	Copies, Failed uint64
	BytesPulled    uint64 // verified
	Pending        int64  // copies that run or wait
	Hanging        int    // copies that were given up, because their disks hang
	DiskJobs       int64  // submitted and not done
}

// Stats returns the counters.
func (c *Copier) Stats() Stats {
	c.mu.Lock()
	hanging := c.mu.hanging
	c.mu.Unlock()
	return Stats{Copies: c.copies.Load(), Failed: c.failed.Load(), BytesPulled: c.bytesPulled.Load(),
		Pending: c.asked.Load(), Hanging: hanging, DiskJobs: c.diskJobs.Load()}
}

// Wait returns when no disk works for a copy any more, those that hang included. No Copy may run.
func (c *Copier) Wait() { c.work.Wait() }

// Result is what a copy found, made or not.
type Result struct {
	Length     int64    // of the replica made
	BadSources []string // the ids of the nodes whose bytes did not match their checksums
}

// Progress tells how far the disk of one copy is. The zero value is ready. Safe for concurrent use.
type Progress struct {
	taken atomic.Uint64 // bytes, those of attempts that failed included
	waits atomic.Bool   // the copy has more bytes than the disk takes
}

// Told returns what wire.Alive says of it: 1 and the bytes that the disk has taken while the copy waits for the disk to
// take more; else 0, because what the copy waits for then, a slot, a source, or the replica's making or publishing,
// moves no bytes and is no sign of a slow disk.
func (p *Progress) Told() uint64 {
	if !p.waits.Load() {
		return 0
	}
	return 1 + p.taken.Load()
}

// Order is what to copy.
type Order struct {
	wire.CopyRange
	Background bool // no client waits for it: clients go first on the disks at both ends
}

// Copy makes the replica that o, which is valid, describes. What it promises and its errors are those of Server.Copy.
// progress is this copy's alone.
func (c *Copier) Copy(ctx context.Context, o Order, progress *Progress) (Result, error) {
	id, _ := chunk.IDFrom(o.ChunkID)
	this, err := c.enter(ctx, id)
	if err != nil {
		return Result{}, err
	}
	c.copies.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	made := newTask(c, id, o, progress)
	c.work.Go(func() {
		err = made.run(ctx)
		c.leave(id, this)
	})
	if !made.awaitEnd(cancel, this.ended) && c.giveUp(this) {
		c.failed.Add(1)
		return Result{}, failure(id, fault.Disk, "its disk has done nothing for it for %v", c.DiskTimeout)
	}
	<-this.ended
	if err != nil {
		c.failed.Add(1)
		return Result{BadSources: made.bad}, err
	}
	return Result{Length: made.end, BadSources: made.bad}, nil
}

// enter waits for a slot and for the copy of the same chunk that runs.
func (c *Copier) enter(ctx context.Context, id chunk.ID) (_ *running, err error) {
	limit := int64(c.RunningMax + c.WaitingMax)
	if c.asked.Add(1) > limit {
		err = failure(id, fault.Busy, "%d copies run or wait, the limit of this datanode", limit)
	}
	this := &running{ended: make(chan struct{}), hangs: make(chan struct{})}
	if err == nil {
		err = c.awaitTurn(ctx, id, this)
	}
	if err == nil {
		select {
		case c.slots <- struct{}{}:
			return this, nil
		case <-ctx.Done():
			err = neverBegan(ctx, id)
			c.remove(id, this)
		}
	}
	c.asked.Add(-1)
	return nil, err
}

func neverBegan(ctx context.Context, id chunk.ID) error {
	return &fault.Error{Kind: fault.Closed, Op: "copy replica", Chunk: id.String(), Reason: "given up before it began",
		Err: ctx.Err()}
}

// awaitTurn waits until no other copy of the chunk runs, and notes that this one does.
func (c *Copier) awaitTurn(ctx context.Context, id chunk.ID, this *running) error {
	for {
		c.mu.Lock()
		other, hanging := c.mu.running[id], c.mu.hanging
		if other == nil && hanging < hangingMax {
			c.mu.running[id] = this
			c.mu.Unlock()
			return nil
		}
		c.mu.Unlock()
		if other == nil {
			return failure(id, fault.Busy, "%d copies of this datanode wait for disks that hang, the limit", hanging)
		}
		select {
		case <-other.ended:
		case <-other.hangs:
			return failure(id, fault.Busy, "an earlier copy of it waits for a disk that hangs")
		case <-ctx.Done():
			return neverBegan(ctx, id)
		}
	}
}

// remove ends a copy.
func (c *Copier) remove(id chunk.ID, this *running) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.mu.running, id)
	close(this.ended)
}

// leave ends a copy that has run.
func (c *Copier) leave(id chunk.ID, this *running) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.mu.running, id)
	if isClosed(this.hangs) {
		c.mu.hanging--
	} else {
		c.freeSlot()
	}
	close(this.ended)
}

// giveUp gives the slot of a copy whose disk hangs to others; false: it has just ended.
func (c *Copier) giveUp(this *running) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if isClosed(this.ended) {
		return false
	}
	close(this.hangs)
	c.mu.hanging++
	c.freeSlot()
	return true
}

func (c *Copier) freeSlot() {
	<-c.slots
	c.asked.Add(-1)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// noteSilent remembers a source that says nothing, for the copies that follow.
func (c *Copier) noteSilent(source wire.Hop) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.mu.silent) >= silentMax {
		clear(c.mu.silent) // it is a hint
	}
	c.mu.silent[source.Address] = c.Clock.Now().Add(silentFor)
}

// inOrder returns the sources, those that were silent lately last.
func (c *Copier) inOrder(sources []wire.Hop) []wire.Hop {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.Clock.Now()
	silent := func(source wire.Hop) int {
		if c.mu.silent[source.Address].After(now) {
			return 1
		}
		return 0
	}
	return slices.SortedStableFunc(slices.Values(sources), func(a, b wire.Hop) int { return silent(a) - silent(b) })
}
