package actor

import (
	"slices"
	"time"

	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/internal/chunk"
)

// Replica locations are ephemeral: they come from clients' commits and from the
// datanodes' deltas and reports. A replica that is in its place (sealed, at the
// chunk's generation and length) is a location: a node index in a table beside
// the chunks. Every other replica is odd and stands in a map: unknown, open,
// stale or bad.

// location holds the nodes of one sealed chunk.
type location struct {
	// nodes in no order; 0 means none. More than three spill over.
	nodes [3]uint16
	// level: 0 as wanted, 1 missing, 1+n for n of too few, levelSurplus.
	level uint8
	flags uint8
}

const (
	levelMissing = 1
	levelSurplus = 255

	flagDirty = 1 << 0
)

const locationPageItems = 1024

type locationPage struct {
	items [locationPageItems]location
	spill map[namespace.ChunkSlot][]uint16 // slots with more than three nodes: all of them
}

// oddReplica is a replica that is not in its place.
type oddReplica struct {
	node       uint16
	state      chunk.State
	generation chunk.Generation
	length     int64
	// since this State knows it, as it is.
	since time.Duration
	blame blame
	// report is the node's last full report that listed it.
	report uint64
}

func (o *oddReplica) bad() bool { return o.blame != innocent || o.state == chunk.Corrupt }

func (s *State) locationPage(slot namespace.ChunkSlot) *locationPage {
	at := int(slot / locationPageItems)
	for at >= len(s.locations) {
		s.locations = append(s.locations, new(locationPage))
	}
	return s.locations[at]
}

func (s *State) location(slot namespace.ChunkSlot) *location {
	return &s.locationPage(slot).items[slot%locationPageItems]
}

// locationsOf gives the nodes of a sealed chunk; valid until the next change.
func (s *State) locationsOf(slot namespace.ChunkSlot) []uint16 {
	page := s.locationPage(slot)
	if nodes, ok := page.spill[slot]; ok {
		return nodes
	}
	l := &page.items[slot%locationPageItems]
	n := 0
	for n < len(l.nodes) && l.nodes[n] != 0 {
		n++
	}
	return l.nodes[:n]
}

// setLocations stores the nodes of a chunk.
func (s *State) setLocations(slot namespace.ChunkSlot, nodes []uint16) {
	page := s.locationPage(slot)
	l := &page.items[slot%locationPageItems]
	if len(nodes) > len(l.nodes) {
		if page.spill == nil {
			page.spill = make(map[namespace.ChunkSlot][]uint16)
		}
		page.spill[slot] = slices.Clone(nodes)
		copy(l.nodes[:], nodes)
		return
	}
	delete(page.spill, slot)
	var few [3]uint16
	copy(few[:], nodes)
	l.nodes = few
}

// addLocation notes that a node holds a sealed chunk in its place.
func (s *State) addLocation(slot namespace.ChunkSlot, n uint16) {
	if r := s.nodes[n].report; r != nil {
		r.listed.set(slot)
	}
	nodes := s.locationsOf(slot)
	if slices.Contains(nodes, n) {
		return
	}
	if len(nodes) == 0 {
		s.located++
	}
	var b [replicationMax + 4]uint16
	s.setLocations(slot, append(append(b[:0], nodes...), n))
	s.markDirty(slot)
	if c := s.copies[slot]; c != nil && c.target == n {
		s.endCopy(slot)
		s.copiesArrived++
	}
}

// removeLocation forgets that a node holds a chunk.
func (s *State) removeLocation(slot namespace.ChunkSlot, n uint16) bool {
	nodes := s.locationsOf(slot)
	i := slices.Index(nodes, n)
	if i < 0 {
		return false
	}
	var b [replicationMax + 4]uint16
	s.setLocations(slot, append(append(b[:0], nodes[:i]...), nodes[i+1:]...))
	if len(nodes) == 1 {
		s.located--
	}
	s.markDirty(slot)
	return true
}

// clearLocations forgets all nodes of a chunk that leaves the sealed state.
func (s *State) clearLocations(slot namespace.ChunkSlot) {
	if len(s.locationsOf(slot)) > 0 {
		s.located--
		s.setLocations(slot, nil)
	}
	s.setLevel(slot, 0)
	s.endCopy(slot)
}

// findOdd gives a node's odd replica of a chunk, nil if there is none; valid
// until the next change of the chunk's odd replicas.
func (s *State) findOdd(id chunk.ID, n uint16) *oddReplica {
	odd := s.odd[id]
	for i := range odd {
		if odd[i].node == n {
			return &odd[i]
		}
	}
	return nil
}

// setOdd notes an odd replica. If it is known as it is, its age stays.
func (s *State) setOdd(id chunk.ID, o oddReplica) {
	node := s.nodes[o.node]
	if node.report != nil {
		o.report = node.report.id
	}
	if old := s.findOdd(id, o.node); old != nil {
		if old.state == o.state && old.generation == o.generation && (old.blame != innocent) == (o.blame != innocent) {
			old.length, old.report = o.length, o.report
			return
		}
		s.corrupt -= btoi(old.bad())
		s.corrupt += btoi(o.bad())
		o.since = s.step.Mono
		*old = o
	} else {
		if node.odd >= oddPerNodeMax {
			return
		}
		node.odd++
		s.corrupt += btoi(o.bad())
		o.since = s.step.Mono
		s.odd[id] = append(s.odd[id], o)
	}
	s.watchOdd(id, &o)
}

func btoi(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// removeOdd forgets a node's odd replica.
func (s *State) removeOdd(id chunk.ID, n uint16) bool {
	odd := s.odd[id]
	i := slices.IndexFunc(odd, func(o oddReplica) bool { return o.node == n })
	if i < 0 {
		return false
	}
	s.corrupt -= btoi(odd[i].bad())
	s.nodes[n].odd--
	if len(odd) == 1 {
		delete(s.odd, id)
		return true
	}
	s.odd[id] = slices.Delete(odd, i, i+1)
	return true
}

// observe takes in what a node says of one replica. delta tells that it is
// news, in order, and not a page of a report.
func (s *State) observe(n *node, r *chunk.Replica, delta bool) {
	o := oddReplica{node: n.index, state: r.State, generation: r.Generation, length: r.Length}
	slot := s.files.Find(r.ID)
	if slot == 0 {
		s.setOdd(r.ID, o)
		return
	}
	c := s.files.Chunk(slot)
	if old := s.findOdd(r.ID, n.index); old != nil && old.blame != innocent && old.generation == o.generation && r.State != chunk.Corrupt {
		o.blame, o.state = old.blame, old.state
		s.setOdd(r.ID, o)
		return
	}
	if c.Open() {
		if old := s.findOdd(r.ID, n.index); delta && old != nil && !old.bad() && o.generation < old.generation {
			return // older than what the writer said meanwhile
		}
		s.setOdd(r.ID, o)
		return
	}
	if s.inPlace(c, &o) {
		if order := n.deletes[r.ID]; order != nil && order.generation == c.Generation() {
			return // on its way out
		}
		s.removeOdd(r.ID, n.index)
		s.addLocation(slot, n.index)
		return
	}
	if delta && r.State == chunk.Open && slices.Contains(s.locationsOf(slot), n.index) {
		// Older than the client's word that the chunk is sealed there.
		return
	}
	s.removeLocation(slot, n.index)
	s.setOdd(r.ID, o)
	s.markDirty(slot)
}

// inPlace tells whether a replica is what a sealed chunk should be.
func (s *State) inPlace(c *namespace.Chunk, o *oddReplica) bool {
	return o.state == chunk.Sealed && o.blame == innocent && o.generation == c.Generation() && o.length == c.Length()
}

// trustCommits notes what a client says of open chunks before the record that
// seals them is applied, so that it finds the replicas at their generation.
// That matters where nodes said something else before, and for the chunks from
// index keep on, which the record drops; for the others locateCommits will do.
func (s *State) trustCommits(file namespace.InodeSlot, commits []ChunkCommit, keep uint32) {
	for i := range commits {
		slot := s.files.Of(file, commits[i].Chunk)
		if slot == 0 || s.files.Chunk(slot).Index() < keep && len(s.odd[commits[i].Chunk]) == 0 {
			continue
		}
		if s.files.Chunk(slot).Open() {
			s.trustReplicas(slot, oddReplica{state: chunk.Sealed, generation: commits[i].Generation, length: commits[i].Length}, commits[i].NodeIDs)
		}
	}
}

// trustReplicas notes replicas of an open chunk that a client or a recovery
// vouches for; the nodes' own deltas may come later.
func (s *State) trustReplicas(slot namespace.ChunkSlot, o oddReplica, nodeIDs []string) {
	id := s.files.Chunk(slot).ID()
	for _, name := range nodeIDs {
		n := s.nodeIndex[name]
		if n == 0 {
			continue
		}
		if old := s.findOdd(id, n); old == nil || !old.bad() {
			o.node = n
			s.setOdd(id, o)
		}
	}
}

// locateCommits takes a client's word on where its chunks are sealed.
func (s *State) locateCommits(file namespace.InodeSlot, commits []ChunkCommit) {
	for i := range commits {
		slot := s.files.Of(file, commits[i].Chunk)
		if slot == 0 || s.files.Chunk(slot).Open() {
			continue
		}
		s.locateSealed(slot, commits[i].NodeIDs)
	}
}

// locateSealed notes the nodes that sealed a chunk a moment ago.
func (s *State) locateSealed(slot namespace.ChunkSlot, nodeIDs []string) {
	id := s.files.Chunk(slot).ID()
	for _, name := range nodeIDs {
		n := s.nodeIndex[name]
		if n == 0 {
			continue
		}
		if o := s.findOdd(id, n); o != nil {
			if o.bad() {
				continue
			}
			s.removeOdd(id, n)
		}
		s.addLocation(slot, n)
	}
	if s.fresh.Len() >= freshMax {
		s.fresh.Pop()
	}
	s.fresh.Push(freshChunk{slot: slot, at: s.step.Mono})
}

// freshChunk was sealed a moment ago: a report that began before does not list
// it, yet it is there.
type freshChunk struct {
	slot namespace.ChunkSlot
	at   time.Duration
}

// freshFor is how long a sealed chunk counts as fresh.
const freshFor = 10 * time.Second

// chunkObserver keeps what is known of replicas in step with durable changes.
type chunkObserver struct{ s *State }

// ChunkAdded: a chunk was allocated.
func (o chunkObserver) ChunkAdded(slot namespace.ChunkSlot) { o.s.location(slot) }

// ChunkSealed: a chunk was sealed, its record is up to date.
func (o chunkObserver) ChunkSealed(slot namespace.ChunkSlot) {
	s := o.s
	c := s.files.Chunk(slot)
	for {
		odd := s.odd[c.ID()]
		i := slices.IndexFunc(odd, func(o oddReplica) bool { return s.inPlace(c, &o) })
		if i < 0 {
			break
		}
		n := odd[i].node
		s.removeOdd(c.ID(), n)
		s.addLocation(slot, n)
	}
	for i := range s.odd[c.ID()] {
		// What was part of a pipeline is out of its place from now on.
		o := &s.odd[c.ID()][i]
		o.since = s.step.Mono
		s.watchOdd(c.ID(), o)
	}
	s.markDirty(slot)
}

// ChunkReopened: a sealed chunk is open again; its record still holds the
// generation and length that it was sealed at.
func (o chunkObserver) ChunkReopened(slot namespace.ChunkSlot) {
	s := o.s
	c := s.files.Chunk(slot)
	nodes := slices.Clone(s.locationsOf(slot))
	s.clearLocations(slot)
	for _, n := range nodes {
		s.setOdd(c.ID(), oddReplica{node: n, state: chunk.Sealed, generation: c.Generation(), length: c.Length()})
	}
}

// ChunkDropped: a chunk is about to be forgotten. The active namenode orders
// its replicas deleted; a standby remembers them as unknown.
func (o chunkObserver) ChunkDropped(slot namespace.ChunkSlot) {
	s := o.s
	c := s.files.Chunk(slot)
	nodes := slices.Clone(s.locationsOf(slot))
	s.clearLocations(slot)
	if !s.step.Active {
		for _, n := range nodes {
			s.setOdd(c.ID(), oddReplica{node: n, state: chunk.Sealed, generation: c.Generation(), length: c.Length()})
		}
		return
	}
	for _, n := range nodes {
		s.orderDelete(s.nodes[n], c.ID(), c.Generation(), deleteRemoved)
	}
	for _, o := range slices.Clone(s.odd[c.ID()]) {
		s.removeOdd(c.ID(), o.node)
		s.orderDelete(s.nodes[o.node], c.ID(), o.generation, deleteRemoved)
	}
	if w := s.files.OpenChunk(slot); w != nil {
		for _, n := range w.Members {
			// A member may not have told of it yet; if it never had it, the
			// order has no effect.
			s.orderDelete(s.nodes[n], c.ID(), c.Generation(), deleteRemoved)
		}
	}
}

// openHolders gives the nodes that may hold a replica of an open chunk that
// counts: the pipeline in order, then others that reported one.
func (s *State) openHolders(slot namespace.ChunkSlot) []uint16 {
	c := s.files.Chunk(slot)
	w := s.files.OpenChunk(slot)
	holders := make([]uint16, 0, len(w.Members)+2)
	for _, n := range w.Members {
		if o := s.findOdd(c.ID(), n); o == nil || s.counts(w, o) {
			holders = append(holders, n)
		}
	}
	for i := range s.odd[c.ID()] {
		if o := &s.odd[c.ID()][i]; s.counts(w, o) && !slices.Contains(holders, o.node) {
			holders = append(holders, o.node)
		}
	}
	return holders
}

// reportedHolders gives the nodes that said they hold a replica of an open
// chunk that counts: those that can be asked now, and those that are away.
func (s *State) reportedHolders(slot namespace.ChunkSlot) (here, away []uint16) {
	w := s.files.OpenChunk(slot)
	for i := range s.odd[s.files.Chunk(slot).ID()] {
		o := &s.odd[s.files.Chunk(slot).ID()][i]
		switch {
		case !s.counts(w, o):
		case s.nodes[o.node].liveness == nodeLive:
			here = append(here, o.node)
		default:
			away = append(away, o.node)
		}
	}
	return here, away
}

// counts tells whether a replica of an open chunk may hold everything that was
// acknowledged (see openChunk).
func (s *State) counts(w *namespace.OpenChunk, o *oddReplica) bool {
	switch {
	case o.bad() || o.generation < w.Minimum:
		return false
	case w.Strict && o.generation == w.Minimum:
		return slices.Contains(w.Members, o.node)
	}
	return true
}
