package actor

import (
	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
)

// A reader that finds a replica bad may be right, or its own memory or network
// may be. The replica is no location from then on, so that others need not meet
// it, and its node is asked to compare it with its checksums. If it is good, it
// is a location again. If it is corrupt, the node puts it in quarantine and
// reports it so, and a copy may take its place. If the disk does not give its
// bytes, it is condemned: it may be deleted for a copy to take its place. Until
// the node answers it is neither deleted nor replaced on that node.
type blame uint8

const (
	innocent  blame = iota
	accused         // a reader found its bytes bad; its node has not verified it yet
	condemned       // its node could not read it either
)

func (s *State) reportBadReplica(r *ReportBadReplica) (any, *fault.Error) {
	const op = "report bad replica"
	if !s.step.Active {
		return nil, s.notActive(op)
	}
	n, slot := s.nodeIndex[r.NodeID], s.files.Find(r.Chunk)
	if n == 0 || slot == 0 {
		e := fault.New(fault.NotFound, op, "the chunk or the datanode is not known")
		e.Chunk, e.Node = r.Chunk.String(), clip(r.NodeID, 64)
		return nil, e
	}
	c := *s.files.Chunk(slot)
	if c.Open() || r.Generation != c.Generation() || !s.removeLocation(slot, n) {
		// An older generation, or known already: nothing to do.
		return &ReportBadReplicaResult{}, nil
	}
	s.setOdd(r.Chunk, oddReplica{node: n, state: chunk.Sealed, generation: c.Generation(), length: c.Length(), blame: accused})
	s.orderVerify(s.nodes[n], r.Chunk, c.Generation())
	s.step.Tell(step.Event{Kind: step.EventReplicaSuspected, NodeID: r.NodeID, Chunk: r.Chunk, Text: clip(r.Reason, 1024)})
	return &ReportBadReplicaResult{}, nil
}

// orderVerify asks a node that is there; verifyAgain asks the others later.
func (s *State) orderVerify(n *node, id chunk.ID, generation chunk.Generation) {
	if n.connected && n.liveness == nodeLive {
		s.step.Send(n.id, &datanode.VerifyReplica{Chunk: id, Generation: generation})
	}
}

// verifyAgain repeats the orders that were not answered, or could not be sent,
// and has condemned replicas deleted as soon as that may be.
func (s *State) verifyAgain() {
	for i := 0; i < verifyOrdersPerTick && s.blamedQueue.Len() > 0 && s.blamedQueue.At(0).at <= s.step.Mono; i++ {
		check := s.blamedQueue.Pop()
		o := s.findOdd(check.id, check.node)
		if o == nil || o.blame == innocent || o.since != check.since {
			continue
		}
		n := s.nodes[check.node]
		if slot := s.files.Find(check.id); slot == 0 || s.files.Chunk(slot).Generation() != o.generation {
			s.acquit(n, check.id, o) // good or bad, it is of no use any more
			continue
		}
		if o.blame == accused {
			s.orderVerify(n, check.id, o.generation)
		} else if reason := s.deletable(n, check.id, o); reason != 0 {
			s.orderDelete(n, check.id, o.generation, reason)
		}
		s.watchOdd(check.id, o)
	}
}

// verifyResult takes a node's answer. A corrupt replica comes as a report too,
// which ends the blame: it is in quarantine.
func (s *State) verifyResult(r *VerifyResult) *fault.Error {
	n, err := s.session("verify result", r.NodeID, r.Session)
	if err != nil {
		return err
	}
	s.heardOf(n)
	o := s.findOdd(r.Chunk, n.index)
	if !s.step.Active || o == nil || o.blame == innocent || o.generation != r.Generation {
		return nil // it is something else meanwhile
	}
	switch {
	case r.Bad:
		o.blame = condemned
		s.step.Tell(step.Event{Kind: step.EventReplicaBad, NodeID: n.id, Chunk: r.Chunk, Text: clip(r.Error, 1024)})
	case r.Error == "":
		s.acquit(n, r.Chunk, o)
		s.step.Tell(step.Event{Kind: step.EventReplicaCleared, NodeID: n.id, Chunk: r.Chunk})
	}
	return nil
}

// acquit takes the blame from a replica: it counts as what its node says.
func (s *State) acquit(n *node, id chunk.ID, o *oddReplica) {
	r := chunk.Replica{ID: id, Generation: o.generation, Length: o.length, State: o.state}
	s.removeOdd(id, n.index)
	s.observe(n, &r, false)
}
