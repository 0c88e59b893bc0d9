package health

import (
	"slices"
	"sync"
	"time"
)

// ReadTimes remembers how long the last reads of a client took. The zero ReadTimes is empty. Safe for concurrent use.
type ReadTimes struct {
	mu struct {
		sync.Mutex
		ring  [readTimesKept]time.Duration
		count int
		p99   time.Duration // of the ring when it was computed last; 0: too few reads
	}
}

// Note adds a read.
func (t *ReadTimes) Note(took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.ring[t.mu.count%readTimesKept] = took
	if t.mu.count++; t.mu.count%readTimesEvery == 0 {
		sorted := slices.Sorted(slices.Values(t.mu.ring[:min(t.mu.count, readTimesKept)]))
		t.mu.p99 = sorted[len(sorted)*99/100]
	}
}

// P99 is the 99th percentile of the last reads; 0: there were too few.
func (t *ReadTimes) P99() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.p99
}
