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
	mean      time.Duration // the newest read counts 1/readWeight
	count     int           // since it was last found slow
	at        time.Time     // of the newest read
	slowUntil time.Time
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
		t = &readTime{mean: took}
		m.mu.reads[address] = t
	}
	if t.count == 0 {
		t.mean = took
	}
	t.mean += (took - t.mean) / readWeight
	t.at = now
	if t.count++; t.count%readSamples == 0 && t.mean >= readSlowLeast && t.mean >= readSlowFactor*m.mu.reads.othersMedian(address, now) {
		t.slowUntil, t.count = now.Add(readSlowFor), 0
	}
}

// othersMedian is the median of the means of the other nodes that were read from
// lately; very long if there are none to compare with.
func (s slowReads) othersMedian(address string, now time.Time) time.Duration {
	var means []time.Duration
	for other, t := range s {
		if other != address && t.count >= readSamples && now.Sub(t.at) < readRecent {
			means = append(means, t.mean)
		}
	}
	if len(means) == 0 {
		return time.Hour
	}
	slices.Sort(means)
	return means[(len(means)-1)/2]
}

func (s slowReads) slow(address string, now time.Time) bool {
	t := s[address]
	return t != nil && t.slowUntil.After(now)
}
