package namenode

import (
	"context"
	"sync"
	"time"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

// Leases renews the leases of all files that the client writes, with one call for all, and lets their writers keep idle
// sessions alive. Its two goroutines run only while at least one file is open. Safe for concurrent use.
type Leases struct {
	client    *Client
	renewal   time.Duration
	keepAlive time.Duration
	mu        struct {
		sync.Mutex
		holders map[uint64]*leaseHolder
		rounds  uint64             // renewals begun
		stop    context.CancelFunc // of the running goroutines; nil: none
	}
}

// Holder is a writer of a file, as Leases calls it from their own goroutines; its functions do not block.
type Holder struct {
	// Lost is called, once, when the namenode no longer lists the file among those of this client.
	Lost      func(error)
	KeepAlive func() // called again and again. nil: it has no session to keep
	// Growable is called when more nodes can join the pipeline of an open chunk. nil: they need not.
	Growable func(chunk.ID)
}

// leaseHolder is a Holder, and the number of renewals begun when it was added.
type leaseHolder struct {
	Holder
	round uint64
}

// NewLeases makes a keeper that renews every renewal and calls the holders' keepAlive every keepAlive.
func NewLeases(c *Client, renewal, keepAlive time.Duration) *Leases {
	l := &Leases{client: c, renewal: renewal, keepAlive: keepAlive}
	l.mu.holders = make(map[uint64]*leaseHolder)
	return l
}

// Add keeps the lease of a file until Drop.
func (l *Leases) Add(file uint64, holder Holder) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.holders[file] = &leaseHolder{holder, l.mu.rounds}
	if l.mu.stop != nil {
		return
	}
	life := l.client.options.Life
	ctx, cancel := context.WithCancel(life.Context())
	if life.Start(func() { l.renew(ctx) }) && life.Start(func() { l.keepSessionsAlive(ctx) }) {
		l.mu.stop = cancel
	} else {
		cancel()
	}
}

// Drop ends the renewal for a file.
func (l *Leases) Drop(file uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.mu.holders, file)
	l.stopIfIdleLocked()
}

func (l *Leases) stopIfIdleLocked() {
	if len(l.mu.holders) == 0 && l.mu.stop != nil {
		l.mu.stop()
		l.mu.stop = nil
	}
}

// renew renews until its context ends.
func (l *Leases) renew(ctx context.Context) {
	for clock.Sleep(ctx, l.client.options.Clock, l.renewal) == nil {
		l.mu.Lock()
		l.mu.rounds++
		round := l.mu.rounds
		l.mu.Unlock()
		answer, err := l.client.renewLeases(ctx, "")
		if err != nil {
			if ctx.Err() == nil {
				l.client.options.Logger.Warn("leases not renewed", "err", err)
			}
			continue
		}
		l.compare(answer.GetFileIds(), round)
		for _, growable := range answer.GetGrowable() {
			if id, err := chunk.IDFrom(growable.GetChunkId()); err == nil {
				l.grow(growable.GetFileId(), id)
			}
		}
	}
}

// grow informs a holder.
func (l *Leases) grow(file uint64, id chunk.ID) {
	l.mu.Lock()
	holder := l.mu.holders[file]
	l.mu.Unlock()
	if holder != nil && holder.Growable != nil {
		holder.Growable(id)
	}
}

// keepSessionsAlive runs beside renew, which waits for a namenode that restarts, until its context ends.
func (l *Leases) keepSessionsAlive(ctx context.Context) {
	for clock.Sleep(ctx, l.client.options.Clock, l.keepAlive) == nil {
		l.mu.Lock()
		var all []func()
		for _, holder := range l.mu.holders {
			if holder.KeepAlive != nil {
				all = append(all, holder.KeepAlive)
			}
		}
		l.mu.Unlock()
		for _, f := range all {
			f()
		}
	}
}

// compare informs the holders that the namenode did not list. Files added after the renewal began are left for the next
// one.
func (l *Leases) compare(held []uint64, round uint64) {
	still := make(map[uint64]bool, len(held))
	for _, file := range held {
		still[file] = true
	}
	var lost []*leaseHolder
	l.mu.Lock()
	for file, holder := range l.mu.holders {
		if !still[file] && holder.round < round {
			lost = append(lost, holder)
			delete(l.mu.holders, file)
		}
	}
	l.stopIfIdleLocked()
	l.mu.Unlock()
	for _, holder := range lost {
		holder.Lost(fault.New(fault.LeaseLost, "renew lease",
			"the namenode gave the file's lease to another client, or ended it"))
	}
}
