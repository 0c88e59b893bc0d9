package replicas

import (
	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
	"github.com/whispering-woods/ww/internal/queue"
)

// verdict says whether a replica is bad. A reader that finds one bad may be right,
// or its own memory or network may be at fault. The replica is no location from then
// on, so that others need not meet it, and its node is asked to compare it with its
// checksums. If it is good, it is a location again. If it is corrupt, the node puts
// it in quarantine and reports it so, and a copy may replace it. If the disk does not
// return its bytes, it is bad: it may be deleted so that a copy can replace it. Until
// the node answers it is neither deleted nor replaced on that node.
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
	s.room.misplace(id, misplaced{node: node, state: chunk.Sealed, generation: generation, length: c.Length(), verdict: suspect})
	s.verify(s.room.Nodes.at(node), id, generation)
	s.room.step.Tell(step.Event{Kind: step.EventReplicaSuspected, NodeID: nodeID, Chunk: id, Text: limits.Clip(reason, 1024)})
	return nil
}

// watch has a replica that is not unverified come up again.
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
		c := s.queue.Pop()
		m := s.room.misplaced.find(c.id, c.node)
		if m == nil || m.verdict == unverified || m.since != c.since {
			continue
		}
		if slot := s.room.files.Find(c.id); slot == 0 || s.room.files.Chunk(slot).Generation() != m.generation {
			s.clear(c.id, m) // good or bad, it is of no use any more
			continue
		}
		n := s.room.Nodes.at(c.node)
		if m.verdict == suspect {
			s.verify(n, c.id, m.generation)
		} else if reason := s.room.deletion.deletable(n, c.id, m); reason != 0 {
			s.room.deletion.order(c.node, c.id, m.generation, reason)
		}
		s.room.watch(c.id, m)
	}
}

// Verified notes a node's answer. A corrupt replica comes as a report too, which
// ends the suspicion: it is in quarantine.
func (s *Suspects) Verified(session Session, r *datanode.VerifyResult) *fault.Error {
	node, err := s.room.Nodes.Heard("verify result", session)
	if err != nil {
		return err
	}
	m := s.room.misplaced.find(r.Chunk, node)
	if !s.room.step.Active || m == nil || m.verdict == unverified || m.generation != r.Generation {
		return nil // it is something else meanwhile
	}
	e := step.Event{NodeID: session.NodeID, Chunk: r.Chunk}
	switch {
	case r.Bad:
		s.room.misplaced.judge(r.Chunk, node, bad)
		e.Kind, e.Text = step.EventReplicaBad, limits.Clip(r.Error, 1024)
	case r.Error == "":
		s.clear(r.Chunk, m)
		e.Kind = step.EventReplicaCleared
	default:
		return nil
	}
	s.room.step.Tell(e)
	return nil
}

// clear ends the suspicion: the replica counts as what its node says.
func (s *Suspects) clear(id chunk.ID, m *misplaced) {
	node := m.node
	r := chunk.Replica{ID: id, Generation: m.generation, Length: m.length, State: m.state}
	s.room.misplaced.remove(id, node)
	s.room.observe(node, &r, false)
}

// forgetAll begins every wait anew.
func (s *Suspects) forgetAll() { s.queue = queue.FIFO[check]{} }
