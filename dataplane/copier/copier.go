// Package copier makes replicas by pulling them from other datanodes, every block verified before it is written.
//
// A Copier bounds how many copies run and wait. A copy runs on the goroutine of its caller; disk workers carry out
// its writes. A task (task.go) is one copy: it alone owns the hidden replica that it writes, until that is whole.
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
}

// Copier copies replicas. Two copies of one chunk run one after the other. Safe for concurrent use.
type Copier struct {
	Options
	slots chan struct{}
	asked atomic.Int64   // running and waiting
	work  sync.WaitGroup // what disk workers do for copies

	copies, failed, bytesPulled atomic.Uint64
	diskJobs                    atomic.Int64 // submitted and not done

	mu struct {
		sync.Mutex
		running map[chunk.ID]chan struct{} // closed at the copy's end
		silent  map[string]time.Time       // sources, by address, that are asked last until then; at most silentMax
	}
}

// New returns a copier.
func New(o Options) *Copier {
	c := &Copier{Options: o, slots: make(chan struct{}, o.RunningMax)}
	c.mu.running, c.mu.silent = make(map[chunk.ID]chan struct{}), make(map[string]time.Time)
	return c
}

// Stats are counters since the start, except Pending and DiskJobs, which are now.
type Stats struct {
	Copies, Failed uint64
	BytesPulled    uint64 // verified
	Pending        int64  // copies that run or wait
	DiskJobs       int64  // submitted and not done
}

// Stats returns the counters.
func (c *Copier) Stats() Stats {
	return Stats{Copies: c.copies.Load(), Failed: c.failed.Load(), BytesPulled: c.bytesPulled.Load(),
		Pending: c.asked.Load(), DiskJobs: c.diskJobs.Load()}
}

// Wait returns when no disk worker works for a copy any more. No Copy may run.
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
	release, err := c.enter(ctx, id)
	if err != nil {
		return Result{}, err
	}
	defer release()
	c.copies.Add(1)
	t := newTask(c, id, o, progress)
	if err := t.run(ctx); err != nil {
		c.failed.Add(1)
		return Result{BadSources: t.bad}, err
	}
	return Result{Length: t.end, BadSources: t.bad}, nil
}

// enter waits for a slot and for the copy of the same chunk that runs.
func (c *Copier) enter(ctx context.Context, id chunk.ID) (release func(), err error) {
	const op = "copy replica"
	ended := func() error {
		return &fault.Error{Kind: fault.Closed, Op: op, Chunk: id.String(), Reason: "given up before it began",
			Err: ctx.Err()}
	}
	limit := int64(c.RunningMax + c.WaitingMax)
	if c.asked.Add(1) > limit {
		c.asked.Add(-1)
		return nil, failure(id, fault.Busy, "%d copies run or wait, the limit of this datanode", limit)
	}
	leave := func() { c.asked.Add(-1) }
	for {
		c.mu.Lock()
		other := c.mu.running[id]
		if other == nil {
			break
		}
		c.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			leave()
			return nil, ended()
		}
	}
	done := make(chan struct{})
	c.mu.running[id] = done
	c.mu.Unlock()
	finish := func() {
		c.mu.Lock()
		delete(c.mu.running, id)
		c.mu.Unlock()
		close(done)
		leave()
	}
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		finish()
		return nil, ended()
	}
	return func() {
		<-c.slots
		finish()
	}, nil
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
