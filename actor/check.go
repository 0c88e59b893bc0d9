package actor

import (
	"fmt"
	"slices"

	"github.com/whispering-woods/ww/internal/chunk"
)

// check compares all that is derived with what it is derived from, and the
// numbers with their bounds. It costs time in proportion to the state; tests
// call it after every step.
func (s *State) check() error {
	if s.txid == 0 {
		return nil
	}
	if err := s.checkInodes(); err != nil {
		return err
	}
	if err := s.checkChunks(); err != nil {
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

func (s *State) checkInodes() error {
	var files, directories, inTree uint64
	var bytes int64
	children := make(map[uint64]int64)
	var bad error
	s.entries.Scan(func(key string, slot uint32) bool {
		i := s.inodes.at(slot)
		inTree++
		switch {
		case i.parent != entryDirectory(key), i.hidden(), s.inodeSlot.get(i.id) != slot, checkName(key[8:]) != "":
			bad = fmt.Errorf("entry %q of directory %d: inode %+v", key[8:], entryDirectory(key), *i)
		case i.directory():
			directories++
		default:
			files++
			bytes += i.length
		}
		children[i.parent]++
		return bad == nil
	})
	if bad != nil {
		return bad
	}
	if files != s.files || directories != s.directories || bytes != s.bytes {
		return fmt.Errorf("totals: %d files, %d directories, %d bytes; counted %d, %d, %d", s.files, s.directories, s.bytes, files, directories, bytes)
	}
	hidden := uint64(0)
	for id, slot := range s.inodeSlot.all {
		i := s.inodes.at(slot)
		switch {
		case i.id != id || id >= s.nextInode || i.txid > s.txid:
			return fmt.Errorf("inode %d in slot %d: %+v", id, slot, *i)
		case i.directory() && i.length != children[id]:
			return fmt.Errorf("directory %d: %d entries, counted %d", id, i.length, children[id])
		case i.hidden() && (i.parent != 0 || s.open[id] == nil || s.open[id].path == ""):
			return fmt.Errorf("hidden file %d: %+v", id, *i)
		}
		if i.hidden() {
			hidden++
		}
	}
	if uint64(s.inodeSlot.count) != inTree+hidden+1 || s.inodeSlot.count != s.inodes.count {
		return fmt.Errorf("%d inodes, %d in the tree, %d hidden, %d in the slab", s.inodeSlot.count, inTree, hidden, s.inodes.count)
	}
	var slots []uint32
	for _, slot := range s.inodeSlot.all {
		if s.inodes.at(slot).directory() {
			slots = append(slots, slot)
		}
	}
	return s.checkTree(slots)
}

func (s *State) checkChunks() error {
	total, sealed, open := 0, uint64(0), 0
	for id, file := range s.inodeSlot.all {
		i := s.inodes.at(file)
		if i.directory() {
			continue
		}
		var length int64
		index := uint32(0)
		short := false
		for k := i.first; k != 0; k = s.chunks.at(k).next {
			c := s.chunks.at(k)
			total++
			w := s.openChunk[k]
			switch {
			case c.file != file || c.index != index || s.chunkSlot[c.id] != k || s.chunkAt(file, index) != k:
				return fmt.Errorf("file %d chunk %d: %+v", id, index, *c)
			case c.generation == 0 || c.generation > c.promised || c.length() > i.chunkSize():
				return fmt.Errorf("file %d chunk %d: generation %d of %d, length %d", id, index, c.generation, c.promised, c.length())
			case c.open() != (w != nil):
				return fmt.Errorf("file %d chunk %d: open %v, %+v", id, index, c.open(), w)
			case c.open() && s.open[id] == nil:
				return fmt.Errorf("file %d is closed, its chunk %d is open", id, index)
			case w != nil && (w.minimum == 0 || w.minimum > c.generation || w.base > c.length() || w.cut >= 0 && w.cut != c.length()):
				return fmt.Errorf("file %d chunk %d: %+v, %+v", id, index, *c, *w)
			case short && s.open[id] == nil:
				return fmt.Errorf("file %d: chunk %d follows a short one", id, index)
			}
			if c.open() {
				open++
			} else {
				sealed++
			}
			short = short || c.length() < i.chunkSize()
			length += c.length()
			index++
			if c.next == 0 && i.last != k {
				return fmt.Errorf("file %d: last chunk is slot %d, not %d", id, i.last, k)
			}
		}
		if index != i.chunks || length != i.length || (i.chunks > 1) != (s.lists[id] != nil) || i.chunks == 0 && i.last != 0 {
			return fmt.Errorf("file %d: %d chunks of %d bytes, counted %d, %d; list %v", id, i.chunks, i.length, index, length, s.lists[id])
		}
		if s.open[id] == nil && i.flags&flagCompleted == 0 {
			return fmt.Errorf("file %d is closed but was never completed", id)
		}
	}
	if total != len(s.chunkSlot) || total != s.chunks.count || sealed != s.sealed || open != len(s.openChunk) {
		return fmt.Errorf("chunks: %d by id, %d in the slab, %d sealed, %d open; counted %d, %d, %d",
			len(s.chunkSlot), s.chunks.count, s.sealed, len(s.openChunk), total, sealed, open)
	}
	return nil
}

func (s *State) checkLeases() error {
	held := 0
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
		slot := s.inodeOf(id)
		if slot == 0 || s.inodes.at(slot).directory() {
			return fmt.Errorf("lease of inode %d", id)
		}
		if _, listed := s.recoveries.Get(id); listed == (s.leaseState(id) == leaseHeld) {
			return fmt.Errorf("lease of file %d is %s, listed for recovery: %v", id, s.leaseState(id), listed)
		}
		if !s.inodes.at(slot).hidden() {
			if at, ok := s.entries.Get(entryKey(s.inodes.at(slot).parent, o.leaf)); !ok || at != slot {
				return fmt.Errorf("file %d is not at its leaf %q", id, o.leaf)
			}
		}
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
	for slot := uint32(1); slot < s.chunks.limit; slot++ {
		c := s.chunks.at(slot)
		nodes := s.locationsOf(slot)
		l := s.location(slot)
		if (c.id.IsZero() || c.open()) && (len(nodes) > 0 || l.level != 0) {
			return fmt.Errorf("slot %d has no sealed chunk, but nodes %v, level %d", slot, nodes, l.level)
		}
		if len(nodes) > 0 {
			located++
		}
		for i, n := range nodes {
			if n == 0 || int(n) >= len(s.nodes) || slices.Contains(nodes[:i], n) {
				return fmt.Errorf("slot %d: nodes %v", slot, nodes)
			}
			if o := s.findOdd(c.id, n); o != nil {
				return fmt.Errorf("chunk %s is in its place and odd on node %d: %+v", c.id, n, *o)
			}
		}
		if !c.id.IsZero() && !c.open() && s.active && s.sweep.left == 0 {
			had := l.level
			s.assess(slot)
			if l.level != had {
				return fmt.Errorf("chunk %s on %v has level %d, want %d", c.id, nodes, had, l.level)
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
			if slot := s.chunkSlot[id]; slot != 0 && !s.chunks.at(slot).open() && s.inPlace(s.chunks.at(slot), o) && s.nodes[o.node].deletes[id] == nil {
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
	slot := s.chunkSlot[id]
	if slot == 0 {
		return nil
	}
	c := s.chunks.at(slot)
	if order.reason == deleteRemoved || order.reason == deleteUnknown {
		return fmt.Errorf("chunk %s exists, yet node %q shall delete it", id, n.id)
	}
	if order.generation == c.generation && slices.Contains(s.locationsOf(slot), n.index) {
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
