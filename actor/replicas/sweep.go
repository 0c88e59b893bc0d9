package replicas

import (
	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/internal/datanode"
)

// sweep assesses chunks again after a change that concerns many: those on some nodes, and those of which no live
// replica is known for sure, or all. It goes once around from where it is when a change comes, a bounded number at a
// time. To pass over a chunk that is on none of the nodes costs a hundredth of an assessment, so that the loss of one
// node of a thousand costs little more than the chunks that it had.
type sweep struct {
	room  *Replicas
	next  namespace.ChunkSlot
	left  namespace.ChunkSlot // how many slots
	limit namespace.ChunkSlot // of the slots when left was counted
	every bool                // all chunks are assessed, not only those on nodes
	nodes bitset[datanode.Index]
}

// done reports whether all chunks were assessed since the last change that concerns many.
func (s *sweep) done() bool { return s.left == 0 }

// all has every chunk assessed again.
func (s *sweep) all() {
	s.every = true
	s.begin()
}

// of has the chunks assessed again that may be on a node.
func (s *sweep) of(node datanode.Index) {
	s.nodes.set(node)
	s.begin()
}

func (s *sweep) begin() {
	s.limit = s.room.files.Limit()
	s.left = s.limit
}

// goOn assesses the next chunks.
func (s *sweep) goOn() {
	limit := s.room.files.Limit()
	if s.left > 0 && limit > s.limit { // chunks were added: it is further around
		s.left += limit - s.limit
		s.limit = limit
	}
	if limit <= 1 {
		s.left = 0
	}
	for passed, assessed := namespace.ChunkSlot(0), 0; s.left > 0 && passed < passedPerStep &&
		assessed < assessedPerStep; {
		if s.next == 0 || s.next >= limit {
			s.next = 1
		}
		end := s.next + min(limit-s.next, s.left, passedPerStep-passed)
		slot := s.next
		if !s.every {
			slot = s.room.locations.nextOn(slot, end, s.nodes, true)
		}
		s.room.step.Work += int(slot-s.next) / passedWork
		passed += slot - s.next
		s.left -= slot - s.next
		s.next = slot
		if slot < end {
			s.assess(slot)
			assessed++
			passed++
			s.next++
			s.left--
		}
	}
	if s.left == 0 {
		s.every, s.nodes = false, s.nodes[:0]
	}
}

// assess assesses one chunk; if but one replica of it is left now, that does not wait for a Tick.
func (s *sweep) assess(slot namespace.ChunkSlot) {
	before := s.room.locations.level(slot)
	s.room.repair.assess(slot)
	if after := s.room.locations.level(slot); after == levelLast && before != after {
		s.room.repair.refillFor(1)
	}
}
