package logserver

import (
	"sync"
)

// gate counts the callers that wait for an answer of raft. raft may lose what is
// in its queue when it shuts down, and would leave such a caller waiting for
// ever: so it is shut down only when no caller is inside.
type gate struct {
	mu struct {
		sync.Mutex
		inside int
		empty  chan struct{} // closed when no caller is inside; nil unless drain waits
	}
}

// enter admits a caller unless refusal returns an error; leave must follow once
// raft has answered.
func (g *gate) enter(refusal func() error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := refusal(); err != nil {
		return err
	}
	g.mu.inside++
	return nil
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.inside--
	if g.mu.inside == 0 && g.mu.empty != nil {
		close(g.mu.empty)
		g.mu.empty = nil
	}
}

// drain waits until no caller is inside. From now on refusal returns an error, so
// no further one enters; raft still runs and answers those that are inside.
func (g *gate) drain() {
	g.mu.Lock()
	if g.mu.inside == 0 {
		g.mu.Unlock()
		return
	}
	if g.mu.empty == nil {
		g.mu.empty = make(chan struct{})
	}
	empty := g.mu.empty
	g.mu.Unlock()
	<-empty
}
