package actor

import (
	"slices"
	"time"

	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
)

// Deleting is the one thing that loses data, so all of it is here. A replica is
// ordered deleted only by the active namenode, out of safe mode, and because:
//   - its chunk was removed by a durable record (at once), or
//   - its chunk is unknown, or it is stale: of a lower generation than the
//     sealed chunk, which has live replicas in their place (after a grace), or
//   - it is surplus, misplaced or unreadable, and enough other replicas are in
//     their place on live nodes that reported in full to this namenode; or it is
//     the one that is in the way of the repair.
// A corrupt replica is never deleted: its node puts it in quarantine.
// An order names the replica's generation, and is checked again before it is
// sent again.

type deleteReason uint8

const (
	deleteRemoved deleteReason = iota + 1
	deleteUnknown
	deleteStale
	deleteSurplus
)

// deleteOrder waits for the node's word that the replica is gone.
type deleteOrder struct {
	generation chunk.Generation
	reason     deleteReason
	attempts   int
}

type resend struct {
	id chunk.ID
	at time.Duration
}

// oddCheck makes an odd replica come up for examination.
type oddCheck struct {
	id    chunk.ID
	node  uint16
	since time.Duration
	at    time.Duration
}

// watchOdd has an odd replica examined after the grace.
func (s *State) watchOdd(id chunk.ID, o *oddReplica) {
	if slot := s.files.Find(id); slot != 0 && s.files.Chunk(slot).Open() {
		return // the sealing will do it
	}
	check := oddCheck{id: id, node: o.node, since: o.since}
	if o.blame != innocent {
		check.at = s.step.Mono + s.config.ResendAfter
		s.blamedQueue.Push(check)
		return
	}
	check.at = s.step.Mono + s.config.DeleteGrace
	s.oddQueue.Push(check)
}

// orderDelete queues an order; settle sends it.
func (s *State) orderDelete(n *node, id chunk.ID, generation chunk.Generation, reason deleteReason) {
	if old := n.deletes[id]; old != nil {
		if old.reason == deleteRemoved || old.generation == generation {
			return
		}
		old.generation, old.reason, old.attempts = generation, reason, 0
		s.queueDelete(n, id)
		return
	}
	if len(n.deletes) >= deletesPerNodeMax {
		return // the next full report finds it
	}
	n.deletes[id] = &deleteOrder{generation: generation, reason: reason}
	s.queueDelete(n, id)
}

func (s *State) queueDelete(n *node, id chunk.ID) {
	n.toSend.Push(id)
	s.deletesQueued = true
}

// confirmDelete ends an order: the replica is gone.
func (s *State) confirmDelete(n *node, id chunk.ID) { delete(n.deletes, id) }

// resendAll has every order of a node sent again, to a new stream.
func (s *State) resendAll(n *node) {
	for n.toResend.Len() > 0 {
		s.queueDelete(n, n.toResend.Pop().id)
	}
	s.deletesQueued = s.deletesQueued || n.toSend.Len() > 0
}

// sendDeletes sends what is queued to nodes that are there, within the limits
// of one step.
func (s *State) sendDeletes() {
	if !s.step.Active || s.safe.on || !s.deletesQueued {
		return
	}
	s.deletesQueued = false
	messages := 0
	for _, n := range s.nodes[1:] {
		if !n.connected || n.liveness != nodeLive {
			continue
		}
		for n.toSend.Len() > 0 && messages < deleteMessagesPerStep {
			var replicas []chunk.Replica
			for n.toSend.Len() > 0 && len(replicas) < deletesPerMessage {
				id := n.toSend.Pop()
				order := n.deletes[id]
				if order == nil {
					continue
				}
				if order.attempts >= deleteAttemptsMax || !s.stillWanted(n, id, order) {
					s.cancelDelete(n, id)
					continue
				}
				order.attempts++
				replicas = append(replicas, chunk.Replica{ID: id, Generation: order.generation})
				n.toResend.Push(resend{id: id, at: s.step.Mono + s.config.ResendAfter})
			}
			if len(replicas) > 0 {
				messages++
				s.step.Send(n.id, &datanode.DeleteReplicas{Replicas: replicas})
				s.step.Tell(step.Event{Kind: step.EventDeleteOrdered, NodeID: n.id, Count: len(replicas)})
			}
		}
		s.deletesQueued = s.deletesQueued || n.toSend.Len() > 0
	}
}

// resendDeletes queues the orders again that waited too long.
func (s *State) resendDeletes() {
	for _, n := range s.nodes[1:] {
		for i := 0; i < deletesPerMessage && n.toResend.Len() > 0 && n.toResend.At(0).at <= s.step.Mono; i++ {
			s.queueDelete(n, n.toResend.Pop().id)
		}
	}
}

// stillWanted checks an order again.
func (s *State) stillWanted(n *node, id chunk.ID, order *deleteOrder) bool {
	slot := s.files.Find(id)
	if order.reason == deleteRemoved || order.reason == deleteUnknown {
		return slot == 0
	}
	if slot == 0 || s.files.Chunk(slot).Open() {
		return false
	}
	if o := s.findOdd(id, n.index); o != nil {
		return o.generation == order.generation && s.deletable(n, id, o) != 0
	}
	return order.reason == deleteSurplus && s.confirmed(slot, n.index) >= s.wanted(slot)
}

// cancelDelete gives an order up. If the replica may still be there and be good,
// the node is asked what it has.
func (s *State) cancelDelete(n *node, id chunk.ID) {
	order := n.deletes[id]
	delete(n.deletes, id)
	slot := s.files.Find(id)
	if slot == 0 || s.files.Chunk(slot).Open() || s.files.Chunk(slot).Generation() != order.generation || s.findOdd(id, n.index) != nil {
		return
	}
	if order.attempts == 0 {
		s.addLocation(slot, n.index)
		return
	}
	s.step.Send(n.id, &datanode.SendReport{})
}

// wanted is the replication of a chunk's file.
func (s *State) wanted(slot namespace.ChunkSlot) int {
	return int(s.tree.Inode(s.files.Chunk(slot).File()).Replication())
}

// confirmed counts the replicas of a sealed chunk on live nodes that reported
// in full, apart from one node.
func (s *State) confirmed(slot namespace.ChunkSlot, except uint16) int {
	count := 0
	for _, n := range s.locationsOf(slot) {
		if m := s.nodes[n]; n != except && m.liveness == nodeLive && m.reported {
			count++
		}
	}
	return count
}

// examineOdd looks at the odd replicas whose grace is over.
func (s *State) examineOdd() {
	odd := &s.oddQueue
	for i := 0; i < oddExaminedPerTick && odd.Len() > 0 && odd.At(0).at <= s.step.Mono; i++ {
		check := odd.Pop()
		o := s.findOdd(check.id, check.node)
		if o == nil || o.since != check.since {
			continue // gone, or another check is under way for what it became
		}
		n := s.nodes[check.node]
		if reason := s.deletable(n, check.id, o); reason != 0 {
			s.orderDelete(n, check.id, o.generation, reason)
		}
		s.watchOdd(check.id, o)
	}
}

// deletable decides over an odd replica; 0 means that it stays.
func (s *State) deletable(n *node, id chunk.ID, o *oddReplica) deleteReason {
	if s.safe.on || n.liveness != nodeLive || !n.reported || o.blame == accused {
		return 0
	}
	if o.blame == innocent && (s.step.Mono-n.since < s.config.DeleteGrace || s.step.Mono-s.step.ActiveSince < s.config.DeleteGrace) {
		return 0
	}
	slot := s.files.Find(id)
	if slot == 0 {
		return deleteUnknown
	}
	c := s.files.Chunk(slot)
	switch {
	case c.Open():
		return 0
	case o.state == chunk.Corrupt:
		return 0 // in quarantine, where it stays
	case o.blame == innocent && o.generation < c.Generation():
		if s.staleAllowed(slot, n) {
			return deleteStale
		}
	default: // unreadable, not sealed, or of another length
		good := s.confirmed(slot, n.index)
		if good >= s.wanted(slot) || good > 0 && good+1 >= s.wanted(slot) && !s.canCopy(slot) {
			return deleteSurplus
		}
	}
	return 0
}

// staleAllowed: a stale replica is the last resort while the chunk has but one
// good one; it goes then only if it is in the way of the repair.
func (s *State) staleAllowed(slot namespace.ChunkSlot, n *node) bool {
	good := s.confirmed(slot, n.index)
	return good >= min(2, s.wanted(slot)) || good > 0 && !s.canCopy(slot)
}

// canCopy tells whether some node could take another replica of a chunk.
func (s *State) canCopy(slot namespace.ChunkSlot) bool {
	c := s.files.Chunk(slot)
	return slices.ContainsFunc(s.nodes[1:], func(n *node) bool {
		return n.liveness == nodeLive && n.room(c.Length()) && !s.holds(n.index, slot)
	})
}

// holds tells whether a node has a file of this chunk that is in the way of
// another replica. A quarantined one is not.
func (s *State) holds(n uint16, slot namespace.ChunkSlot) bool {
	id := s.files.Chunk(slot).ID()
	if slices.Contains(s.locationsOf(slot), n) || s.nodes[n].deletes[id] != nil {
		return true
	}
	o := s.findOdd(id, n)
	return o != nil && (o.blame != innocent || o.state != chunk.Corrupt)
}
