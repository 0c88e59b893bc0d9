package health

import (
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/clock"
)

// Nodes is all that one client remembers of its datanodes. Safe for concurrent use.
type Nodes struct {
	Failures   Failures
	SlowReads  SlowReads
	SlowWrites SlowWrites
	clock      clock.Clock
}

// NewNodes makes an empty memory.
func NewNodes(c clock.Clock) *Nodes {
	n := &Nodes{clock: c}
	n.Failures.clock, n.SlowReads.clock, n.SlowWrites.clock = c, c, c
	n.Failures.mu.bad = make(map[string]badNode)
	n.SlowWrites.failures = &n.Failures
	return n
}

// OrderByFailures returns the replicas with those on failed nodes last; otherwise it keeps the namenode's order. The
// caller's list stays as it is.
func (n *Nodes) OrderByFailures(replicas []wire.Hop) []wire.Hop {
	if len(replicas) < 2 {
		return replicas
	}
	return arrange(replicas, n.Failures.among(replicas, n.clock.Now()), 0)
}

// OrderForRead is OrderByFailures for a read: nodes that are slow to read from stand between the healthy and the failed
// ones.
func (n *Nodes) OrderForRead(replicas []wire.Hop) []wire.Hop {
	if len(replicas) < 2 {
		return replicas
	}
	now := n.clock.Now()
	return arrange(replicas, n.Failures.among(replicas, now), n.SlowReads.among(replicas, now))
}

// marks is a set of places in a list of replicas. Places from 64 on are never in it: they stay where they are.
type marks uint64

func (m marks) has(i int) bool { return m&(1<<i) != 0 }
func (m *marks) add(i int)     { *m |= 1 << i }

// arrange puts the slow replicas behind the others, and the failed ones last.
func arrange(replicas []wire.Hop, failed, slow marks) []wire.Hop {
	if failed|slow == 0 {
		return replicas
	}
	slow &^= failed
	ordered := make([]wire.Hop, 0, len(replicas))
	for _, wanted := range []struct{ failed, slow bool }{{false, false}, {false, true}, {true, false}} {
		for i, r := range replicas {
			if failed.has(i) == wanted.failed && slow.has(i) == wanted.slow {
				ordered = append(ordered, r)
			}
		}
	}
	return ordered
}
