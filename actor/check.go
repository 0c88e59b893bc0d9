package actor

import (
	"fmt"
	"slices"

	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/internal/chunk"
)

// check compares all that is derived with what it is derived from, and the
// numbers with their bounds. It costs time in proportion to the state; tests
// call it after every step.
func (s *State) check() error {
	if s.step.Txid == 0 {
		return nil
	}
	if err := s.files.Check(func(file uint64) bool { return s.leases.Of(file) != nil }); err != nil {
		return err
	}
	if err := s.checkLeases(); err != nil {
		return err
	}
	if err := s.checkReplicas(); err != nil {
		return err
	}
	return s.answers.Check()
}

// checkLeases compares the leases with the files.
func (s *State) checkLeases() error {
	hidden := 0
	for id, o := range s.leases.Snapshot() {
		slot := s.tree.Find(id)
		if slot == 0 || s.tree.Inode(slot).Directory() {
			return fmt.Errorf("lease of inode %d", id)
		}
		if s.tree.Inode(slot).Hidden() {
			hidden++
			if o.Path == "" {
				return fmt.Errorf("hidden file %d has no path", id)
			}
		} else if at, ok := s.tree.Entry(s.tree.Inode(slot).Parent(), o.Leaf); !ok || at != slot {
			return fmt.Errorf("file %d is not at its leaf %q", id, o.Leaf)
		}
	}
	if hidden != s.tree.Hidden() {
		return fmt.Errorf("%d hidden files, %d with a lease", s.tree.Hidden(), hidden)
	}
	return s.leases.Check()
}

func (s *State) checkReplicas() error {
	var located, missing, corrupt uint64
	repair, surplus := 0, 0
	odd := make([]int, len(s.nodes))
	for slot := namespace.ChunkSlot(1); slot < s.files.Limit(); slot++ {
		c := s.files.Chunk(slot)
		nodes := s.locationsOf(slot)
		l := s.location(slot)
		if (c.ID().IsZero() || c.Open()) && (len(nodes) > 0 || l.level != 0) {
			return fmt.Errorf("slot %d has no sealed chunk, but nodes %v, level %d", slot, nodes, l.level)
		}
		if len(nodes) > 0 {
			located++
		}
		for i, n := range nodes {
			if n == 0 || int(n) >= len(s.nodes) || slices.Contains(nodes[:i], n) {
				return fmt.Errorf("slot %d: nodes %v", slot, nodes)
			}
			if o := s.findOdd(c.ID(), n); o != nil {
				return fmt.Errorf("chunk %s is in its place and odd on node %d: %+v", c.ID(), n, *o)
			}
		}
		if !c.ID().IsZero() && !c.Open() && s.step.Active && s.sweep.left == 0 {
			had := l.level
			s.assess(slot)
			if l.level != had {
				return fmt.Errorf("chunk %s on %v has level %d, want %d", c.ID(), nodes, had, l.level)
			}
		}
		switch l.level {
		case 0:
		case levelMissing:
			missing++
		case levelSurplus:
			surplus++
		default:
			repair++
		}
	}
	for id, replicas := range s.odd {
		for i := range replicas {
			o := &replicas[i]
			odd[o.node]++
			corrupt += btoi(o.bad())
			if slot := s.files.Find(id); slot != 0 && !s.files.Chunk(slot).Open() && s.inPlace(s.files.Chunk(slot), o) && s.nodes[o.node].deletes[id] == nil {
				return fmt.Errorf("chunk %s is in its place on node %d but odd", id, o.node)
			}
		}
	}
	copies := make([]int, len(s.nodes))
	for _, c := range s.copies {
		copies[c.target]++
	}
	for _, n := range s.nodes[1:] {
		if n.odd != odd[n.index] || n.copies != copies[n.index] || s.nodeIndex[n.id] != n.index {
			return fmt.Errorf("node %q: odd %d, counted %d; copies %d, counted %d", n.id, n.odd, odd[n.index], n.copies, copies[n.index])
		}
		for id, order := range n.deletes {
			if err := s.checkOrder(n, id, order); err != nil {
				return err
			}
		}
	}
	if located != s.located || missing != s.missing || corrupt != s.corrupt || repair != s.repair.Len() || surplus != s.surplus.Len() {
		return fmt.Errorf("located %d, missing %d, corrupt %d, repair %d, surplus %d; counted %d, %d, %d, %d, %d",
			s.located, s.missing, s.corrupt, s.repair.Len(), s.surplus.Len(), located, missing, corrupt, repair, surplus)
	}
	if len(s.copies) > s.config.CopiesTotal || len(s.dirty) > 0 {
		return fmt.Errorf("%d copies of %d, %d dirty", len(s.copies), s.config.CopiesTotal, len(s.dirty))
	}
	return nil
}

// checkOrder: no order may name a replica that counts as in its place.
func (s *State) checkOrder(n *node, id chunk.ID, order *deleteOrder) error {
	slot := s.files.Find(id)
	if slot == 0 {
		return nil
	}
	c := s.files.Chunk(slot)
	if order.reason == deleteRemoved || order.reason == deleteUnknown {
		return fmt.Errorf("chunk %s exists, yet node %q shall delete it", id, n.id)
	}
	if order.generation == c.Generation() && slices.Contains(s.locationsOf(slot), n.index) {
		return fmt.Errorf("chunk %s on node %q counts, yet shall be deleted", id, n.id)
	}
	return nil
}
