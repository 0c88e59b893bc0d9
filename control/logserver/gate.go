package logserver

import "sync"

// gate counts the callers that wait for an answer of raft. raft may lose what is in its queue when it shuts down,
// and would leave such a caller waiting for ever: so it is shut down only when no caller is inside.
type gate struct {
	entering sync.Mutex
	inside   sync.WaitGroup
}

// enter admits a caller unless refusal returns an error; leave must follow once raft has answered.
func (g *gate) enter(refusal func() error) error {
	g.entering.Lock()
	defer g.entering.Unlock()
	if err := refusal(); err != nil {
		return err
	}
	g.inside.Add(1)
	return nil
}

func (g *gate) leave() { g.inside.Done() }

// drain waits until no caller is inside. From now on refusal returns an error, so
// no further one enters; raft still runs and answers those that are inside.
func (g *gate) drain() {
	g.entering.Lock()   // who came before the refusal is counted after this
	g.entering.Unlock() //nolint:staticcheck // SA2001: empty on purpose, see above
	g.inside.Wait()
}
