package replicas

import (
	"fmt"
	"slices"

	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/internal/datanode"
)

// location holds the nodes of one sealed chunk: 8 bytes.
type location struct {
	nodes [3]datanode.Index // in no order; 0 means none. More than three spill over
	level level
	flags uint8
}

// spilled are the nodes of a chunk with more than three.
type spilled struct {
	nodes       []datanode.Index
	unconfirmed positions
}

// positions is a set of positions in the nodes of a chunk; those beyond 31 are never in it.
type positions uint32

// level says how many replicas a chunk has, by what must be done: 1+n for n too few of them.
type level uint8

const (
	levelWanted  level = 0
	levelMissing level = 1
	levelLast    level = levelMissing + 1 // one replica is left
	// levelLeaving: enough replicas, of which some are on nodes that leave; levelAway: too few, of which enough are on
	// nodes in maintenance.
	levelLeaving level = 253
	levelAway    level = 254
	levelSurplus level = 255
)

// sated reports whether nothing is to be copied.
func (l level) sated() bool { return l == levelWanted || l == levelAway || l == levelSurplus }

const (
	flagDirty        = 1 << 0
	flagsUnconfirmed = 1 // the next three bits are the positions of unconfirmed nodes
	positionsMask    = 0b111
	// flagDoubtful: there are enough replicas, but too few of which their nodes told.
	flagDoubtful = 1 << 4
	// flagSpilled: there are more than three nodes, in the page's spill.
	flagSpilled = 1 << 5
	// flagReduced: one of the replicas was lost, and there were not enough since.
	flagReduced = 1 << 6
	// flagShort: it is open, and on fewer live nodes than its file wants.
	flagShort = 1 << 7
)

const locationPageItems = 1024

type locationPage struct {
	items [locationPageItems]location
	spill map[namespace.ChunkSlot]spilled // chunks with more than three nodes
}

// locations says which nodes have a replica of a sealed chunk that is in its place: at the chunk's generation and
// length. A node that has not yet said so itself, but a writer or a recovery for it, is unconfirmed.
type locations struct {
	pages    []*locationPage
	located  uint64 // chunks with a replica
	doubtful uint64 // chunks that are marked so
	short    uint64 // likewise
	byNode   []int  // chunks located on each node, by its index
	// leaving are the nodes whose replica of a chunk is on a disk that is to be removed, of chunks that have such.
	leaving map[namespace.ChunkSlot][]datanode.Index
}

func newLocations() locations {
	l := locations{leaving: make(map[namespace.ChunkSlot][]datanode.Index)}
	l.addNode() // index 0 is no node's
	return l
}

// check compares the nodes of a chunk with those whose replica leaves.
func (l *locations) check(slot namespace.ChunkSlot) error {
	nodes, leaving := l.of(slot), l.leaving[slot]
	strange := slices.ContainsFunc(leaving, func(node datanode.Index) bool { return !slices.Contains(nodes, node) })
	if _, has := l.leaving[slot]; strange || has != (len(leaving) > 0) {
		return fmt.Errorf("slot %d is on nodes %v, of which %v leave disks", slot, nodes, leaving)
	}
	return nil
}

func (l *locations) addNode() { l.byNode = append(l.byNode, 0) }

// held is the number of chunks located on a node.
func (l *locations) held(node datanode.Index) int { return l.byNode[node] }

func (l *locations) page(slot namespace.ChunkSlot) *locationPage {
	at := int(slot / locationPageItems)
	for at >= len(l.pages) {
		l.pages = append(l.pages, new(locationPage))
	}
	return l.pages[at]
}

func (l *locations) at(slot namespace.ChunkSlot) *location {
	return &l.page(slot).items[slot%locationPageItems]
}

// of returns the nodes of a sealed chunk; valid until the next change.
func (l *locations) of(slot namespace.ChunkSlot) []datanode.Index {
	page := l.page(slot)
	item := &page.items[slot%locationPageItems]
	if item.flags&flagSpilled != 0 {
		return page.spill[slot].nodes
	}
	count := 0
	for count < len(item.nodes) && item.nodes[count] != 0 {
		count++
	}
	return item.nodes[:count]
}

// unconfirmed returns the positions in of(slot) of nodes that have not said themselves that they have the chunk.
func (l *locations) unconfirmed(slot namespace.ChunkSlot) positions {
	page := l.page(slot)
	flags := page.items[slot%locationPageItems].flags
	if flags&flagSpilled != 0 {
		return page.spill[slot].unconfirmed
	}
	return positions(flags >> flagsUnconfirmed & positionsMask)
}

func (l *locations) set(slot namespace.ChunkSlot, nodes []datanode.Index, unconfirmed positions) {
	page := l.page(slot)
	item := &page.items[slot%locationPageItems]
	if item.flags&flagSpilled != 0 {
		delete(page.spill, slot)
	}
	item.flags &= flagDirty | flagDoubtful | flagReduced | flagShort
	if len(nodes) > len(item.nodes) {
		if page.spill == nil {
			page.spill = make(map[namespace.ChunkSlot]spilled)
		}
		page.spill[slot] = spilled{slices.Clone(nodes), unconfirmed}
		item.flags |= flagSpilled
		copy(item.nodes[:], nodes)
		return
	}
	item.flags |= uint8(unconfirmed << flagsUnconfirmed)
	var few [3]datanode.Index
	copy(few[:], nodes)
	item.nodes = few
}

// nextOn finds the first slot of from..end-1 of a chunk on one of some nodes or, if asked for, of which no live replica
// is known for sure; else it is end. It reads 8 bytes per slot, in order: a slot that it passes costs about a
// nanosecond.
func (l *locations) nextOn(from, end namespace.ChunkSlot, nodes bitset[datanode.Index],
	orMissing bool) namespace.ChunkSlot {
	for slot := from; slot < end; {
		page := l.page(slot)
		first := slot % locationPageItems
		last := min(first+end-slot, locationPageItems)
		items := page.items[first:last]
		for i := range items {
			item := &items[i]
			if nodes.has(item.nodes[0]) || nodes.has(item.nodes[1]) || nodes.has(item.nodes[2]) ||
				orMissing && (item.nodes[0] == 0 || item.level == levelMissing ||
					item.flags&(positionsMask<<flagsUnconfirmed) != 0) {
				return slot + namespace.ChunkSlot(i)
			}
			if item.flags&flagSpilled != 0 {
				spilled := page.spill[slot+namespace.ChunkSlot(i)]
				if orMissing && spilled.unconfirmed != 0 || slices.ContainsFunc(spilled.nodes, nodes.has) {
					return slot + namespace.ChunkSlot(i)
				}
			}
		}
		slot += last - first
	}
	return end
}

func (l *locations) has(slot namespace.ChunkSlot, node datanode.Index) bool {
	return slices.Contains(l.of(slot), node)
}

// confirmed reports whether a node said itself that it has a chunk.
func (l *locations) confirmed(slot namespace.ChunkSlot, node datanode.Index) bool {
	i := slices.Index(l.of(slot), node)
	return i >= 0 && l.unconfirmed(slot)&(1<<i) == 0
}

// add notes that a node has a chunk, by its own word (told) or by another's; false: that was known.
func (l *locations) add(slot namespace.ChunkSlot, node datanode.Index, told bool) bool {
	nodes, unconfirmed := l.of(slot), l.unconfirmed(slot)
	if i := slices.Index(nodes, node); i >= 0 {
		if told && unconfirmed&(1<<i) != 0 {
			l.set(slot, nodes, unconfirmed&^(1<<i))
		}
		return false
	}
	if len(nodes) == 0 {
		l.located++
	}
	l.byNode[node]++
	if !told {
		unconfirmed |= 1 << len(nodes)
	}
	var buffer [holdersInit]datanode.Index
	l.set(slot, append(append(buffer[:0], nodes...), node), unconfirmed)
	return true
}

// leaves reports whether a node's replica of a chunk is on a disk that is to be removed.
func (l *locations) leaves(slot namespace.ChunkSlot, node datanode.Index) bool {
	return len(l.leaving) > 0 && slices.Contains(l.leaving[slot], node)
}

// setLeaving notes whether a located replica is on a disk that is to be removed; false: that was known.
func (l *locations) setLeaving(slot namespace.ChunkSlot, node datanode.Index, leaves bool) bool {
	if l.leaves(slot, node) == leaves {
		return false
	}
	if leaves {
		l.leaving[slot] = append(l.leaving[slot], node)
		return true
	}
	rest := slices.DeleteFunc(l.leaving[slot], func(other datanode.Index) bool { return other == node })
	if l.leaving[slot] = rest; len(rest) == 0 {
		delete(l.leaving, slot)
	}
	return true
}

// remove forgets that a node has a chunk; false: that was not known.
func (l *locations) remove(slot namespace.ChunkSlot, node datanode.Index) bool {
	l.setLeaving(slot, node, false)
	nodes, unconfirmed := l.of(slot), l.unconfirmed(slot)
	i := slices.Index(nodes, node)
	if i < 0 {
		return false
	}
	if len(nodes) == 1 {
		l.located--
	}
	l.byNode[node]--
	before := unconfirmed & (1<<i - 1)
	var buffer [holdersInit]datanode.Index
	l.set(slot, append(append(buffer[:0], nodes[:i]...), nodes[i+1:]...), before|unconfirmed>>(i+1)<<i)
	return true
}

func (l *locations) removeAll(slot namespace.ChunkSlot) {
	nodes := l.of(slot)
	for _, node := range nodes {
		l.byNode[node]--
	}
	delete(l.leaving, slot)
	if len(nodes) > 0 {
		l.located--
		l.set(slot, nil, 0)
	}
}

// count is the number of chunks with a replica.
func (l *locations) count() uint64 { return l.located }

// unproven is the number of doubtful chunks.
func (l *locations) unproven() uint64 { return l.doubtful }

// mark sets a flag of a chunk, and returns what that adds to the number of chunks that have it.
func (l *locations) mark(slot namespace.ChunkSlot, flag uint8, on bool) (more uint64) {
	item := l.at(slot)
	more = count(on) - count(item.flags&flag != 0)
	if item.flags &^= flag; on {
		item.flags |= flag
	}
	return more
}

// markDoubtful notes whether too few nodes of a chunk that has enough told of it themselves.
func (l *locations) markDoubtful(slot namespace.ChunkSlot, doubtful bool) {
	l.doubtful += l.mark(slot, flagDoubtful, doubtful)
}

// markShort notes whether a chunk is open, and on fewer live nodes than its file wants.
func (l *locations) markShort(slot namespace.ChunkSlot, short bool) {
	l.short += l.mark(slot, flagShort, short)
}

// countShort is the number of short chunks.
func (l *locations) countShort() uint64                    { return l.short }
func (l *locations) isShort(slot namespace.ChunkSlot) bool { return l.at(slot).flags&flagShort != 0 }

// markReduced notes whether a chunk has lost a replica, and not had enough since.
func (l *locations) markReduced(slot namespace.ChunkSlot, reduced bool) {
	l.mark(slot, flagReduced, reduced)
}

func (l *locations) isReduced(slot namespace.ChunkSlot) bool {
	return l.at(slot).flags&flagReduced != 0
}

// isDoubtful reports whether a chunk is marked so.
func (l *locations) isDoubtful(slot namespace.ChunkSlot) bool {
	return l.at(slot).flags&flagDoubtful != 0
}

func (l *locations) level(slot namespace.ChunkSlot) level        { return l.at(slot).level }
func (l *locations) setLevel(slot namespace.ChunkSlot, to level) { l.at(slot).level = to }

// markDirty notes that a chunk must be assessed; false: it is marked already.
func (l *locations) markDirty(slot namespace.ChunkSlot) bool {
	item := l.at(slot)
	marked := item.flags&flagDirty != 0
	item.flags |= flagDirty
	return !marked
}

func (l *locations) unmark(slot namespace.ChunkSlot) { l.at(slot).flags &^= flagDirty }
