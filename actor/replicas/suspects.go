package replicas

import (
	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
	"github.com/whispering-woods/ww/internal/queue"
)

// verdict says whether a replica is bad. A reader that finds one bad may be right, or its own memory or network may
// be at fault. The replica is no location from then on, so that others need not meet it, and its node is asked to
// compare it with its checksums. If it is good, it is a location again. If it is corrupt, the node puts it in
// quarantine and reports it so, and a copy may replace it. If the disk does not return its bytes, it is bad: it may
// be deleted so that a copy can replace it. Until the node answers it is neither deleted nor replaced on that node.
type verdict uint8

const (
	unverified verdict = iota // no reader has complained
	suspect                   // a reader found its bytes bad; its node has not verified it yet
	bad                       // its node could not read it either
)

// Suspects are the replicas that a reader found bad.
type Suspects struct {
	room  *Replicas
	queue queue.FIFO[check] // when to ask again, or to delete what is bad
}

// Report notes that a reader found a replica bad.
func (s *Suspects) Report(id chunk.ID, generation chunk.Generation, nodeID, reason string) *fault.Error {
	node, slot := s.room.Nodes.Find(nodeID), s.room.files.Find(id)
	if node == 0 || slot == 0 {
		e := fault.New(fault.NotFound, "report bad replica", "the chunk or the datanode is not known")
		e.Chunk, e.Node = id.String(), limits.Clip(nodeID, 64)
		return e
	}
	c := *s.room.files.Chunk(slot)
	if c.Open() || generation != c.Generation() || !s.room.removeLocation(slot, node) {
		return nil // an older generation, or known already: nothing to do
	}
	s.room.misplace(id, misplaced{node: node, state: chunk.Sealed, generation: generation, length: c.Length(),
		verdict: suspect})
	s.verify(s.room.Nodes.at(node), id, generation)
	s.room.step.Emit(step.Event{Kind: step.EventReplicaSuspected, NodeID: nodeID, Chunk: id,
		Text: limits.Clip(reason, 1024)})
	return nil
}

// watch schedules another look at a suspect or bad replica.
func (s *Suspects) watch(c check) {
	c.at = s.room.step.Mono + s.room.config.ResendAfter
	s.queue.Push(c)
}

// verify asks a node that is there; verifyAgain asks the others later.
func (s *Suspects) verify(n *node, id chunk.ID, generation chunk.Generation) {
	if n.reachable() {
		s.room.step.Send(n.id, &datanode.VerifyReplica{Chunk: id, Generation: generation})
	}
}

// verifyAgain repeats the orders that were not answered, or could not be sent, and
// has bad replicas deleted as soon as that may be.
func (s *Suspects) verifyAgain() {
	for i := 0; i < verifyOrdersPerTick && s.queue.Len() > 0 && s.queue.At(0).at <= s.room.step.Mono; i++ {
		due := s.queue.Pop()
		replica := s.room.misplaced.find(due.id, due.node)
		if replica == nil || replica.verdict == unverified || replica.since != due.since {
			continue
		}
		if slot := s.room.files.Find(due.id); slot == 0 || s.room.files.Chunk(slot).Generation() != replica.generation {
			s.clear(due.id, replica) // good or bad, it is of no use any more
			continue
		}
		n := s.room.Nodes.at(due.node)
		if replica.verdict == suspect {
			s.verify(n, due.id, replica.generation)
		} else if reason := s.room.deletion.deletable(n, due.id, replica); reason != 0 {
			s.room.deletion.order(due.node, due.id, replica.generation, reason)
		}
		s.room.watch(due.id, replica)
	}
}

// Verified notes a node's answer. A corrupt replica comes as a report too, which
// ends the suspicion: it is in quarantine.
func (s *Suspects) Verified(session Session, result *datanode.VerifyResult) *fault.Error {
	node, err := s.room.Nodes.Heard("verify result", session)
	if err != nil {
		return err
	}
	m := s.room.misplaced.find(result.Chunk, node)
	if !s.room.step.Active || m == nil || m.verdict == unverified || m.generation != result.Generation {
		return nil // it is something else meanwhile
	}
	event := step.Event{NodeID: session.NodeID, Chunk: result.Chunk}
	switch {
	case result.Bad:
		m.verdict = bad
		event.Kind, event.Text = step.EventReplicaBad, limits.Clip(result.Error, 1024)
	case result.Error == "":
		s.clear(result.Chunk, m)
		event.Kind = step.EventReplicaCleared
	default:
		return nil
	}
	s.room.step.Emit(event)
	return nil
}

// clear ends the suspicion: the replica counts as what its node says.
func (s *Suspects) clear(id chunk.ID, m *misplaced) {
	node := m.node
	r := chunk.Replica{ID: id, Generation: m.generation, Length: m.length, State: m.state}
	s.room.misplaced.remove(id, node)
	s.room.observe(node, s.room.files.Find(id), &r, false)
}

// forgetAll begins every wait anew.
func (s *Suspects) forgetAll() { s.queue = queue.FIFO[check]{} }
