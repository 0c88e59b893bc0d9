package simdisk

import (
	"fmt"
	"math/rand/v2"
)

const (
	sectorBytes = 512  // a disk writes a sector whole or not at all
	pageBytes   = 4096 // the page cache writes back by page
)

// CrashMode says what happens to unsynced changes in a crash.
type CrashMode uint8

// Crash modes.
const (
	// CrashKeepAll: the process died, the machine lives: nothing is lost, and
	// what was not durable is still not.
	CrashKeepAll CrashMode = iota
	// CrashDropUnsynced: power failed and no unsynced change had reached the
	// disk.
	CrashDropUnsynced
	// CrashTornLast: everything reached the disk but the last unsynced write,
	// of which only a prefix of sectors did.
	CrashTornLast
	// CrashSubset: an arbitrary subset of the unsynced changes reached the
	// disk: writes whole, or some of their pages, the last write torn at a
	// sector; directory changes each for itself, though never one without an
	// earlier one of the same name.
	CrashSubset
)

// String names the mode.
func (c CrashMode) String() string {
	switch c {
	case CrashKeepAll:
		return "keep all"
	case CrashDropUnsynced:
		return "drop unsynced"
	case CrashTornLast:
		return "torn last write"
	case CrashSubset:
		return "subset"
	}
	return fmt.Sprintf("crash mode %d", uint8(c))
}

// CrashPolicy chooses one outcome of a crash. The same policy on the same
// state gives the same outcome.
type CrashPolicy struct {
	Mode CrashMode
	Seed uint64 // CrashTornLast, CrashSubset
}

// CrashClone returns the file system that a crash at this moment leaves, as the
// next start finds it: nothing locked, no hook, and after a power failure all
// of it durable. m goes on unharmed.
func (m *Mem) CrashClone(policy CrashPolicy) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	place := crash{
		policy: policy, random: rand.New(rand.NewPCG(policy.Seed, 0x77772d6372617368)),
		torn: m.mu.lastWrite, nodes: make(map[*memNode]*memNode),
		entries: make(map[*memNode]map[string]*memNode),
	}
	clone := NewMem()
	clone.mu.capacity = m.mu.capacity
	if policy.Mode == CrashKeepAll {
		clone.mu.root = place.copyNode(m.mu.root)
		for _, p := range m.mu.pending {
			clone.mu.pending = append(clone.mu.pending, place.copyEntryChange(p))
		}
		clone.mu.lastWrite = m.mu.lastWrite // changes are never modified, so they are shared
	} else {
		place.chooseEntries(m.mu.pending)
		clone.mu.root = place.node(m.mu.root)
	}
	for _, n := range place.nodes {
		if n.links > 0 {
			clone.mu.used += int64(len(n.data))
		}
	}
	return clone
}

type crash struct {
	policy  CrashPolicy
	random  *rand.Rand
	torn    *fileChange
	nodes   map[*memNode]*memNode            // old → new
	entries map[*memNode]map[string]*memNode // directory → its names after the crash, if not its durable ones
}

// chooseEntries decides which directory changes survive.
func (c *crash) chooseEntries(pending []*entryChange) {
	keep := make(map[*entryChange]bool)
	for _, p := range pending {
		switch c.policy.Mode {
		case CrashTornLast:
			keep[p] = true
		case CrashSubset:
			keep[p] = c.random.IntN(2) == 0
		}
	}
	addDependencies(pending, keep)
	for _, p := range pending {
		if !keep[p] {
			continue
		}
		for _, edit := range p.edits {
			names := c.entries[edit.directory]
			if names == nil {
				names = make(map[string]*memNode, len(edit.directory.durable))
				for name, node := range edit.directory.durable {
					names[name] = node
				}
				c.entries[edit.directory] = names
			}
			edit.applyTo(names)
		}
	}
}

func (e entryEdit) applyTo(names map[string]*memNode) {
	if e.node == nil {
		delete(names, e.name)
		return
	}
	names[e.name] = e.node
}

// addDependencies adds to keep every earlier change that shares a name with a
// kept one.
func addDependencies(pending []*entryChange, keep map[*entryChange]bool) {
	type key struct {
		directory *memNode
		name      string
	}
	wanted := make(map[key]bool)
	for i := len(pending) - 1; i >= 0; i-- {
		p := pending[i]
		for _, e := range p.edits {
			if wanted[key{e.directory, e.name}] {
				keep[p] = true
			}
		}
		if keep[p] {
			for _, e := range p.edits {
				wanted[key{e.directory, e.name}] = true
			}
		}
	}
}

// settleEntriesLocked makes every pending change that touches directory durable.
func (m *Mem) settleEntriesLocked(directory *memNode) {
	settle := make(map[*entryChange]bool)
	for _, p := range m.mu.pending {
		for _, e := range p.edits {
			if e.directory == directory {
				settle[p] = true
			}
		}
	}
	addDependencies(m.mu.pending, settle)
	rest := m.mu.pending[:0:0]
	for _, p := range m.mu.pending {
		if !settle[p] {
			rest = append(rest, p)
			continue
		}
		for _, e := range p.edits {
			e.applyTo(e.directory.durable)
		}
	}
	m.mu.pending = rest
}

// node copies a node as it is after the crash.
func (c *crash) node(old *memNode) *memNode {
	if n := c.nodes[old]; n != nil {
		return n
	}
	node := &memNode{directory: old.directory, modified: old.modified, links: 1}
	c.nodes[old] = node
	if !old.directory {
		node.data = c.content(old)
		node.synced = append([]byte(nil), node.data...)
		return node
	}
	names, chosen := c.entries[old]
	if !chosen {
		names = old.durable
	}
	node.entries, node.durable = make(map[string]*memNode), make(map[string]*memNode)
	for _, name := range sortedNames(names) {
		child := c.node(names[name])
		node.entries[name], node.durable[name] = child, child
	}
	return node
}

// copyNode copies a node as it is, with what is not durable.
func (c *crash) copyNode(old *memNode) *memNode {
	if old == nil {
		return nil
	}
	if n := c.nodes[old]; n != nil {
		return n
	}
	node := &memNode{directory: old.directory, modified: old.modified, links: old.links}
	c.nodes[old] = node
	if !old.directory {
		node.data = append([]byte(nil), old.data...)
		node.synced = append([]byte(nil), old.synced...)
		node.changes = append([]*fileChange(nil), old.changes...)
		return node
	}
	node.entries, node.durable = make(map[string]*memNode), make(map[string]*memNode)
	for name, child := range old.entries {
		node.entries[name] = c.copyNode(child)
	}
	for name, child := range old.durable {
		node.durable[name] = c.copyNode(child)
	}
	return node
}

func (c *crash) copyEntryChange(old *entryChange) *entryChange {
	n := &entryChange{}
	for _, e := range old.edits {
		n.edits = append(n.edits, entryEdit{c.copyNode(e.directory), e.name, c.copyNode(e.node)})
	}
	return n
}

// content decides what a file holds after the crash.
func (c *crash) content(old *memNode) []byte {
	content := append([]byte(nil), old.synced...)
	for _, change := range old.changes {
		for _, kept := range c.survivors(change) {
			content = kept.apply(content)
		}
	}
	return content
}

// survivors returns the parts of an unsynced change that reached the disk.
func (c *crash) survivors(change *fileChange) []*fileChange {
	switch c.policy.Mode {
	case CrashTornLast:
		if change == c.torn {
			return c.prefix(change)
		}
		return []*fileChange{change}
	case CrashSubset:
		if change == c.torn && change.data != nil && c.random.IntN(2) == 0 {
			return c.prefix(change)
		}
		switch c.random.IntN(3) {
		case 0:
			return nil
		case 1:
			return []*fileChange{change}
		}
		if change.data == nil {
			return nil
		}
		return c.somePages(change)
	}
	return nil
}

// prefix keeps a random number of leading sectors, not all.
func (c *crash) prefix(change *fileChange) []*fileChange {
	if change.data == nil {
		return nil
	}
	first := change.offset / sectorBytes
	last := (change.offset + int64(len(change.data)) - 1) / sectorBytes
	keep := (first+c.random.Int64N(last-first+1))*sectorBytes - change.offset
	if keep <= 0 {
		return nil
	}
	return []*fileChange{{offset: change.offset, data: change.data[:keep]}}
}

// somePages keeps each page of a write with probability one half.
func (c *crash) somePages(change *fileChange) (kept []*fileChange) {
	end := change.offset + int64(len(change.data))
	for at := change.offset; at < end; {
		next := min(end, (at/pageBytes+1)*pageBytes)
		if c.random.IntN(2) == 0 {
			kept = append(kept, &fileChange{offset: at, data: change.data[at-change.offset : next-change.offset]})
		}
		at = next
	}
	return kept
}
