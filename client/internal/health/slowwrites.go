package health

import (
	"slices"
	"sync"
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/clock"
)

// SlowWrites remembers which datanodes held up pipelines, so that chunks are placed elsewhere, and whether this
// client's own link may be the slow one. Safe for concurrent use.
type SlowWrites struct {
	clock    clock.Clock
	failures *Failures
	mu       struct {
		sync.Mutex
		until map[string]time.Time // by node id; at most slowNodesMax
		// suspect is the first hop that was found slow to reach last. If the next one is no better, this client's own
		// link is slow, and until ownLinkUntil no first hop is suspected.
		suspect      string
		suspectAt    time.Time
		ownLinkUntil time.Time
		// fast are the first hops that were fast last, two different ones.
		fast [2]struct {
			nodeID string
			at     time.Time
		}
		// known are the nodes that chunks were placed on, id to address: at least so many exist. At most nodesMax.
		known map[string]string
	}
}

// Slow remembers a slow node.
func (s *SlowWrites) Slow(nodeID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.until == nil {
		s.mu.until = make(map[string]time.Time)
	}
	if _, there := s.mu.until[nodeID]; !there && len(s.mu.until) >= slowNodesMax {
		clear(s.mu.until)
	}
	s.mu.until[nodeID] = s.clock.Now().Add(slowFor)
}

// Known lists those of the hops that are known to be slow: they were chosen because there are not enough others.
func (s *SlowWrites) Known(hops []wire.Hop) (nodeIDs []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	for _, h := range hops {
		if s.mu.until[h.NodeID].After(now) {
			nodeIDs = append(nodeIDs, h.NodeID)
		}
	}
	return nodeIDs
}

// FastHead remembers a first hop that accepts bytes fast enough: this client's own link is healthy.
func (s *SlowWrites) FastHead(nodeID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.fast[0].nodeID != nodeID {
		s.mu.fast[1] = s.mu.fast[0]
	}
	s.mu.fast[0].nodeID, s.mu.fast[0].at = nodeID, s.clock.Now()
	s.mu.ownLinkUntil = time.Time{}
	if s.mu.suspect != nodeID {
		s.mu.suspect = "" // it was rightly suspected
	}
}

// SlowHead reports whether a first hop that is slow to reach is to be replaced. It is if another one was fast lately.
// Else this client's own link may be the slow one: it is if the next first hop is no better.
func (s *SlowWrites) SlowHead(nodeID string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	for _, f := range s.mu.fast {
		if f.nodeID != "" && f.nodeID != nodeID && now.Sub(f.at) < fastFor {
			return true
		}
	}
	switch {
	case now.Before(s.mu.ownLinkUntil):
		return false
	case s.mu.suspect != "" && s.mu.suspect != nodeID && now.Sub(s.mu.suspectAt) < slowFor:
		s.ownLinkLocked(now)
		return false
	}
	s.mu.suspect, s.mu.suspectAt = nodeID, now
	return true
}

// OwnLink notes that this client's own link is slow.
func (s *SlowWrites) OwnLink() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ownLinkLocked(s.clock.Now())
}

func (s *SlowWrites) ownLinkLocked(now time.Time) {
	delete(s.mu.until, s.mu.suspect) // it was wrongly suspected
	s.mu.suspect, s.mu.ownLinkUntil = "", now.Add(ownLinkFor)
}

// Placed notes nodes that a chunk was placed on.
func (s *SlowWrites) Placed(replicas []wire.Hop) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.known == nil || len(s.mu.known) > nodesMax {
		s.mu.known = make(map[string]string)
	}
	for _, r := range replicas {
		s.mu.known[r.NodeID] = r.Address
	}
}

// Avoid lists the nodes that a chunk of so many replicas should not be placed on: those that failed lately, then the
// slow ones, all while enough others are known. Else it is one slow one, which the namenode takes rather than a replica
// less, and none that failed: it may be back. replication 0 is the cluster's default, which is not known here.
func (s *SlowWrites) Avoid(replication int) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if replication <= 0 {
		replication = len(s.mu.known)
	}
	spare := max(len(s.mu.known)-replication, 0)
	nodes := s.failures.those(s.mu.known)
	slices.Sort(nodes)
	return s.avoidLocked(nodes[:min(len(nodes), spare)], spare)
}

// AvoidSlow is Avoid without the nodes that only failed: they may be back.
func (s *SlowWrites) AvoidSlow(replication int) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.avoidLocked(nil, max(len(s.mu.known)-replication, 0))
}

// avoidLocked adds the slow nodes to others, up to so many as there are spare ones, or one.
func (s *SlowWrites) avoidLocked(nodes []string, spare int) []string {
	failed := len(nodes)
	now := s.clock.Now()
	for id, until := range s.mu.until {
		switch {
		case !until.After(now):
			delete(s.mu.until, id)
		case !slices.Contains(nodes[:failed], id):
			nodes = append(nodes, id)
		}
	}
	slices.Sort(nodes[failed:])
	if len(nodes) == 0 {
		return nil
	}
	return nodes[:min(len(nodes), max(spare, 1))]
}
