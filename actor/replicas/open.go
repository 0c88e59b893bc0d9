package replicas

import (
	"fmt"
	"iter"
	"slices"

	"github.com/whispering-woods/ww/actor/leases"
	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
)

// OpenChunks says who holds the replicas of chunks that are being written, reopened or recovered. Those stand among
// the misplaced ones until the chunk is sealed.
type OpenChunks struct{ room *Replicas }

// Reported reports whether nodes said anything of a chunk that is not in its place.
func (o *OpenChunks) Reported(id chunk.ID) bool { return len(o.room.misplaced.of(id)) > 0 }

// Trust notes replicas of an open chunk that a client or a recovery vouches for; the nodes' own deltas may come later.
func (o *OpenChunks) Trust(slot namespace.ChunkSlot, r chunk.Replica, nodeIDs []string) {
	id := o.room.files.Chunk(slot).ID()
	for _, name := range nodeIDs {
		node := o.room.Nodes.Find(name)
		if node == 0 {
			continue
		}
		if old := o.room.misplaced.find(id, node); old == nil || !old.unusable() {
			o.room.misplace(id, misplaced{node: node, state: r.State, generation: r.Generation, length: r.Length,
				vouched: true})
		}
	}
}

// Sealed notes the nodes that sealed a chunk a moment ago.
func (o *OpenChunks) Sealed(slot namespace.ChunkSlot, nodeIDs []string) {
	id := o.room.files.Chunk(slot).ID()
	for _, name := range nodeIDs {
		node := o.room.Nodes.Find(name)
		if node == 0 {
			continue
		}
		if m := o.room.misplaced.find(id, node); m != nil {
			if m.unusable() {
				continue
			}
			o.room.misplaced.remove(id, node)
		}
		o.room.addLocation(slot, node, false)
	}
}

// Holders returns the nodes that may hold a replica of an open chunk that counts:
// the pipeline in order, then others that reported one.
func (o *OpenChunks) Holders(slot namespace.ChunkSlot) []datanode.Index {
	holders := make([]datanode.Index, 0, len(o.room.files.OpenChunk(slot).Members)+2)
	return slices.AppendSeq(holders, o.eachHolder(slot))
}

// eachHolder yields what Holders returns.
func (o *OpenChunks) eachHolder(slot namespace.ChunkSlot) iter.Seq[datanode.Index] {
	return func(yield func(datanode.Index) bool) {
		reported := o.room.misplaced.of(o.room.files.Chunk(slot).ID())
		open := o.room.files.OpenChunk(slot)
		for _, node := range open.Members {
			i := slices.IndexFunc(reported, func(m misplaced) bool { return m.node == node })
			if (i < 0 || counts(open, &reported[i])) && !yield(node) {
				return
			}
		}
		for i := range reported {
			m := &reported[i]
			if counts(open, m) && !slices.Contains(open.Members, m.node) && !yield(m.node) {
				return
			}
		}
	}
}

// counts reports whether a replica of an open chunk may hold everything that was
// acknowledged (see namespace.OpenChunk).
func counts(open *namespace.OpenChunk, m *misplaced) bool {
	switch {
	case m.unusable() || m.generation < open.Minimum:
		return false
	case open.Strict && m.generation == open.Minimum:
		return slices.Contains(open.Members, m.node)
	}
	return true
}

// reported returns the nodes that said they hold a replica of an open chunk that
// counts: those that can be asked now, and those that are away.
func (o *OpenChunks) reported(slot namespace.ChunkSlot) (here, away []datanode.Index) {
	open := o.room.files.OpenChunk(slot)
	replicas := o.room.misplaced.of(o.room.files.Chunk(slot).ID())
	for i := range replicas {
		m := &replicas[i]
		switch {
		case !counts(open, m):
		case o.room.Nodes.at(m.node).live():
			here = append(here, m.node)
		default:
			away = append(away, m.node)
		}
	}
	return here, away
}

// Survivors returns the nodes of a broken pipeline that go on, and those that have not registered since this namenode
// became active and may do so any moment.
func (o *OpenChunks) Survivors(slot namespace.ChunkSlot, failed []string) (survivors, awaited []datanode.Index) {
	for _, node := range o.Holders(slot) {
		n := o.room.Nodes.at(node)
		switch {
		case slices.Contains(failed, n.id):
		case !n.dead():
			survivors = append(survivors, node)
		case o.room.Nodes.mayReturn(n):
			awaited = append(awaited, node)
		}
	}
	return survivors, awaited
}

// outdated reports whether a node's replica of an open chunk is older than all that count, so that a copy may take its
// place.
func (o *OpenChunks) outdated(slot namespace.ChunkSlot, node datanode.Index) bool {
	id := o.room.files.Chunk(slot).ID()
	if _, ordered := o.room.deletion.ordered(node, id); ordered {
		return false // soon it is gone
	}
	m := o.room.misplaced.find(id, node)
	return m != nil && !m.unusable() && !counts(o.room.files.OpenChunk(slot), m)
}

// short reports whether an open chunk is on fewer live nodes than its file wants.
func (o *OpenChunks) short(slot namespace.ChunkSlot) bool {
	live := 0
	for node := range o.eachHolder(slot) {
		live += int(count(!o.room.Nodes.at(node).dead()))
	}
	return live < o.room.wanted(slot)
}

// blocked says why the pipeline of an open chunk with too few replicas cannot grow; "" if it can, or need not.
func (o *OpenChunks) blocked(slot namespace.ChunkSlot) string {
	if !o.short(slot) || o.room.Chooser.Spare(slot, 1) > 0 {
		return ""
	}
	size := o.room.files.Inode(o.room.files.Chunk(slot)).ChunkSize()
	var reasons []string
	for _, n := range o.room.Nodes.all() {
		switch condition := n.condition(o.room.step.Mono); {
		case !n.live(), !n.serves():
			reasons = append(reasons, n.called()+" is "+condition)
		case !n.takes(size):
			reasons = append(reasons, n.called()+" "+n.room())
		}
	}
	return joinSentences(fmt.Sprintf("needs another datanode with room for a whole chunk of %d bytes", size),
		joinSome(reasons))
}

// Growable reports whether an open chunk is on fewer live nodes than its file wants, while others could join.
func (o *OpenChunks) Growable(slot namespace.ChunkSlot) bool {
	return o.short(slot) && o.room.Chooser.Spare(slot, 1) > 0
}

// Recoverable reports whether a live node has reported a replica of an open chunk that counts.
func (o *OpenChunks) Recoverable(slot namespace.ChunkSlot) bool {
	here, _ := o.reported(slot)
	return len(here) > 0
}

// Waiting says what the recovery of an open chunk waits for.
func (o *OpenChunks) Waiting(slot namespace.ChunkSlot) string {
	index := o.room.files.Chunk(slot).Index()
	here, away := o.reported(slot)
	members := o.room.files.OpenChunk(slot).Members
	switch {
	case len(here) > 0:
		return fmt.Sprintf("chunk %d is brought to one length on %s", index, o.room.Nodes.Describe(here))
	case len(away) > 0:
		return fmt.Sprintf("all holders of chunk %d are away: %s", index, o.room.Nodes.Describe(away))
	case len(members) == 0:
		return fmt.Sprintf("no datanode has reported a replica of chunk %d", index)
	}
	return fmt.Sprintf("no datanode has reported a replica of chunk %d; it was written on %s", index,
		o.room.Nodes.Describe(members))
}

// PlanRecovery chooses who brings an open chunk to one length with whom; started
// counts the attempts before. False: what it needs is not known yet.
func (o *OpenChunks) PlanRecovery(slot namespace.ChunkSlot, started int) (attempt leases.Attempt,
	holders []datanode.Index, ok bool) {
	open := o.room.files.OpenChunk(slot)
	holders, away := o.reported(slot)
	attempt.Everyone = len(holders) == 0 && open.Base == 0 && o.nobodyReported(slot)
	switch {
	case attempt.Everyone:
		// Perhaps nothing was ever written. But what the members have reported may
		// be older than what a writer was answered: only they know.
		holders, away = slices.Clone(open.Members), nil
	case len(holders) == 0 || o.room.step.Mono-o.room.step.ActiveSince < o.room.config.RecoverWait &&
		o.membersMissing(slot):
		return attempt, nil, false
	}
	o.room.Nodes.sortByHeard(holders) // the leader had better not hang
	attempt.Chunk, attempt.Generation, attempt.Primary = slot, o.room.files.Chunk(slot).Promised()+1,
		holders[started%len(holders)]
	for _, node := range away {
		if !o.room.Nodes.at(node).dead() {
			holders = append(holders, node)
		}
	}
	return attempt, holders, true
}

// OrderRecovery sends an attempt to the node that leads it.
func (o *OpenChunks) OrderRecovery(a leases.Attempt, holders []datanode.Index) (primary string) {
	open := o.room.files.OpenChunk(a.Chunk)
	primary = o.room.Nodes.ID(a.Primary)
	o.room.step.Send(primary, &datanode.RecoverChunk{Chunk: o.room.files.Chunk(a.Chunk).ID(), Generation: a.Generation,
		MinimumGeneration: open.Minimum, Replicas: o.room.Nodes.Locations(holders), Length: open.Cut})
	return primary
}

// membersMissing reports whether a member of the pipeline has not yet said whether it holds the chunk.
func (o *OpenChunks) membersMissing(slot namespace.ChunkSlot) bool {
	id := o.room.files.Chunk(slot).ID()
	return slices.ContainsFunc(o.room.files.OpenChunk(slot).Members, func(node datanode.Index) bool {
		return !o.room.Nodes.at(node).reported() && o.room.misplaced.find(id, node) == nil
	})
}

// nobodyReported reports whether every member is live, has reported in full, and has reported no replica at all.
func (o *OpenChunks) nobodyReported(slot namespace.ChunkSlot) bool {
	members := o.room.files.OpenChunk(slot).Members
	if len(members) == 0 || o.Reported(o.room.files.Chunk(slot).ID()) {
		return false
	}
	return !slices.ContainsFunc(members, func(node datanode.Index) bool { return !o.room.Nodes.at(node).trusted() })
}

// Located returns the nodes that have a sealed chunk in its place: those that are live, those that are away since a
// moment, and the dead ones.
func (o *OpenChunks) Located(slot namespace.ChunkSlot) (live, stale, dead []datanode.Index) {
	for _, node := range o.room.locations.of(slot) {
		switch n := o.room.Nodes.at(node); {
		case n.live():
			live = append(live, node)
		case n.dead():
			dead = append(dead, node)
		default:
			stale = append(stale, node)
		}
	}
	return live, stale, dead
}

// Missed reports whether nodes that are not dead hold a replica of an open chunk that counts, and are not among those
// that finished its recovery.
func (o *OpenChunks) Missed(slot namespace.ChunkSlot, finished []datanode.Index) bool {
	here, away := o.reported(slot)
	return slices.ContainsFunc(slices.Concat(here, away), func(node datanode.Index) bool {
		return !o.room.Nodes.at(node).dead() && !slices.Contains(finished, node)
	})
}

// Order puts the nodes of a new pipeline in order.
func (o *OpenChunks) Order(nodes []datanode.Index) { o.room.Nodes.order(nodes) }

// Readable returns where a reader finds a chunk, best replica first.
func (o *OpenChunks) Readable(slot namespace.ChunkSlot) []chunk.Location {
	c := o.room.files.Chunk(slot)
	var nodes []datanode.Index
	if c.Open() {
		nodes = o.Holders(slot)
	} else {
		nodes = slices.Clone(o.room.locations.of(slot))
	}
	if len(nodes) == 0 { // a reader that finds them bad can say what is wrong, and where
		for _, m := range o.room.misplaced.of(c.ID()) {
			if m.unusable() && m.generation == c.Generation() {
				nodes = append(nodes, m.node)
			}
		}
	}
	o.room.Nodes.order(nodes)
	alive := slices.IndexFunc(nodes, func(node datanode.Index) bool { return o.room.Nodes.at(node).dead() })
	if alive > 0 {
		nodes = nodes[:alive]
	}
	return o.room.Nodes.Locations(nodes)
}
