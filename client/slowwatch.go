package client

import (
	"slices"
	"sync"
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
)

// slowWatch looks at all write sessions of a client once per slowStep, for
// datanodes that hold up their pipelines. Sessions are looked at together,
// because what one finds out holds for the others, and because one that is fast
// tells that a slow way of another is not this client's own.
//
// Its goroutine runs while there are sessions that can be judged.
type slowWatch struct {
	client *Client
	mu     struct {
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
		w.mu.running = w.client.start(w.run)
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
		case <-w.client.ctx.Done():
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
func (j *waiting) place(nodeID string) int {
	return slices.IndexFunc(j.target.hops, func(h wire.Hop) bool { return h.NodeID == nodeID })
}

// step judges all sessions. late: this client itself was held up, so nothing
// that it measured counts.
func (w *slowWatch) step(all []*session, now time.Time, late bool) {
	limit := float64(w.client.options.SlowBytesPerSecond)
	var some []waiting
	for _, s := range all {
		if f, excused, ok := s.judge(now, late); ok {
			some = append(some, waiting{s, f, f.rate < limit && !excused})
			if f.rate >= limit {
				w.client.nodes.fastHead(s.target.hops[0].NodeID)
			}
		}
	}
	for i := range some {
		if j := &some[i]; j.slow && j.sure && w.blamed(some, j) {
			hop := j.target.hops[j.hop]
			w.replace(some, hop, SlowNode{NodeID: hop.NodeID, Address: hop.Address, BytesPerSecond: j.rate, Link: j.byLink})
		}
	}
}

// blamed tells whether the hop that a session found is to be replaced. A node
// that moves enough bytes in all its sessions together is well. The way to a
// first hop begins at this client, whose own link may be the slow one: then the
// sessions with other first hops are no better.
func (w *slowWatch) blamed(some []waiting, j *waiting) bool {
	node := j.target.hops[j.hop].NodeID
	total := 0.0
	alike, fast := false, false
	for i := range some {
		other := &some[i]
		if other.place(node) >= 0 {
			total += other.rate
		}
		if other.target.hops[0].NodeID != node {
			alike = alike || other.slow && other.hop == 0 && other.byLink
			fast = fast || other.rate >= float64(w.client.options.SlowBytesPerSecond)
		}
	}
	switch {
	case total >= float64(w.client.options.SlowBytesPerSecond):
		return false
	case !j.byLink || j.hop > 0:
		return true
	case alike && !fast:
		w.client.nodes.ownLink()
		return false
	}
	return w.client.nodes.slowHead(node)
}

// replace fails all slow sessions that have the node in their pipelines, unless
// they wait for another one.
func (w *slowWatch) replace(some []waiting, hop wire.Hop, slow SlowNode) {
	w.client.nodes.slow(slow)
	for i := range some {
		j := &some[i]
		place := j.place(hop.NodeID)
		if place < 0 || !j.slow || j.hop >= 0 && j.hop != place {
			continue
		}
		e := &fault.Error{Kind: fault.Unavailable, Op: "write chunk", Chunk: j.target.id.String(), Node: hop.NodeID, Address: hop.Address, Reason: slow.reason()}
		_ = j.fail(&pipelineError{failed: []hopFailure{{hop: hop, err: e, slow: &slow}}, err: e}) // its owner finds it there
		j.slow = false                                                                            // it is failed once
	}
}

// judge ends a step of the session's meter. ok: data waited all the time, and
// the finding says for what. excused: it waits for a sync that may take longer.
func (s *session) judge(now time.Time, late bool) (f hopFinding, excused, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed || s.mu.err != nil || !s.mu.opened {
		return f, false, false
	}
	if s.mu.meter == nil {
		if len(s.mu.inflight) == 0 {
			return f, false, false // most sessions are short: they need none
		}
		s.mu.meter = &hopMeter{}
	}
	m := s.mu.meter
	if len(s.mu.inflight) == 0 || late {
		m.interrupt()
		return f, false, false
	}
	if m.next(); m.full == 0 {
		return f, false, false
	}
	oldest := s.mu.inflight[0]
	if oldest.flags&(wire.FlagSync|wire.FlagSeal) != 0 { // a disk may have to write everything since the last sync
		patience := float64(oldest.end()-s.mu.synced) / float64(s.client.options.SlowBytesPerSecond)
		excused = now.Sub(oldest.sent).Seconds() < patience
	}
	return m.find(len(s.target.hops)), excused, true
}

// measureLocked takes an ack, or a report, into the meter.
func (s *session) measureLocked(trip time.Duration, bytes int64, hops []wire.HopStatus) {
	switch m := s.mu.meter; {
	case m == nil || len(hops) != len(s.target.hops):
	case len(s.mu.inflight) == 0:
		m.interrupt() // the writer has nothing more to send
	default:
		m.take(trip, bytes, hops)
	}
}
