package health

import (
	"sync"
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/clock"
)

// Failures remembers which datanodes failed this client lately. Safe for concurrent use.
type Failures struct {
	clock clock.Clock
	mu    struct {
		sync.Mutex
		bad map[string]badNode // by address; at most nodesMax
	}
}

// badNode is a datanode that failed. times it did so again soon after it had been tried again.
type badNode struct {
	until time.Time
	times int // 0..nodeBadTimesMax
}

// Failed remembers a failure of the datanode at address: for nodeBadFor, and for twice as long as the last time if that
// is not over for long.
func (f *Failures) Failed(address string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.clock.Now()
	if len(f.mu.bad) >= nodesMax {
		for a, b := range f.mu.bad {
			if !b.until.After(now) {
				delete(f.mu.bad, a)
			}
		}
		if len(f.mu.bad) >= nodesMax {
			clear(f.mu.bad) // it is a hint; a bound matters more
		}
	}
	node, known := f.mu.bad[address]
	switch {
	case !known || now.Sub(node.until) > nodeBadFor:
		node.times = 0
	case !node.until.After(now): // else several operations met the same failure
		node.times = min(node.times+1, nodeBadTimesMax)
	}
	node.until = now.Add(nodeBadFor << node.times)
	f.mu.bad[address] = node
}

// Worked forgets the failures of the datanode at address.
func (f *Failures) Worked(address string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.mu.bad, address)
}

// Lately tells whether the datanode at address failed lately.
func (f *Failures) Lately(address string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.bad[address].until.After(f.clock.Now())
}

// those are the nodes, given by id and address, that failed lately.
func (f *Failures) those(nodes map[string]string) (failed []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.mu.bad) == 0 {
		return nil
	}
	now := f.clock.Now()
	for id, address := range nodes {
		if address != "" && f.mu.bad[address].until.After(now) {
			failed = append(failed, id)
		}
	}
	return failed
}

// among marks the replicas on nodes that failed lately.
func (f *Failures) among(replicas []wire.Hop, now time.Time) (failed marks) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.mu.bad) == 0 {
		return 0
	}
	for i, r := range replicas {
		if f.mu.bad[r.Address].until.After(now) {
			failed.add(i)
		}
	}
	return failed
}
