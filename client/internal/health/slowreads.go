package health

import (
	"slices"
	"sync"
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/clock"
)

// SlowReads remembers which datanodes answer reads far later than others: their disks are dying, or they swap. They are
// asked last for a while, then again. Safe for concurrent use.
type SlowReads struct {
	clock clock.Clock
	mu    struct {
		sync.Mutex
		nodes map[string]*readTime // by address; at most nodesMax
	}
}

// readTime is what is known of one node's small reads.
type readTime struct {
	last      [readSamples]time.Duration
	count     int       // since it was last found slow
	at        time.Time // of the newest read
	slowUntil time.Time
}

// median of the last reads, of which there are enough.
func (t *readTime) median() time.Duration {
	sorted := t.last
	slices.Sort(sorted[:])
	return sorted[readSamples/2]
}

// Note remembers how long a read of so many bytes took. Only small ones say something about the node; the time of a
// large one depends on the network.
func (s *SlowReads) Note(address string, bytes int, took time.Duration) {
	if bytes > readSmallMax {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	times := s.mu.nodes[address]
	if times == nil {
		if s.mu.nodes == nil || len(s.mu.nodes) >= nodesMax {
			s.mu.nodes = make(map[string]*readTime)
		}
		times = &readTime{}
		s.mu.nodes[address] = times
	}
	times.last[times.count%readSamples] = took
	times.count++
	times.at = now
	if took < readSlowLeast || times.count < readSamples {
		return
	}
	if mine := times.median(); mine >= readSlowLeast && mine >= readSlowFactor*s.othersMedianLocked(address, now) {
		times.slowUntil, times.count = now.Add(readSlowFor), 0
	}
}

// othersMedianLocked is the median of the medians of the other nodes that were read from lately; very long if there are
// none to compare with.
func (s *SlowReads) othersMedianLocked(address string, now time.Time) time.Duration {
	var medians []time.Duration
	for other, t := range s.mu.nodes {
		if other != address && t.count >= readSamples && now.Sub(t.at) < readRecent {
			medians = append(medians, t.median())
		}
	}
	if len(medians) == 0 {
		return time.Hour
	}
	slices.Sort(medians)
	return medians[(len(medians)-1)/2]
}

// among marks the replicas on nodes that are slow to read from.
func (s *SlowReads) among(replicas []wire.Hop, now time.Time) (slow marks) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, r := range replicas {
		if t := s.mu.nodes[r.Address]; t != nil && t.slowUntil.After(now) {
			slow.add(i)
		}
	}
	return slow
}
