package client

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
)

// slowNodes is the part of nodeMemory about nodes that held up pipelines.
type slowNodes struct {
	until map[string]time.Time // by node id; at most slowNodesMax
	// head was blamed for the way to it. If the next one is no better, it is this
	// client's own way that is slow, and until ownUntil no first hop is blamed.
	head     string
	headAt   time.Time
	ownUntil time.Time
	// fast are the first hops that were fast last, two different ones.
	fast [2]struct {
		nodeID string
		at     time.Time
	}
	// known are the nodes that chunks were placed on: at least so many exist. At
	// most nodesMax.
	known map[string]struct{}
}

// slow remembers a slow node.
func (m *nodeMemory) slow(n SlowNode) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &m.mu.slow
	if s.until == nil {
		s.until = make(map[string]time.Time)
	}
	if _, there := s.until[n.NodeID]; !there && len(s.until) >= slowNodesMax {
		clear(s.until)
	}
	s.until[n.NodeID] = m.clock.Now().Add(slowFor)
}

// fastHead remembers a first hop that takes bytes fast enough: this client's own
// link is well.
func (m *nodeMemory) fastHead(nodeID string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &m.mu.slow
	if s.fast[0].nodeID != nodeID {
		s.fast[1] = s.fast[0]
	}
	s.fast[0].nodeID, s.fast[0].at = nodeID, m.clock.Now()
	s.ownUntil = time.Time{}
	if s.head != nodeID {
		s.head = "" // it was rightly blamed
	}
}

// slowHead tells whether a first hop that is slow to reach is to be blamed. It
// is if another one was fast lately. Else it may be this client's own link: that
// the next one is no better shows it.
func (m *nodeMemory) slowHead(nodeID string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, now := &m.mu.slow, m.clock.Now()
	for _, f := range s.fast {
		if f.nodeID != "" && f.nodeID != nodeID && now.Sub(f.at) < fastFor {
			return true
		}
	}
	switch {
	case now.Before(s.ownUntil):
		return false
	case s.head != "" && s.head != nodeID && now.Sub(s.headAt) < slowFor:
		m.ownLinkLocked(now)
		return false
	}
	s.head, s.headAt = nodeID, now
	return true
}

// ownLink notes that this client's own link is slow.
func (m *nodeMemory) ownLink() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ownLinkLocked(m.clock.Now())
}

func (m *nodeMemory) ownLinkLocked(now time.Time) {
	s := &m.mu.slow
	delete(s.until, s.head) // wrongly blamed
	s.head, s.ownUntil = "", now.Add(ownLinkFor)
}

// placed notes which nodes there are.
func (m *nodeMemory) placed(locations []ChunkLocation) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &m.mu.slow
	if s.known == nil || len(s.known) > nodesMax {
		s.known = make(map[string]struct{})
	}
	for _, l := range locations {
		for _, r := range l.Replicas {
			s.known[r.NodeID] = struct{}{}
		}
	}
}

// avoid lists the slow nodes that a chunk of so many replicas should not be
// placed on: all, while enough others are known; else one, so that at most one
// replica is missing for it.
func (m *nodeMemory) avoid(replication int) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &m.mu.slow
	if len(s.until) == 0 {
		return nil
	}
	now := m.clock.Now()
	var nodes []string
	for id, until := range s.until {
		if until.After(now) {
			nodes = append(nodes, id)
		} else {
			delete(s.until, id)
		}
	}
	slices.Sort(nodes)
	if replication <= 0 { // the cluster's default, which is not known here
		replication = len(s.known)
	}
	return nodes[:min(len(nodes), max(len(s.known)-replication, 1))]
}

// avoidSlow puts a chunk that nothing was sent of on other nodes if one of its
// own was found slow meanwhile.
func (s *stream) avoidSlow(ctx context.Context) error {
	if s.avoided || s.mode != wire.ModeCreate {
		return nil
	}
	avoid := s.client.nodes.avoid(len(s.hops))
	if !slices.ContainsFunc(s.hops, func(h wire.Hop) bool { return slices.Contains(avoid, h.NodeID) }) {
		return nil
	}
	s.avoided = true
	if err := s.replace(ctx); err != nil && !errors.Is(err, fault.TooFewNodes) {
		return err
	}
	return nil
}
