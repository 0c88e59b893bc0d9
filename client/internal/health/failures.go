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
		badUntil map[string]time.Time // by address; at most nodesMax
	}
}

// Failed remembers a failure of the datanode at address.
func (f *Failures) Failed(address string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.clock.Now()
	if len(f.mu.badUntil) >= nodesMax {
		for a, until := range f.mu.badUntil {
			if !until.After(now) {
				delete(f.mu.badUntil, a)
			}
		}
		if len(f.mu.badUntil) >= nodesMax {
			clear(f.mu.badUntil) // it is a hint; a bound matters more
		}
	}
	f.mu.badUntil[address] = now.Add(nodeBadFor)
}

// Worked forgets the failures of the datanode at address.
func (f *Failures) Worked(address string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.mu.badUntil, address)
}

// among marks the replicas on nodes that failed lately.
func (f *Failures) among(replicas []wire.Hop, now time.Time) (failed marks) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.mu.badUntil) == 0 {
		return 0
	}
	for i, r := range replicas {
		if f.mu.badUntil[r.Address].After(now) {
			failed.add(i)
		}
	}
	return failed
}
