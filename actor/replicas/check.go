package replicas

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
)

// Check compares all that is derived with what it is derived from, and the numbers with their bounds. It costs time
// in proportion to the state; tests call it after every step.
func (r *Replicas) Check() error {
	doubtful, short := uint64(0), uint64(0)
	for slot := namespace.ChunkSlot(1); slot < r.files.Limit(); slot++ {
		if err := r.checkLocations(slot); err != nil {
			return err
		}
		marked := r.locations.isDoubtful(slot)
		doubtful += count(marked)
		if r.step.Active && r.sweep.done() && marked != r.repair.doubtful(slot, r.locations.level(slot)) {
			return fmt.Errorf("slot %d is marked doubtful: %v", slot, marked)
		}
		marked = r.locations.isShort(slot)
		short += count(marked)
		if r.step.Active && r.sweep.done() && marked != (r.files.Chunk(slot).Open() && r.OpenChunks.short(slot)) {
			return fmt.Errorf("slot %d is marked as open on too few nodes: %v", slot, marked)
		}
	}
	if doubtful != r.locations.unproven() || short != r.locations.countShort() {
		return fmt.Errorf("%d chunks are doubtful, %d short; counted %d, %d", doubtful, short, r.locations.unproven(),
			r.locations.countShort())
	}
	if err := cmp.Or(r.checkKnown(), r.misplaced.check(r), r.Reports.check()); err != nil {
		return err
	}
	if err := r.repair.check(); err != nil {
		return err
	}
	if err := cmp.Or(r.Duties.check(), r.Balancer.check()); err != nil {
		return err
	}
	return r.deletion.check()
}

// check compares the bytes that each node stores with the locations, and the moves with their counts.
func (b *Balancer) check() error {
	stored := make([]int64, len(b.stored))
	for slot := namespace.ChunkSlot(1); slot < b.room.files.Limit(); slot++ {
		for _, node := range b.room.locations.of(slot) {
			stored[node] += b.room.files.Chunk(slot).Length()
		}
	}
	if !slices.Equal(stored, b.stored) {
		return fmt.Errorf("nodes store %v bytes, counted %v", stored, b.stored)
	}
	if !b.running() {
		return nil
	}
	moves := make(map[datanode.Index]int)
	for slot, m := range b.run.moves {
		if record := b.room.files.Chunk(slot); record.ID().IsZero() || record.Open() || record.Length() != m.bytes {
			return fmt.Errorf("slot %d moves, and is no sealed chunk of %d bytes", slot, m.bytes)
		}
		moves[m.source] += int(count(!m.arrived))
		moves[m.target] += int(count(!m.arrived))
	}
	for node, m := range b.run.nodes {
		if m.moves != moves[node] || m.moves > movesPerNode {
			return fmt.Errorf("node %d is in %d moves, counted %d", node, moves[node], m.moves)
		}
	}
	return nil
}

// checkKnown compares the nodes that are not forgotten with the table of all.
func (r *Replicas) checkKnown() error {
	known := 0
	for _, n := range r.Nodes.withForgotten() {
		switch {
		case r.Nodes.Find(n.id) != n.index:
			return fmt.Errorf("node %q has index %d, found %d", n.id, n.index, r.Nodes.Find(n.id))
		case !n.forgotten():
			known++
		case r.step.Active && (n.attached() || !n.dead()):
			return fmt.Errorf("node %q is forgotten, yet it is there", n.id)
		}
	}
	if known != len(r.Nodes.all()) {
		return fmt.Errorf("%d nodes are not forgotten, counted %d", len(r.Nodes.all()), known)
	}
	return nil
}

func (d *Duties) check() error {
	counted := make([]nodeDuty, len(d.byNode))
	var err error
	open := 0
	d.needed.Scan(func(slot namespace.ChunkSlot, n need) bool {
		open += int(count(n.open && d.open.Contains(slot)))
		for _, node := range n.nodes {
			counted[node].needed++
			counted[node].open += int(count(n.open))
		}
		if want := d.needOf(slot); d.room.step.Active && d.room.sweep.done() && !n.open && !want.open &&
			d.room.locations.level(slot) != levelMissing && !slices.Equal(n.nodes, want.nodes) {
			err = fmt.Errorf("slot %d needs %v out of service, counted %v", slot, want.nodes, n.nodes)
		}
		return err == nil
	})
	if err == nil && open != d.open.Len() {
		return fmt.Errorf("%d open chunks need nodes out of service, counted %d", open, d.open.Len())
	}
	for node := range counted {
		if n := d.byNode[node]; err == nil && (n.needed != counted[node].needed || n.open != counted[node].open) {
			return fmt.Errorf("node %d is needed by %d chunks, %d open; counted %d, %d", node, n.needed, n.open,
				counted[node].needed, counted[node].open)
		}
	}
	return err
}

// checkLocations compares the locations of one chunk with the chunk, and with its misplaced replicas.
func (r *Replicas) checkLocations(slot namespace.ChunkSlot) error {
	record := r.files.Chunk(slot)
	nodes, level := r.locations.of(slot), r.locations.level(slot)
	sealed := !record.ID().IsZero() && !record.Open()
	if !sealed && (len(nodes) > 0 || level != levelWanted) {
		return fmt.Errorf("slot %d has no sealed chunk, but nodes %v, level %d", slot, nodes, level)
	}
	if err := r.locations.check(slot); err != nil {
		return err
	}
	for i, node := range nodes {
		if !r.Nodes.Knows(node) || slices.Contains(nodes[:i], node) {
			return fmt.Errorf("slot %d: nodes %v", slot, nodes)
		}
		if r.step.Active && r.sweep.done() && r.Nodes.at(node).forgotten() {
			return fmt.Errorf("slot %d is on node %d, which is forgotten", slot, node)
		}
		if m := r.misplaced.find(record.ID(), node); m != nil {
			return fmt.Errorf("chunk %s is in its place and misplaced on node %d: %+v", record.ID(), node, *m)
		}
	}
	return nil
}

func (t *misplacedTable) check(room *Replicas) error {
	unusable := make(map[chunk.ID]int)
	counted := make([]int, len(t.byNode))
	for id, replicas := range t.byChunk {
		for i := range replicas {
			m := &replicas[i]
			counted[m.node]++
			if m.unusable() && !m.settled {
				unusable[id]++
			}
			slot := room.files.Find(id)
			if slot == 0 || room.files.Chunk(slot).Open() || !inPlace(room.files.Chunk(slot), m) {
				continue
			}
			if _, ordered := room.deletion.ordered(m.node, id); !ordered {
				return fmt.Errorf("chunk %s is in its place on node %d but misplaced", id, m.node)
			}
		}
	}
	if !slices.Equal(counted, t.byNode) || !maps.Equal(unusable, t.unusable) {
		return fmt.Errorf("misplaced on each node %v, counted %v; unusable %v, counted %v", t.byNode, counted,
			t.unusable, unusable)
	}
	return nil
}

func (r *repair) check() error {
	var located uint64
	var levels [len(r.levels)]int
	few := 0
	for slot := namespace.ChunkSlot(1); slot < r.room.files.Limit(); slot++ {
		nodes, level := r.room.locations.of(slot), r.room.locations.level(slot)
		located += count(len(nodes) > 0)
		if want := r.levelOf(slot); r.room.step.Active && r.room.sweep.done() && level != want {
			return fmt.Errorf("chunk %s on %v has level %d, want %d", r.room.files.Chunk(slot).ID(), nodes, level, want)
		}
		levels[level]++
		few += int(count(!level.sated() && level != levelMissing))
	}
	if located != r.room.locations.count() || few != r.few.Len() || levels[levelSurplus] != r.surplus.Len() {
		return fmt.Errorf("located %d, too few %d, surplus %d; counted %d, %d, %d",
			r.room.locations.count(), r.few.Len(), r.surplus.Len(), located, few, levels[levelSurplus])
	}
	if levels[levelWanted] = r.levels[levelWanted]; levels != r.levels {
		return fmt.Errorf("chunks by level %v, counted %v", r.levels, levels)
	}
	copies := make([]int, len(r.copiesTo))
	for _, c := range r.copies {
		copies[c.target]++
	}
	for slot := range r.retries {
		if l := r.room.locations.level(slot); l.sated() || len(r.retries) > copyRetriesMax {
			return fmt.Errorf("slot %d waits to be copied again, at level %d; %d do", slot, l, len(r.retries))
		}
	}
	if !slices.Equal(copies, r.copiesTo) || len(r.dirty) > 0 {
		return fmt.Errorf("copies to each node %v, counted %v; %d dirty", r.copiesTo, copies,
			len(r.dirty))
	}
	return nil
}

func (d *deletion) check() error {
	for _, n := range d.room.Nodes.withForgotten() {
		for id, order := range d.byNode[n.index].orders {
			if err := d.checkOrder(n.index, id, order); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkOrder: no order may name a replica that counts as in its place.
func (d *deletion) checkOrder(node datanode.Index, id chunk.ID, order *deleteOrder) error {
	slot := d.room.files.Find(id)
	if slot == 0 {
		return nil
	}
	if order.reason == deleteRemoved || order.reason == deleteUnknown {
		return fmt.Errorf("chunk %s exists, yet node %d shall delete it", id, node)
	}
	if order.generation == d.room.files.Chunk(slot).Generation() && d.room.locations.has(slot, node) {
		return fmt.Errorf("chunk %s on node %d counts, yet shall be deleted", id, node)
	}
	return nil
}
