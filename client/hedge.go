package client

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/whispering-woods/ww/internal/chunk"
)

// HedgeP99 as Options.HedgeAfter: the delay is the 99th percentile of this
// client's own reads.
const HedgeP99 time.Duration = -1

// readTimes remembers how long the last reads took. Safe for concurrent use.
type readTimes struct {
	mu struct {
		sync.Mutex
		ring  [readTimesKept]time.Duration
		count int
		p99   time.Duration // of the ring when it was last looked at; 0: too few reads
	}
}

// add notes a read.
func (t *readTimes) add(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.ring[t.mu.count%readTimesKept] = d
	if t.mu.count++; t.mu.count%readTimesEvery == 0 {
		sorted := slices.Sorted(slices.Values(t.mu.ring[:min(t.mu.count, readTimesKept)]))
		t.mu.p99 = sorted[len(sorted)*99/100]
	}
}

// hedgeDelay is how long a read waits before it asks a second replica; 0: for
// ever.
func (c *Client) hedgeDelay() time.Duration {
	if c.options.HedgeAfter != HedgeP99 {
		return c.options.HedgeAfter
	}
	c.times.mu.Lock()
	defer c.times.mu.Unlock()
	return c.times.mu.p99
}

type replicaRead struct {
	at      Replica
	n       int
	visible int64
	err     error
}

func (r replicaRead) full(p []byte) bool { return r.err == nil && r.n == len(p) }

// readEither reads from the first of the replicas, and after the hedge delay
// from the second one too; the first whole and verified answer counts. It
// returns when both reads have ended: no socket uses p or a buffer any more.
func (c *Client) readEither(ctx context.Context, replicas []Replica, id chunk.ID, minimum chunk.Generation, offset int64, p []byte) replicaRead {
	read := func(ctx context.Context, at Replica, p []byte) replicaRead {
		n, visible, err := c.readReplica(ctx, at, id, minimum, offset, p)
		return replicaRead{at: at, n: n, visible: visible, err: err}
	}
	delay := c.hedgeDelay()
	if delay <= 0 || len(replicas) < 2 || len(p) > hedgeBytesMax {
		return read(ctx, replicas[0], p)
	}
	begin := func(at Replica, p []byte) (<-chan replicaRead, context.CancelFunc) {
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan replicaRead, 1)
		go func() { done <- read(ctx, at, p) }()
		return done, cancel
	}
	began := c.clock.Now()
	first, cancelFirst := begin(replicas[0], p)
	defer cancelFirst()
	timer := c.clock.NewTimer(delay)
	defer timer.Stop()
	select {
	case r := <-first: // also when ctx ended
		return r
	case <-timer.C():
	}
	c.hedged.Add(1)
	buffer := c.buffers.Get(len(p))
	defer buffer.Release()
	second, cancelSecond := begin(replicas[1], buffer.Bytes())
	defer cancelSecond()
	var a, b replicaRead
	select {
	case a = <-first:
		if a.full(p) {
			cancelSecond()
		}
		b = <-second
	case b = <-second:
		elapsed := c.clock.Now().Sub(began)
		if b.full(p) {
			cancelFirst()
		}
		if a = <-first; b.full(p) && a.err != nil {
			c.nodes.read(a.at.Address, len(p), elapsed) // it would have taken longer
		}
	}
	if !a.full(p) && b.full(p) {
		copy(p, buffer.Bytes())
		return b
	}
	return a
}
