package client

import (
	"slices"
	"sync"
	"time"

	"github.com/whispering-woods/ww/internal/clock"
)

// nodeMemory remembers which datanodes failed this client lately or read slowly, so
// that a reader tries them last, and which held up pipelines, so that a writer
// avoids them. Safe for concurrent use.
type nodeMemory struct {
	clock clock.Clock
	mu    struct {
		sync.Mutex
		badUntil map[string]time.Time // by address; at most nodesMax
		slow     slowNodes
		reads    slowReads
	}
}

func newNodeMemory(c clock.Clock) *nodeMemory {
	m := &nodeMemory{clock: c}
	m.mu.badUntil = make(map[string]time.Time)
	return m
}

// failed remembers a failure of the datanode at address.
func (m *nodeMemory) failed(address string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock.Now()
	if len(m.mu.badUntil) >= nodesMax {
		for a, until := range m.mu.badUntil {
			if !until.After(now) {
				delete(m.mu.badUntil, a)
			}
		}
		if len(m.mu.badUntil) >= nodesMax {
			clear(m.mu.badUntil) // it is a hint; a bound matters more
		}
	}
	m.mu.badUntil[address] = now.Add(nodeBadFor)
}

// worked forgets the failures of the datanode at address.
func (m *nodeMemory) worked(address string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.mu.badUntil, address)
}

// orderByFailures returns the replicas with those on failed nodes last; otherwise
// it keeps the namenode's order.
func (m *nodeMemory) orderByFailures(replicas []Replica) []Replica { return m.sort(replicas, false) }

// order is orderByFailures for a read: before the failed nodes come those that
// are slow to read from.
func (m *nodeMemory) order(replicas []Replica) []Replica { return m.sort(replicas, true) }

func (m *nodeMemory) sort(replicas []Replica, slowLast bool) []Replica {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(replicas) < 2 || len(m.mu.badUntil) == 0 && len(m.mu.reads) == 0 {
		return replicas
	}
	now := m.clock.Now()
	bad := func(r Replica) int {
		if until, ok := m.mu.badUntil[r.Address]; ok && until.After(now) {
			return 2
		}
		if slowLast && m.mu.reads.slow(r.Address, now) {
			return 1
		}
		return 0
	}
	if !slices.ContainsFunc(replicas, func(r Replica) bool { return bad(r) > 0 }) {
		return replicas
	}
	ordered := slices.Clone(replicas)
	slices.SortStableFunc(ordered, func(a, b Replica) int { return bad(a) - bad(b) })
	return ordered
}
