package actor

import (
	"math"
	"slices"
	"time"

	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/datanode"
)

// sweep assesses all chunks again, a bounded number per step, after a node's
// liveness changed.
type sweep struct {
	next namespace.ChunkSlot
	left namespace.ChunkSlot // how many
}

// restart makes the sweep go once around limit slots from where it is.
func (w *sweep) restart(limit namespace.ChunkSlot) { w.left = limit }

// copyOrder is a repair copy under way.
type copyOrder struct {
	target   uint16
	deadline time.Duration
}

// markDirty has a chunk assessed at the end of the step.
func (s *State) markDirty(slot namespace.ChunkSlot) {
	l := s.location(slot)
	if s.step.Active && l.flags&flagDirty == 0 {
		l.flags |= flagDirty
		s.dirty = append(s.dirty, slot)
	}
}

// settle ends a step: what the step touched is assessed, orders are sent.
func (s *State) settle() {
	s.assessDirty()
	s.maybeLeaveSafeMode()
	s.sendDeletes()
	s.assessDirty() // an order may have been given up
	s.repairNext()
}

func (s *State) assessDirty() {
	for _, slot := range s.dirty {
		s.location(slot).flags &^= flagDirty
		s.assess(slot)
	}
	s.dirty = s.dirty[:0]
}

// assess counts a chunk's live replicas and files it for repair or trimming.
func (s *State) assess(slot namespace.ChunkSlot) {
	c := s.files.Chunk(slot)
	if c.ID().IsZero() || c.Open() {
		s.setLevel(slot, 0)
		return
	}
	nodes := s.locationsOf(slot)
	live := 0
	for _, n := range nodes {
		if s.nodes[n].liveness != nodeDead {
			live++
		}
	}
	wanted := s.wanted(slot)
	switch {
	case live == 0:
		s.setLevel(slot, levelMissing)
	case live < wanted:
		s.setLevel(slot, uint8(levelMissing+live))
	case len(nodes) > wanted && live > wanted:
		s.setLevel(slot, levelSurplus)
	default:
		s.setLevel(slot, 0)
	}
}

func repairKey(level uint8, slot namespace.ChunkSlot) uint64 { return uint64(level)<<32 | uint64(slot) }

// setLevel files a chunk under its danger.
func (s *State) setLevel(slot namespace.ChunkSlot, level uint8) {
	l := s.location(slot)
	if l.level == level {
		return
	}
	switch l.level {
	case 0:
	case levelMissing:
		s.missing--
	case levelSurplus:
		s.surplus.Delete(slot)
	default:
		s.repair.Delete(repairKey(l.level, slot))
	}
	l.level = level
	switch level {
	case 0:
	case levelMissing:
		s.missing++
	case levelSurplus:
		s.surplus.Set(slot, struct{}{})
	default:
		s.repair.Set(repairKey(level, slot), struct{}{})
	}
}

// continueSweep assesses the next chunks of a sweep, and compares reports.
func (s *State) continueSweep() {
	for _, n := range s.nodes[1:] {
		if n.report != nil && n.report.done {
			s.compareReport(n, sweepSlotsPerStep)
		}
	}
	limit := s.files.Limit()
	for done := 0; s.sweep.left > 0 && limit > 1 && done < sweepSlotsPerStep; done++ {
		if s.sweep.next == 0 || s.sweep.next >= limit {
			s.sweep.next = 1
		}
		s.assess(s.sweep.next)
		s.sweep.next++
		s.sweep.left--
	}
	if limit <= 1 {
		s.sweep.left = 0
	}
}

// endCopy forgets the copy under way for a chunk.
func (s *State) endCopy(slot namespace.ChunkSlot) {
	if c := s.copies[slot]; c != nil {
		s.nodes[c.target].copies--
		delete(s.copies, slot)
	}
}

// repairChunks orders copies of chunks with too few replicas, those with the
// fewest first, within the limits.
func (s *State) repairChunks() {
	if s.safe.on || s.step.Mono-s.safe.left < s.config.RepairGrace {
		return
	}
	var late []namespace.ChunkSlot
	for slot, c := range s.copies {
		if c.deadline <= s.step.Mono || s.nodes[c.target].liveness != nodeLive {
			late = append(late, slot)
		}
	}
	slices.Sort(late)
	for _, slot := range late {
		s.endCopy(slot)
	}
	_, s.repairFrom = s.orderCopies(s.repairFrom, repairExaminedPerTick, math.MaxInt)
	s.refillFrom = 0
}

// repairNext orders a copy in the place of each that has arrived, so that many
// small ones need not wait for a Tick each. It begins with the fewest replicas, as
// a Tick does; only when all that it looked at cannot be copied now does the next
// arrival go on behind them, until a Tick.
func (s *State) repairNext() {
	arrived := s.copiesArrived
	s.copiesArrived = 0
	if arrived == 0 || !s.step.Active || s.safe.on || s.step.Mono-s.safe.left < s.config.RepairGrace {
		return
	}
	ordered, next := s.orderCopies(s.refillFrom, repairExaminedPerCopy, arrived)
	if s.refillFrom = next; ordered > 0 {
		s.refillFrom = 0
	}
}

// orderCopies examines chunks with too few replicas from a key on, those that are
// being copied not counted, and orders copies, up to so many of both. next is the
// key to go on with; 0: it has seen all, or a limit of copies is reached.
func (s *State) orderCopies(from uint64, examinedMost, orderedMost int) (ordered int, next uint64) {
	examined := 0
	s.repair.Ascend(from, func(key uint64, _ struct{}) bool {
		slot := namespace.ChunkSlot(key & math.MaxUint32)
		if len(s.copies) >= s.config.CopiesTotal || ordered >= orderedMost {
			return false
		}
		if s.copies[slot] != nil {
			return true
		}
		if examined++; examined > examinedMost {
			next = key
			return false
		}
		if s.maybeCopy(slot) {
			ordered++
		}
		return true
	})
	return ordered, next
}

// maybeCopy orders one more replica of a chunk if it is time and there is a
// source and a target, and tells whether it did. None is under way.
func (s *State) maybeCopy(slot namespace.ChunkSlot) bool {
	c := s.files.Chunk(slot)
	var sources []uint16
	for _, n := range s.locationsOf(slot) {
		m := s.nodes[n]
		if m.liveness == nodeDead {
			if s.step.Mono-m.died < s.config.RepairGrace {
				return false // it may come back
			}
			continue
		}
		sources = append(sources, n)
	}
	if len(sources) == 0 {
		return false
	}
	s.shuffleByLoad(sources)
	targets := s.chooseNodes(1, c.Length(), func(n *node) bool {
		return n.copies >= s.config.CopiesPerNode || s.holds(n.index, slot)
	}, s.racksOf(sources))
	if len(targets) == 0 {
		return false
	}
	t := s.nodes[targets[0]]
	t.copies++
	s.copies[slot] = &copyOrder{target: t.index, deadline: s.step.Mono + s.config.CopyTimeout}
	s.step.Send(t.id, &datanode.CopyReplica{Chunk: c.ID(), Generation: c.Generation(), Length: c.Length(), Sources: s.replicasOf(sources)})
	s.step.Tell(step.Event{Kind: step.EventCopyOrdered, NodeID: t.id, Chunk: c.ID(), Count: len(sources)})
	return true
}

// trimSurplus orders one replica too many deleted per chunk, from the fullest
// node, and only when the wanted number of others is confirmed.
func (s *State) trimSurplus() {
	if s.safe.on {
		return
	}
	var slots []namespace.ChunkSlot
	s.surplus.Scan(func(slot namespace.ChunkSlot, _ struct{}) bool {
		slots = append(slots, slot)
		return len(slots) < trimsPerTick
	})
	for _, slot := range slots {
		if s.copies[slot] != nil {
			continue
		}
		fullest := uint16(0)
		for _, n := range s.locationsOf(slot) {
			m := s.nodes[n]
			if m.liveness != nodeLive || !m.reported || s.confirmed(slot, n) < s.wanted(slot) {
				continue
			}
			if fullest == 0 || m.fuller(s.nodes[fullest]) {
				fullest = n
			}
		}
		if fullest == 0 {
			continue
		}
		c := s.files.Chunk(slot)
		s.orderDelete(s.nodes[fullest], c.ID(), c.Generation(), deleteSurplus)
		if s.nodes[fullest].deletes[c.ID()] != nil {
			s.removeLocation(slot, fullest)
		}
	}
}

// fuller tells whether n has the lower free share; the higher index among
// equals.
func (n *node) fuller(m *node) bool {
	a, b := float64(n.free)/float64(max(n.capacity, 1)), float64(m.free)/float64(max(m.capacity, 1))
	if a != b {
		return a < b
	}
	return n.index > m.index
}

// tick drives everything that waits for time.
func (s *State) tick() {
	s.checkNodesAlive()
	for s.fresh.Len() > 0 && s.step.Mono-s.fresh.At(0).at >= freshFor {
		s.fresh.Pop()
	}
	if !s.step.Active {
		return
	}
	s.continueSweep()
	if s.safe.on {
		return
	}
	s.endLeases()
	s.continueRecoveries()
	s.verifyAgain()
	s.examineOdd()
	s.resendDeletes()
	s.repairChunks()
	s.trimSurplus()
}
