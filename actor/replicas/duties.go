package replicas

import (
	"slices"

	"github.com/tidwall/btree"

	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/internal/datanode"
)

// Duties is what operators want of datanodes, and how far that is.
//
// A node that leaves (is to be decommissioned) still serves reads and copies, but its replicas do not count. One in
// maintenance may be away until a deadline: its replicas count, as long as two others (or the only one wanted) are
// there for sure. A chunk needs such a node while it would have too few replicas without it; when no chunk does, an
// operator may stop the node. What is wanted is durable, the rest follows from the assessments of chunks.
type Duties struct {
	room    *Replicas
	byNode  []nodeDuty // by node index
	out     int        // nodes that do not serve now, but for forgotten ones
	unheard int        // nodes in maintenance that may have what lacks: see countUnheard
	// needed holds the nodes out of service that a chunk needs, for each chunk that needs one.
	needed btree.Map[namespace.ChunkSlot, need]
	// open are those of them that are being written, openFrom is where the next look at them begins.
	open     btree.Set[namespace.ChunkSlot]
	openFrom namespace.ChunkSlot
}

// need is what a chunk needs of nodes out of service.
type need struct {
	nodes []datanode.Index
	open  bool // it is being written
}

// Assignment is what an operator wants of a node.
type Assignment struct {
	Duty         datanode.Duty
	Since, Until int64 // Unix ms; Until is 0 unless it is a maintenance
}

type nodeDuty struct {
	Assignment

	needed, open int // chunks that need it; those of them that are being written
}

func (d *Duties) addNode() { d.byNode = append(d.byNode, nodeDuty{}) }

// Of returns what is wanted of a node.
func (d *Duties) Of(node datanode.Index) Assignment { return d.byNode[node].Assignment }

// Set notes what is wanted of a node.
func (d *Duties) Set(node datanode.Index, wish Assignment) {
	d.byNode[node].Assignment = wish
	d.refresh()
}

// All yields the nodes of which something else than service is wanted, by index.
func (d *Duties) All(yield func(datanode.Index, Assignment) bool) {
	for index := range d.byNode {
		if wish := d.byNode[index].Assignment; wish.Duty != datanode.DutyServe && !yield(datanode.Index(index), wish) {
			return
		}
	}
}

// refresh tells the nodes what their duty means at this time: a maintenance that is over is service.
func (d *Duties) refresh() {
	d.out = 0
	for _, n := range d.room.Nodes.withForgotten() {
		wish := d.byNode[n.index].Assignment
		if wish.Duty == datanode.DutyMaintenance && wish.Until <= d.room.step.Now {
			wish.Duty = datanode.DutyServe
		}
		d.room.Nodes.setDuty(n, wish.Duty)
		d.out += int(count(!n.serves() && !n.forgotten()))
	}
	if unheard := d.countUnheard(); unheard != d.unheard {
		d.unheard = unheard
		d.room.sweep.all()
	}
}

// countUnheard counts the nodes in maintenance whose replicas this namenode does not know, because they were away when
// it became active: what a chunk lacks may be on them. After unheardMost nobody counts on that any more, nor while a
// node that serves is as unknown and does not come: what lacks may be what that one had.
func (d *Duties) countUnheard() (unheard int) {
	for _, n := range d.room.Nodes.all() {
		unknown := n.dead() && !n.reported()
		if unknown && n.serves() && !d.room.Nodes.mayReturn(n) {
			return 0
		}
		unheard += int(count(unknown && n.excused()))
	}
	if d.room.step.Mono-d.room.step.ActiveSince >= unheardMost {
		return 0
	}
	return unheard
}

// tick refreshes the duties, and looks again at chunks that are being written: their pipelines change unseen.
func (d *Duties) tick() {
	d.refresh()
	if !d.room.step.Active {
		return
	}
	var open []namespace.ChunkSlot
	from := d.openFrom
	d.openFrom = 0
	d.open.Ascend(from, func(slot namespace.ChunkSlot) bool {
		if len(open) == openAssessedPerTick {
			d.openFrom = slot
			return false
		}
		open = append(open, slot)
		return true
	})
	for _, slot := range open {
		d.room.repair.assess(slot)
	}
}

// tally counts the replicas of a chunk.
type tally struct {
	alive   int // on nodes that are not dead
	steady  int // of these on nodes that serve
	excused int // on nodes in maintenance, dead or not
	leaving int // alive, on disks that are to be removed: they are neither steady nor excused
	known   int // all of them
}

func (r *Replicas) tally(slot namespace.ChunkSlot, nodes []datanode.Index) (found tally) {
	for _, node := range nodes {
		n := r.Nodes.at(node)
		found.alive += int(count(!n.dead()))
		if r.locations.leaves(slot, node) {
			found.leaving += int(count(!n.dead()))
			continue
		}
		found.steady += int(count(n.steady()))
		found.excused += int(count(n.excused()))
	}
	found.known = len(nodes)
	return found
}

// enough is how many replicas on steady nodes suffice while others are on nodes in maintenance.
func enough(wanted int) int { return min(2, wanted) }

// counted is how many replicas count.
func (t tally) counted(wanted int) int {
	if t.steady < enough(wanted) {
		return t.steady
	}
	return t.steady + t.excused
}

// bridged reports whether a chunk with too few replicas waits for nodes in maintenance: nothing is copied meanwhile. A
// node that this namenode has not heard of has none of what this namenode has seen elsewhere, alive or lost.
func (d *Duties) bridged(slot namespace.ChunkSlot, held tally, wanted int) bool {
	hidden := max(min(d.unheard, wanted-held.known), 0)
	if d.room.locations.isReduced(slot) {
		hidden = 0
	}
	return held.steady >= enough(wanted) && held.counted(wanted)+hidden >= wanted
}

// assess notes which nodes out of service a chunk needs.
func (d *Duties) assess(slot namespace.ChunkSlot) {
	d.forget(slot)
	if n := d.needOf(slot); len(n.nodes) > 0 {
		d.needed.Set(slot, n)
		if n.open {
			d.open.Insert(slot)
		}
		d.add(n, 1)
	}
}

// needOf finds the nodes out of service that a chunk needs; replicas that only a writer named do not count for others.
func (d *Duties) needOf(slot namespace.ChunkSlot) need {
	record := d.room.files.Chunk(slot)
	found := need{open: record.Open()}
	if d.out == 0 || record.ID().IsZero() {
		return found
	}
	holders := d.room.locations.of(slot)
	sure := holders
	if found.open {
		holders = d.room.OpenChunks.Holders(slot)
		sure = holders
	} else if d.room.locations.unconfirmed(slot) != 0 {
		sure = slices.DeleteFunc(slices.Clone(holders), func(node datanode.Index) bool {
			return !d.room.locations.confirmed(slot, node)
		})
	}
	held, wanted := d.room.tally(slot, sure), d.room.wanted(slot)
	if held.alive == 0 { // perhaps what is not in its place is all that there is
		holders = slices.Clone(holders)
		for _, m := range d.room.misplaced.of(record.ID()) {
			holders = append(holders, m.node)
		}
	}
	for _, node := range holders {
		n := d.room.Nodes.at(node)
		needs := n.leaving() && (found.open || held.counted(wanted) < wanted) ||
			n.excused() && held.steady < enough(wanted)
		if needs && !slices.Contains(found.nodes, node) {
			found.nodes = append(found.nodes, node)
		}
	}
	return found
}

// forget notes that a chunk needs no node out of service.
func (d *Duties) forget(slot namespace.ChunkSlot) {
	if d.needed.Len() == 0 {
		return
	}
	if n, needs := d.needed.Delete(slot); needs {
		d.open.Delete(slot)
		d.add(n, -1)
	}
}

// add counts a need of a chunk, or no longer.
func (d *Duties) add(n need, change int) {
	for _, node := range n.nodes {
		d.byNode[node].needed += change
		d.byNode[node].open += change * int(count(n.open))
	}
}

// Progress says how far a node is from what is wanted of it.
type Progress struct {
	Assignment

	// Needed counts the chunks that need the node, Open those of them that are being written.
	Needed, Open int
	Done         bool // no chunk needs it, which holders of all chunks have confirmed to this namenode
}

// progress of one node.
func (d *Duties) progress(n *node) Progress {
	own := d.byNode[n.index]
	p := Progress{Assignment: own.Assignment, Needed: own.needed, Open: own.open}
	if p.Duty == datanode.DutyServe || !d.room.step.Active {
		return p
	}
	few, missing := d.room.repair.counts()
	p.Done = p.Needed == 0 && !d.room.SafeMode.On() && d.room.sweep.done() && !d.room.Nodes.ReportsMissing() &&
		(n.reported() || few == 0 && missing == 0) // what a node has that never reported may be all that there is
	return p
}
