package actor

import (
	"slices"

	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
)

// report is a full chunk report that comes in. What the node did not list, and
// did not tell of meanwhile, is gone from it.
type report struct {
	id   uint64
	next uint32 // page wanted
	// listed are the slots of chunks that the report, a delta or a commit put on
	// the node since the report began.
	listed bitset
	// touched are chunks that a delta told of since the report began: the
	// report's word on them is older.
	touched map[chunk.ID]struct{}
	// done: all pages are in. from is the first slot that must still be compared.
	done bool
	from namespace.ChunkSlot
}

func (s *State) reportPage(r *ReportPage) *fault.Error {
	const op = "chunk report"
	n, err := s.session(op, r.NodeID, r.Session)
	if err != nil {
		return err
	}
	s.heardOf(n)
	if len(r.Replicas) > reportPageMax {
		return fault.New(fault.Invalid, op, "%d replicas in one page, at most %d are allowed", len(r.Replicas), reportPageMax)
	}
	if r.Page == 0 {
		n.report = &report{id: r.ReportID, touched: make(map[chunk.ID]struct{})}
		for i := range s.fresh.Len() {
			n.report.listed.set(s.fresh.At(i).slot)
		}
	}
	p := n.report
	if p == nil || p.done || p.id != r.ReportID || p.next != r.Page {
		n.report = nil
		s.step.Send(n.id, &datanode.SendReport{})
		e := fault.New(fault.Protocol, op, "page %d of report %d is out of order", r.Page, r.ReportID)
		e.Node = n.id
		return e
	}
	p.next++
	for i := range r.Replicas {
		replica := &r.Replicas[i]
		if _, newer := p.touched[replica.ID]; newer || !plausible(replica) {
			continue
		}
		if slot := s.files.Find(replica.ID); slot != 0 {
			p.listed.set(slot)
		}
		s.observe(n, replica, false)
	}
	if !r.Last {
		return nil
	}
	p.done = true
	p.touched = nil
	s.forgetUnlistedOdd(n)
	s.compareReport(n, sweepSlotsPerStep)
	return nil
}

// plausible refuses what no chunk store can say.
func plausible(r *chunk.Replica) bool {
	return !r.ID.IsZero() && r.Length >= 0 && r.Length <= chunk.SizeMax && r.State >= chunk.Open && r.State <= chunk.Recovered
}

// forgetUnlistedOdd drops the node's odd replicas that its report did not list.
func (s *State) forgetUnlistedOdd(n *node) {
	var gone []chunk.ID
	for id, odd := range s.odd {
		for i := range odd {
			if odd[i].node == n.index && odd[i].report != n.report.id {
				gone = append(gone, id)
			}
		}
	}
	slices.SortFunc(gone, func(a, b chunk.ID) int { return slices.Compare(a[:], b[:]) })
	for _, id := range gone {
		s.removeOdd(id, n.index)
		s.confirmDelete(n, id)
		if slot := s.files.Find(id); slot != 0 {
			s.markDirty(slot)
		}
	}
}

// compareReport removes the locations that a complete report did not list, a
// bounded number of slots at a time.
func (s *State) compareReport(n *node, limit namespace.ChunkSlot) {
	p := n.report
	end := s.files.Limit()
	for ; p.from < end && limit > 0; p.from, limit = p.from+1, limit-1 {
		if p.listed.has(p.from) || !slices.Contains(s.locationsOf(p.from), n.index) {
			continue
		}
		s.removeLocation(p.from, n.index)
	}
	if p.from < end {
		return
	}
	for id, order := range n.deletes {
		// An order for what the node no longer has is done. Map order has no
		// effect here.
		slot := s.files.Find(id)
		if order.attempts > 0 && s.findOdd(id, n.index) == nil && (slot == 0 || !slices.Contains(s.locationsOf(slot), n.index)) {
			delete(n.deletes, id)
		}
	}
	n.report = nil
	n.reported = true
	s.step.Tell(step.Event{Kind: step.EventReportDone, NodeID: n.id})
}

func (s *State) delta(r *Delta) *fault.Error {
	const op = "chunk delta"
	n, err := s.session(op, r.NodeID, r.Session)
	if err != nil {
		return err
	}
	s.heardOf(n)
	if len(r.Stored)+len(r.Removed) > reportPageMax {
		return fault.New(fault.Invalid, op, "%d replicas in one delta, at most %d are allowed", len(r.Stored)+len(r.Removed), reportPageMax)
	}
	for i := range r.Stored {
		if !plausible(&r.Stored[i]) {
			continue
		}
		s.touch(n, r.Stored[i].ID)
		if slot := s.files.Find(r.Stored[i].ID); slot != 0 && n.report != nil {
			n.report.listed.set(slot)
		}
		s.observe(n, &r.Stored[i], true)
	}
	for i := range r.Removed {
		s.gone(n, &r.Removed[i])
	}
	return nil
}

func (s *State) touch(n *node, id chunk.ID) {
	if n.report != nil && !n.report.done {
		n.report.touched[id] = struct{}{}
	}
}

// gone takes a node's word that a replica of a generation is no longer there.
func (s *State) gone(n *node, r *chunk.Replica) {
	s.touch(n, r.ID)
	if order := n.deletes[r.ID]; order != nil && order.generation == r.Generation {
		s.confirmDelete(n, r.ID)
	}
	slot := s.files.Find(r.ID)
	if o := s.findOdd(r.ID, n.index); o != nil && o.generation == r.Generation {
		s.removeOdd(r.ID, n.index)
		if slot != 0 {
			s.markDirty(slot)
		}
	}
	if slot != 0 && s.files.Chunk(slot).Generation() == r.Generation {
		s.removeLocation(slot, n.index)
	}
}
