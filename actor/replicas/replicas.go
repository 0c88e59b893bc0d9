package replicas

import (
	"slices"
	"time"

	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/actor/replicas/placement"
	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
)

// Config holds the settings of this room; actor.Config says what each means.
type Config struct {
	StaleAfter, DeadAfter                 time.Duration
	RepairGrace, DeleteGrace, RecoverWait time.Duration
	CopyTimeout, ResendAfter              time.Duration
	WriteCopiesMin                        int
	Repair                                RepairLimits
	SafeModeShare                         int
	Placement                             placement.Policy
	ReadOrder                             placement.ReadOrder
}

// Replicas is what is known of all replicas. Its parts reach each other through
// it, by methods; a part's fields are its own.
type Replicas struct {
	config Config
	step   *step.Context
	files  *namespace.Files

	Nodes      Nodes
	Names      Names
	Reports    Reports
	OpenChunks OpenChunks
	Suspects   Suspects
	Chooser    Chooser
	SafeMode   SafeMode
	Duties     Duties
	Slowness   Slowness
	Backlog    Backlog
	Balancer   Balancer

	locations locations
	misplaced misplacedTable
	repair    repair
	sweep     sweep
	turns     turns
	deletion  deletion
}

// New makes an empty Replicas; Observe must follow.
func New(config Config, s *step.Context) *Replicas {
	room := &Replicas{config: config, step: s}
	room.Nodes = Nodes{room: room, list: make([]*node, 1), index: make(map[string]datanode.Index)}
	room.Names = Names{room}
	room.Reports = Reports{room: room, running: make(map[datanode.Index]*report)}
	room.OpenChunks, room.Suspects = OpenChunks{room}, Suspects{room: room}
	room.Balancer = Balancer{room: room, stored: make([]int64, 1)}
	room.Duties = Duties{room: room, byNode: make([]nodeDuty, 1)}
	room.Chooser, room.SafeMode = Chooser{room: room, policy: config.Placement}, SafeMode{room: room}
	room.Slowness = Slowness{room: room, nodes: make([]nodeLateness, 1)}
	room.misplaced = misplacedTable{byChunk: make(map[chunk.ID][]misplaced), byNode: make([]int, 1),
		unusable: make(map[chunk.ID]int)}
	room.repair = repair{room: room, copies: make(map[namespace.ChunkSlot]*copyOrder),
		retries: make(map[namespace.ChunkSlot]copyRetry), copiesTo: make([]int, 1)}
	room.LimitRepair(config.Repair)
	room.sweep, room.turns, room.Backlog = sweep{room: room}, turns{room: room}, Backlog{room}
	room.locations = newLocations()
	room.deletion = deletion{room: room, byNode: make([]*nodeOrders, 1)}
	return room
}

// Observe sets the files whose chunks these replicas are of.
func (r *Replicas) Observe(files *namespace.Files) { r.files = files }

// addLocation notes that a node has a sealed chunk in its place. told: by its own word; else it is asked in a while.
func (r *Replicas) addLocation(slot namespace.ChunkSlot, node datanode.Index, told bool) {
	r.Reports.list(node, slot)
	asked := r.locations.unconfirmed(slot) != 0 // soon, with the others
	if !r.locations.add(slot, node, told) {
		if told && asked {
			r.repair.markDirty(slot)
		}
		return
	}
	r.Balancer.note(slot, node, 1)
	r.repair.located(slot, node)
	if !told && !asked {
		r.Reports.expect(slot)
	}
}

// removeLocation forgets that a node has a chunk; false: that was not known.
func (r *Replicas) removeLocation(slot namespace.ChunkSlot, node datanode.Index) bool {
	known := r.locations.remove(slot, node)
	if known {
		r.Reports.unlocated(slot, node)
		r.locations.markReduced(slot, r.step.Active)
		r.Balancer.note(slot, node, -1)
		r.repair.markDirty(slot)
	}
	return known
}

// clearLocations forgets all nodes of a chunk that leaves the sealed state.
func (r *Replicas) clearLocations(slot namespace.ChunkSlot) {
	for _, node := range r.locations.of(slot) {
		r.Reports.unlocated(slot, node)
		r.Balancer.note(slot, node, -1)
	}
	r.locations.removeAll(slot)
	r.repair.unsealed(slot)
}

// misplace notes a replica that is not in its place.
func (r *Replicas) misplace(id chunk.ID, m misplaced) {
	m.report, m.since = r.Reports.id(m.node), r.step.Mono
	if !r.misplaced.set(id, m) {
		return
	}
	r.watch(id, &m)
	if slot := r.files.Find(id); slot != 0 && r.files.Chunk(slot).Open() {
		r.repair.markDirty(slot)
	}
}

// watch schedules another look at a misplaced replica.
func (r *Replicas) watch(id chunk.ID, m *misplaced) {
	if slot := r.files.Find(id); slot != 0 && r.files.Chunk(slot).Open() {
		return // the sealing will do it
	}
	c := check{id: id, node: m.node, since: m.since}
	if m.verdict != unverified {
		r.Suspects.watch(c)
		return
	}
	r.deletion.watch(c)
}

// observe notes what a node says of one replica, of the chunk in a slot (0: unknown). delta means that it is new, in
// order, and not a page of a report.
func (r *Replicas) observe(node datanode.Index, slot namespace.ChunkSlot, replica *chunk.Replica, delta bool) {
	id := replica.ID
	seen := misplaced{node: node, state: replica.State, generation: replica.Generation, length: replica.Length}
	if slot == 0 {
		r.misplace(id, seen)
		return
	}
	record := r.files.Chunk(slot)
	old := r.misplaced.find(id, node)
	switch {
	case old != nil && old.verdict != unverified && old.generation == seen.generation && seen.state != chunk.Corrupt:
		seen.verdict, seen.state = old.verdict, old.state
		r.misplace(id, seen)
	case record.Open():
		if delta && old != nil && !old.unusable() && seen.generation < old.generation {
			return // older than what the writer said meanwhile
		}
		r.misplace(id, seen)
	case inPlace(record, &seen):
		if generation, ordered := r.deletion.ordered(node, id); ordered && generation == record.Generation() {
			return // on its way out
		}
		r.misplaced.remove(id, node)
		r.addLocation(slot, node, true)
		if r.locations.setLeaving(slot, node, replica.Leaving) {
			r.repair.markDirty(slot)
			if !replica.Leaving { // it has moved to another disk
				r.repair.located(slot, node)
			}
		}
	case delta && seen.state == chunk.Open && r.locations.has(slot, node):
		// Older than the client's word that the chunk is sealed there.
	default:
		r.removeLocation(slot, node)
		r.misplace(id, seen)
		r.repair.markDirty(slot)
	}
}

// gone notes that a node no longer has a replica of a generation.
func (r *Replicas) gone(node datanode.Index, replica *chunk.Replica) {
	if generation, ordered := r.deletion.ordered(node, replica.ID); ordered && generation == replica.Generation {
		r.deletion.confirm(node, replica.ID)
	}
	slot := r.files.Find(replica.ID)
	if m := r.misplaced.find(replica.ID, node); m != nil && m.generation == replica.Generation {
		r.misplaced.remove(replica.ID, node)
		if slot != 0 {
			r.repair.markDirty(slot)
		}
	}
	if slot != 0 && r.files.Chunk(slot).Generation() == replica.Generation {
		r.removeLocation(slot, node)
	}
}

// inPlace reports whether a replica is what a sealed chunk should be.
func inPlace(c *namespace.Chunk, m *misplaced) bool {
	return m.state == chunk.Sealed && m.verdict == unverified && m.generation == c.Generation() &&
		m.length == c.Length()
}

// Copied notes what became of an ordered copy. A source whose bytes did not match their checksums is suspect, as if a
// reader had found it. A replica that arrived is told by its node's delta.
func (r *Replicas) Copied(session Session, result *datanode.CopyResult) *fault.Error {
	node, err := r.Nodes.Heard("copy result", session)
	if err != nil || !r.step.Active {
		return err
	}
	slot := r.files.Find(result.Chunk)
	if slot == 0 || r.files.Chunk(slot).Generation() != result.Generation {
		return nil // removed, or written to meanwhile
	}
	if result.Error != "" {
		r.repair.failed(slot, node)
		r.Balancer.failed(slot, node)
	}
	for _, source := range result.BadSources {
		// An unknown source is a mistake of the node that names it, and nothing to act on.
		_ = r.Suspects.Report(result.Chunk, result.Generation, source,
			"a copy met bytes that differ from their checksums")
	}
	return nil
}

// CopiesLeast is how many replicas what is written of a file needs to be acknowledged.
func (r *Replicas) CopiesLeast(replication int) int { return min(r.config.WriteCopiesMin, replication) }

func (r *Replicas) wanted(slot namespace.ChunkSlot) int {
	return r.files.Inode(r.files.Chunk(slot)).Replication()
}

// holds reports whether a node has a file of this chunk that is in the way of
// another replica. A quarantined one is not.
func (r *Replicas) holds(node datanode.Index, slot namespace.ChunkSlot) bool {
	id := r.files.Chunk(slot).ID()
	if _, ordered := r.deletion.ordered(node, id); ordered || r.locations.has(slot, node) {
		return true
	}
	m := r.misplaced.find(id, node)
	return m != nil && (m.verdict != unverified || m.state != chunk.Corrupt)
}

// replaceable reports whether a copy may take the place of a node's stale replica, or of one on a disk that is to be
// removed: its datanode moves that to the trash when the copy is whole. What is needed as a last resort stays, as in
// deletions, and so does what is suspect. But good replicas on nodes and disks that leave are enough here: there is one
// more before any goes.
func (r *Replicas) replaceable(n *node, slot namespace.ChunkSlot) bool {
	return r.locations.leaves(slot, n.index) || r.stale(n.index, slot) &&
		r.deletion.staleAllowed(slot, r.deletion.toldBy(slot, n.index, (*node).trusted))
}

// stale reports whether a node's replica of a sealed chunk is of a lower generation, and stays.
func (r *Replicas) stale(node datanode.Index, slot namespace.ChunkSlot) bool {
	record := r.files.Chunk(slot)
	if _, ordered := r.deletion.ordered(node, record.ID()); ordered {
		return false // soon it is gone
	}
	m := r.misplaced.find(record.ID(), node)
	return m != nil && !m.unusable() && m.generation < record.Generation()
}

// ChunkAdded makes room for the locations of a chunk.
func (r *Replicas) ChunkAdded(slot namespace.ChunkSlot) {
	r.locations.page(slot)
	r.repair.markDirty(slot)
}

// ChunkSealed puts the replicas that are in their place now among the locations;
// what else was part of a pipeline is misplaced from now on.
func (r *Replicas) ChunkSealed(slot namespace.ChunkSlot) {
	record := r.files.Chunk(slot)
	for {
		reported := r.misplaced.of(record.ID())
		i := slices.IndexFunc(reported, func(m misplaced) bool { return inPlace(record, &m) })
		if i < 0 {
			break
		}
		node, told := reported[i].node, !reported[i].vouched
		r.misplaced.remove(record.ID(), node)
		r.addLocation(slot, node, told)
	}
	r.watchAgain(record.ID())
	r.repair.markDirty(slot)
}

// watchAgain begins the age of a chunk's misplaced replicas anew.
func (r *Replicas) watchAgain(id chunk.ID) {
	replicas := r.misplaced.of(id)
	for i := range replicas {
		replicas[i].since = r.step.Mono
		r.watch(id, &replicas[i])
	}
}

// ChunkReopened notes that the replicas of a chunk are no locations any more.
func (r *Replicas) ChunkReopened(slot namespace.ChunkSlot) {
	r.displaceAll(slot)
	r.repair.markDirty(slot)
}

// displaceAll makes the locations of a chunk misplaced replicas.
func (r *Replicas) displaceAll(slot namespace.ChunkSlot) {
	c := r.files.Chunk(slot)
	nodes, unconfirmed := slices.Clone(r.locations.of(slot)), r.locations.unconfirmed(slot)
	r.clearLocations(slot)
	for i, node := range nodes {
		r.misplace(c.ID(), misplaced{node: node, state: chunk.Sealed, generation: c.Generation(), length: c.Length(),
			vouched: unconfirmed&(1<<i) != 0})
	}
}

// ChunkDropped orders the replicas of a chunk deleted; a standby remembers them as unknown.
func (r *Replicas) ChunkDropped(slot namespace.ChunkSlot) {
	if !r.step.Active {
		r.displaceAll(slot)
		return
	}
	record := r.files.Chunk(slot)
	nodes := slices.Clone(r.locations.of(slot))
	r.clearLocations(slot)
	for _, node := range nodes {
		r.deletion.order(node, record.ID(), record.Generation(), deleteRemoved)
	}
	for _, m := range slices.Clone(r.misplaced.of(record.ID())) {
		r.misplaced.remove(record.ID(), m.node)
		r.deletion.order(m.node, record.ID(), m.generation, deleteRemoved)
	}
	if open := r.files.OpenChunk(slot); open != nil {
		for _, node := range open.Members {
			// A member may not have reported it yet; if it never had it, the order has no effect.
			r.deletion.order(node, record.ID(), record.Generation(), deleteRemoved)
		}
	}
}

// Activate begins to serve: every node must report to this namenode, and every grace begins anew, since what a
// standby saw may be older than the log that it has replayed since.
func (r *Replicas) Activate() {
	r.Nodes.activate()
	r.Duties.refresh()
	r.deletion.forgetGrace()
	r.Suspects.forgetAll()
	for _, id := range r.misplaced.chunks() {
		r.watchAgain(id)
	}
	r.sweep.all()
	r.Balancer.activate()
	r.SafeMode.Enter(false, "the namenode became active")
}

// CheckNodes drives what waits for time on a standby too: silent nodes move towards
// death. An active namenode compares reports and assesses chunks again.
func (r *Replicas) CheckNodes() {
	r.Nodes.checkAlive()
	r.Duties.tick()
	r.Slowness.tick()
	r.turns.expire()
	if r.step.Active {
		r.Reports.askExpected()
	}
	r.Backlog.GoOn()
}

// Repair drives the orders of an active namenode that is out of safe mode.
func (r *Replicas) Repair() {
	r.Suspects.verifyAgain()
	r.deletion.examineMisplaced()
	r.deletion.resendLate()
	r.repair.tick()
	r.Balancer.tick()
	r.deletion.trimSurplus()
}

// Settle ends a step: what it touched is assessed, orders are sent.
func (r *Replicas) Settle() {
	r.turns.give()
	r.repair.assessDirty()
	r.SafeMode.maybeLeave()
	r.deletion.send()
	r.repair.assessDirty() // an order may have been cancelled
	r.repair.refill()
}

// Settled reports whether a chunk that a recovery sealed is on as many live nodes as its file wants; if others could
// take the missing copies, it orders one, unless nobody is patient. It is never settled on fewer nodes than a writer
// needs.
func (r *Replicas) Settled(slot namespace.ChunkSlot, patient bool) bool {
	live := 0
	for _, node := range r.locations.of(slot) {
		live += int(count(!r.Nodes.at(node).dead()))
	}
	wanted := r.wanted(slot)
	if live >= wanted {
		return true
	}
	r.repair.hurry(slot)
	return live >= r.CopiesLeast(wanted) && !(patient && r.Chooser.Spare(slot, 1) > 0)
}

// Counts are numbers of chunks and replicas for people. Unusable replicas are those that are not made good yet.
type Counts struct{ UnderReplicated, Missing, Misplaced, Unusable uint64 }

// Counts of what must be repaired.
func (r *Replicas) Counts() Counts {
	few, missing := r.repair.counts()
	return Counts{UnderReplicated: few + r.locations.countShort(), Missing: missing, Misplaced: r.misplaced.count(),
		Unusable: r.unusable()}
}

// unusable counts the replicas that are corrupt, or may be, and not made good yet: of an open chunk, or of one with too
// few replicas. What is in quarantine is of no interest any more once the chunk is whole, or gone.
func (r *Replicas) unusable() (total uint64) {
	for id := range r.misplaced.withUnusable() {
		slot := r.files.Find(id)
		if slot == 0 {
			continue
		}
		oldest := r.files.Chunk(slot).Generation()
		if open := r.files.OpenChunk(slot); open != nil {
			oldest = open.Minimum
		} else if l := r.locations.level(slot); l == levelWanted || l == levelSurplus {
			continue
		}
		for _, m := range r.misplaced.of(id) {
			total += count(m.unusable() && !m.settled && m.generation >= oldest)
		}
	}
	return total
}

// Reassess files a chunk anew for repair or trimming: its file wants another number of replicas.
func (r *Replicas) Reassess(slot namespace.ChunkSlot) { r.repair.markDirty(slot) }
