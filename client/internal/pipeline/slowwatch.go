package pipeline

import (
	"slices"
	"sync"
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
)

// slowWatch looks at all write sessions of a client once per slowStep, for datanodes that hold up their pipelines. It
// looks at them together, because a node that holds up one holds up the others, and because a session that is fast
// shows that a slow way of another is not this client's own link.
//
// Its goroutine runs while there are sessions that can be judged.
type slowWatch struct {
	pipelines *Pipelines
	mu        struct {
		sync.Mutex
		sessions map[*session]struct{}
		running  bool
	}
}

// add begins to watch a session, whose owner calls remove.
func (w *slowWatch) add(s *session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.sessions == nil {
		w.mu.sessions = make(map[*session]struct{})
	}
	w.mu.sessions[s] = struct{}{}
	if !w.mu.running {
		w.mu.running = w.pipelines.Life.Start(w.run)
	}
}

func (w *slowWatch) remove(s *session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.mu.sessions, s)
}

// run is the goroutine.
func (w *slowWatch) run() {
	ticker := time.NewTicker(slowStep)
	defer ticker.Stop()
	last := time.Now()
	for {
		select {
		case <-ticker.C:
		case <-w.pipelines.Life.Context().Done():
			return
		}
		w.mu.Lock()
		if len(w.mu.sessions) == 0 {
			w.mu.running = false
			w.mu.Unlock()
			return
		}
		var all []*session
		for s := range w.mu.sessions {
			all = append(all, s)
		}
		w.mu.Unlock()
		now := time.Now()
		w.step(all, now, now.Sub(last) > slowStepMost)
		last = now
	}
}

// waiting is a session in which data waits, and what its meter says.
type waiting struct {
	*session
	hopFinding
	slow bool // it moves less than it has to, and has no excuse
}

// place of a node in the pipeline; -1: it has none.
func (w *waiting) place(nodeID string) int {
	return slices.IndexFunc(w.target.hops, func(h wire.Hop) bool { return h.NodeID == nodeID })
}

// bears tells whether the session was opened with a node that was known to be slow, and still is: it is not replaced.
func (w *waiting) bears(hop wire.Hop) bool {
	return slices.Contains(w.target.slow, hop.NodeID) &&
		len(w.pipelines.Nodes.SlowWrites.Known([]wire.Hop{hop})) > 0
}

// step judges all sessions. late: this client itself was held up, so nothing that it measured counts.
func (w *slowWatch) step(sessions []*session, now time.Time, late bool) {
	limit := float64(w.pipelines.SlowBytesPerSecond)
	var all []waiting
	for _, s := range sessions {
		if finding, excused, ok := s.judge(now, late); ok {
			all = append(all, waiting{s, finding, finding.rate < limit && !excused})
			if finding.rate >= limit {
				w.pipelines.Nodes.SlowWrites.FastHead(s.target.hops[0].NodeID)
			}
		}
	}
	for i := range all {
		if found := &all[i]; found.slow && found.sure && !found.bears(found.target.hops[found.hop]) &&
			w.blamed(all, found) {
			hop := found.target.hops[found.hop]
			w.replace(all, hop, SlowNode{NodeID: hop.NodeID, Address: hop.Address, BytesPerSecond: found.rate,
				Link: found.byLink})
		}
	}
}

// blamed reports whether the hop that a session found is to be replaced. A node that moves enough bytes in all its
// sessions together is healthy. The way to a first hop begins at this client, whose own link may be the slow one: then
// the sessions with other first hops are no better.
func (w *slowWatch) blamed(all []waiting, found *waiting) bool {
	node, limit := found.target.hops[found.hop].NodeID, float64(w.pipelines.SlowBytesPerSecond)
	total := 0.0
	alike, fast := false, false
	for i := range all {
		other := &all[i]
		if other.place(node) >= 0 {
			total += other.rate
		}
		if other.target.hops[0].NodeID != node {
			alike = alike || other.slow && other.hop == 0 && other.byLink
			fast = fast || other.rate >= limit
		}
	}
	switch {
	case total >= limit:
		return false
	case !found.byLink || found.hop > 0:
		return true
	case alike && !fast:
		w.pipelines.Nodes.SlowWrites.OwnLink()
		return false
	}
	return w.pipelines.Nodes.SlowWrites.SlowHead(node)
}

// replace fails all slow sessions that have the node in their pipelines, unless they wait for another one.
func (w *slowWatch) replace(all []waiting, hop wire.Hop, slow SlowNode) {
	borne := make([]bool, len(all)) // as it was before this
	for i := range all {
		borne[i] = all[i].bears(hop)
	}
	w.pipelines.Nodes.SlowWrites.Slow(slow.NodeID)
	for i := range all {
		s := &all[i]
		place := s.place(hop.NodeID)
		if place < 0 || !s.slow || s.hop >= 0 && s.hop != place || borne[i] {
			continue
		}
		e := &fault.Error{Kind: fault.Unavailable, Op: "write chunk", Chunk: s.target.id.String(), Node: hop.NodeID,
			Address: hop.Address, Reason: slow.reason()}
		// its owner finds it there
		_ = s.fail(&sessionError{failed: []HopFailure{{Hop: hop, Err: e, Slow: &slow}}, err: e})
		s.slow = false // it is failed once
	}
}
