package client

import (
	"slices"
	"time"
)

// slowReads is the part of nodeMemory about nodes that answer reads far later
// than others: a disk that is dying, or a node that swaps. They are asked last
// for a while, then again. Only the order of replicas follows from it.
type slowReads map[string]*readTime // by address; at most nodesMax

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

// read notes how long a read of so many bytes took. Only small ones tell about a
// node; what a large one takes is up to the network.
func (m *nodeMemory) read(address string, bytes int, took time.Duration) {
	if bytes > readSmallMax {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock.Now()
	t := m.mu.reads[address]
	if t == nil {
		if m.mu.reads == nil || len(m.mu.reads) >= nodesMax {
			m.mu.reads = make(slowReads)
		}
		t = &readTime{}
		m.mu.reads[address] = t
	}
	t.last[t.count%readSamples] = took
	t.count++
	t.at = now
	if took < readSlowLeast || t.count < readSamples {
		return
	}
	if mine := t.median(); mine >= readSlowLeast && mine >= readSlowFactor*m.mu.reads.othersMedian(address, now) {
		t.slowUntil, t.count = now.Add(readSlowFor), 0
	}
}

// othersMedian is the median of the medians of the other nodes that were read
// from lately; very long if there are none to compare with.
func (s slowReads) othersMedian(address string, now time.Time) time.Duration {
	var medians []time.Duration
	for other, t := range s {
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

func (s slowReads) slow(address string, now time.Time) bool {
	t := s[address]
	return t != nil && t.slowUntil.After(now)
}
