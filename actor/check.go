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
	if s.txid == 0 {
		return nil
	}
	if err := s.files.Check(func(file uint64) bool { return s.open[file] != nil }); err != nil {
		return err
	}
	if err := s.checkLeases(); err != nil {
		return err
	}
	if err := s.checkReplicas(); err != nil {
		return err
	}
	return s.checkRetry()
}

func (s *State) checkLeases() error {
	held, hidden := 0, 0
	for client, h := range s.holders {
		if client == (ClientID{}) || len(h.files) == 0 {
			return fmt.Errorf("holder %x has %d files", client, len(h.files))
		}
		for id := range h.files {
			if o := s.open[id]; o == nil || o.client != client {
				return fmt.Errorf("file %d is not held by %x", id, client)
			}
			held++
		}
	}
	for id, o := range s.open {
		slot := s.tree.Find(id)
		if slot == 0 || s.tree.Inode(slot).Directory() {
			return fmt.Errorf("lease of inode %d", id)
		}
		if _, listed := s.recoveries.Get(id); listed == (s.leaseState(id) == leaseHeld) {
			return fmt.Errorf("lease of file %d is %s, listed for recovery: %v", id, s.leaseState(id), listed)
		}
		if s.tree.Inode(slot).Hidden() {
			hidden++
			if o.path == "" {
				return fmt.Errorf("hidden file %d has no path", id)
			}
		} else {
			if at, ok := s.tree.Entry(s.tree.Inode(slot).Parent(), o.leaf); !ok || at != slot {
				return fmt.Errorf("file %d is not at its leaf %q", id, o.leaf)
			}
		}
	}
	if hidden != s.tree.Hidden() {
		return fmt.Errorf("%d hidden files, %d with a lease", s.tree.Hidden(), hidden)
	}
	if held+s.recoveries.Len() != len(s.open) {
		return fmt.Errorf("%d leases, %d held, %d in recovery", len(s.open), held, s.recoveries.Len())
	}
	return nil
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
		if !c.ID().IsZero() && !c.Open() && s.active && s.sweep.left == 0 {
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

func (s *State) checkRetry() error {
	results, clients := 0, 0
	var last int64
	for c := s.retry.oldest; c != nil; c = c.newer {
		clients++
		results += len(c.entries)
		if c.last < last || len(c.entries) > retryResultsMax || s.retry.clients[c.id] != c {
			return fmt.Errorf("retry client %x: last %d after %d, %d results", c.id, c.last, last, len(c.entries))
		}
		last = c.last
		for i, e := range c.entries {
			if e.sequence < c.floor || i > 0 && e.sequence <= c.entries[i-1].sequence {
				return fmt.Errorf("retry client %x: sequence %d, floor %d", c.id, e.sequence, c.floor)
			}
		}
	}
	if clients != len(s.retry.clients) || results != s.retry.results {
		return fmt.Errorf("retry cache: %d clients, %d results; counted %d, %d", len(s.retry.clients), s.retry.results, clients, results)
	}
	return nil
}
