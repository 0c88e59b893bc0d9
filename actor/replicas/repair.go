package replicas

import (
	"math"
	"slices"
	"time"

	"github.com/tidwall/btree"

	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/datanode"
)

// repair knows which sealed chunks have too few or too many live replicas, and orders copies.
type repair struct {
	room    *Replicas
	dirty   []namespace.ChunkSlot // to be assessed at the end of the step
	few     btree.Map[uint64, struct{}]
	surplus btree.Map[namespace.ChunkSlot, struct{}]
	levels  [int(levelSurplus) + 1]int // chunks by level; those at levelWanted are not counted

	copies   map[namespace.ChunkSlot]*copyOrder
	retries  map[namespace.ChunkSlot]copyRetry // of chunks with too few replicas, after copies that failed
	copiesTo []int                             // by node index
	limits   RepairLimits
	pace     pace
	arrived  meter
	ended    int                 // copies to be ordered at the end of this step: see refill
	lastFrom uint64              // key where the next Tick goes on, of chunks with one replica left
	tickFrom uint64              // the same of the others
	nextFrom uint64              // key where the next arrival of a copy goes on
	trimFrom namespace.ChunkSlot // where the next look at chunks with too many replicas begins
}

// copyOrder is a repair copy under way.
type copyOrder struct {
	target   datanode.Index
	deadline time.Duration
}

func (r *repair) addNode() { r.copiesTo = append(r.copiesTo, 0) }

// markDirty has a chunk assessed at the end of the step.
func (r *repair) markDirty(slot namespace.ChunkSlot) {
	if r.room.step.Active && r.room.locations.markDirty(slot) {
		r.dirty = append(r.dirty, slot)
	}
}

func (r *repair) assessDirty() {
	for _, slot := range r.dirty {
		r.room.locations.unmark(slot)
		r.assess(slot)
	}
	r.dirty = r.dirty[:0]
}

// assess counts a chunk's live replicas and files it for repair or trimming.
func (r *repair) assess(slot namespace.ChunkSlot) {
	r.room.step.Work += assessmentWork
	r.room.forgetLocations(slot)
	found := r.levelOf(slot)
	r.setLevel(slot, found)
	if found == levelWanted || found == levelSurplus {
		r.room.locations.markReduced(slot, false)
	}
	r.room.locations.markDoubtful(slot, r.doubtful(slot, found))
	c := r.room.files.Chunk(slot)
	if !c.Open() && (found == levelWanted || found == levelSurplus) {
		r.room.misplaced.settle(c.ID())
	}
	r.room.locations.markShort(slot, c.Open() && r.room.OpenChunks.short(slot))
	r.room.Duties.assess(slot)
}

// doubtful reports whether a chunk has enough replicas, but too few of which their nodes told.
func (r *repair) doubtful(slot namespace.ChunkSlot, found level) bool {
	unconfirmed := r.room.locations.unconfirmed(slot)
	if unconfirmed == 0 || found != levelWanted && found != levelSurplus && found != levelLeaving {
		return false
	}
	sure := 0
	for i, node := range r.room.locations.of(slot) {
		sure += int(count(unconfirmed&(1<<i) == 0 && !r.room.Nodes.at(node).dead()))
	}
	return sure < r.room.wanted(slot)
}

func (r *repair) levelOf(slot namespace.ChunkSlot) level {
	c := r.room.files.Chunk(slot)
	if c.ID().IsZero() || c.Open() {
		return levelWanted
	}
	held, wanted := r.room.tally(slot, r.room.locations.of(slot)), r.room.wanted(slot)
	switch counted := held.counted(wanted); {
	case held.alive == 0:
		return levelMissing
	case held.steady > wanted, held.steady == wanted && held.leaving > 0:
		return levelSurplus
	case held.alive >= wanted && counted >= wanted:
		return levelWanted
	case held.alive >= wanted:
		return levelLeaving
	case r.room.Duties.bridged(slot, held, wanted):
		return levelAway
	}
	return levelMissing + level(held.alive)
}

// repairKey orders chunks by the number of their replicas.
func repairKey(l level, slot namespace.ChunkSlot) uint64 { return uint64(l)<<32 | uint64(slot) }

// setLevel files a chunk under its danger.
func (r *repair) setLevel(slot namespace.ChunkSlot, to level) {
	old := r.room.locations.level(slot)
	if old == to {
		return
	}
	switch old {
	case levelWanted, levelMissing, levelAway:
	case levelSurplus:
		r.surplus.Delete(slot)
	default:
		r.few.Delete(repairKey(old, slot))
	}
	r.levels[old]--
	r.levels[to]++
	r.room.locations.setLevel(slot, to)
	if to.sated() {
		delete(r.retries, slot)
	}
	switch to {
	case levelWanted, levelMissing, levelAway:
	case levelSurplus:
		r.surplus.Set(slot, struct{}{})
	default:
		r.few.Set(repairKey(to, slot), struct{}{})
	}
}

// counts says of how many chunks there are too few replicas, and of how many none.
func (r *repair) counts() (few, missing uint64) {
	return uint64(r.few.Len() - r.levels[levelLeaving] + r.levels[levelAway]), uint64(r.levels[levelMissing])
}

// work says how many copies are under way, how many chunks wait for one, and how many only leave nodes.
func (r *repair) work() (running, waiting, leaving int) {
	waiting = r.few.Len()
	for slot := range r.copies {
		waiting -= int(count(!r.room.locations.level(slot).sated() && r.room.locations.level(slot) != levelMissing))
	}
	return len(r.copies), waiting, r.levels[levelLeaving]
}

// located notes that a node has a chunk in its place now.
func (r *repair) located(slot namespace.ChunkSlot, node datanode.Index) {
	r.markDirty(slot)
	if c := r.copies[slot]; c != nil && c.target == node {
		r.arrived.add(r.room.step.Mono, r.room.files.Chunk(slot).Length())
		r.endCopy(slot)
		r.ended++
	}
}

// copyRetry is when, and where not, a copy that failed is ordered again.
type copyRetry struct {
	failures  int
	notBefore time.Duration
	target    datanode.Index // that of the last failure, or of one that may hang: another one comes first
}

// failed ends a copy that its target could not make: the place is free for another chunk at once, and this one is
// tried again after a wait that doubles, elsewhere if there is another target.
func (r *repair) failed(slot namespace.ChunkSlot, target datanode.Index) {
	if c := r.copies[slot]; c == nil || c.target != target {
		return // it arrived, or its time was over
	}
	r.endCopy(slot)
	r.ended++
	if r.room.locations.level(slot).sated() {
		return // another replica was found meanwhile
	}
	retry, known := r.retries[slot]
	if !known && len(r.retries) >= copyRetriesMax {
		return // the next Tick tries again without a memory of this
	}
	wait := min(copyRetryFirst<<min(retry.failures, copyRetryDoublings), r.room.config.CopyTimeout)
	r.retries[slot] = copyRetry{failures: retry.failures + 1, notBefore: r.room.step.Mono + wait, target: target}
}

// avoid has a chunk copied to other nodes first.
func (r *repair) avoid(slot namespace.ChunkSlot, target datanode.Index) {
	if retry, known := r.retries[slot]; known || len(r.retries) < copyRetriesMax {
		retry.target = target
		r.retries[slot] = retry
	}
}

// unsealed forgets what a sealed chunk needed.
func (r *repair) unsealed(slot namespace.ChunkSlot) {
	r.setLevel(slot, levelWanted)
	r.room.locations.markDoubtful(slot, false)
	r.room.locations.markReduced(slot, false)
	r.room.locations.markShort(slot, false)
	r.room.Duties.forget(slot)
	r.room.Balancer.unsealed(slot)
	r.endCopy(slot)
}

func (r *repair) endCopy(slot namespace.ChunkSlot) {
	if c := r.copies[slot]; c != nil {
		r.copiesTo[c.target]--
		delete(r.copies, slot)
	}
}

// tick orders copies of chunks with too few replicas, those with the fewest first, within the limits.
func (r *repair) tick() {
	if !r.room.SafeMode.repairs() {
		return
	}
	var late []namespace.ChunkSlot
	for slot, c := range r.copies {
		if c.deadline <= r.room.step.Mono || !r.room.Nodes.at(c.target).live() {
			late = append(late, slot)
		}
	}
	slices.Sort(late)
	for _, slot := range late {
		r.endCopy(slot)
	}
	// Those with one replica left do not wait until all the others have been looked at once.
	others := repairKey(levelLast+1, 0)
	_, r.lastFrom = r.orderCopies(r.lastFrom, budget{before: others, examined: repairExaminedPerTick / 2,
		ordered: math.MaxInt})
	_, r.tickFrom = r.orderCopies(max(r.tickFrom, others), budget{before: math.MaxUint64,
		examined: repairExaminedPerTick / 2, ordered: math.MaxInt})
	r.nextFrom = 0
}

// refill orders a copy in the place of each that has arrived or failed, so that many small ones need not wait for a
// Tick each. It begins with the fewest replicas, as a Tick does; only when all that it looked at cannot be copied now
// does the next arrival go on behind them, until a Tick.
func (r *repair) refill() {
	ended := r.ended
	r.ended = 0
	if ended == 0 || !r.room.step.Active || !r.room.SafeMode.repairs() {
		return
	}
	ordered, next := r.orderCopies(r.nextFrom, budget{before: math.MaxUint64, examined: repairExaminedPerCopy,
		ordered: ended})
	if r.nextFrom = next; ordered > 0 {
		r.nextFrom = 0
	}
}

// refillFor has copies ordered at the end of this step, for places that became free or chunks that are in danger.
func (r *repair) refillFor(more int) { r.ended += more }

// budget bounds the chunks that are examined, by their keys and their number, and the copies that are ordered.
type budget struct {
	before            uint64
	examined, ordered int
}

// orderCopies examines chunks with too few replicas from a key on, those that are
// being copied not counted, and orders copies, up to so many of both. next is the
// key to go on with; 0: it has seen all, or a limit of copies is reached. To look for
// a target looks at every node: that is bounded too.
func (r *repair) orderCopies(from uint64, most budget) (ordered int, next uint64) {
	examined, began := 0, r.room.step.Work
	r.few.Ascend(from, func(key uint64, _ struct{}) bool {
		slot := namespace.ChunkSlot(key & math.MaxUint32)
		if key >= most.before || !r.free() || !r.pace.ready(r.room.step.Mono) || ordered >= most.ordered {
			return false
		}
		if r.busy(slot) {
			return true
		}
		if examined++; examined > most.examined || r.room.step.Work-began > repairWorkMost {
			next = key
			return false
		}
		ordered += int(count(r.maybeCopy(slot)))
		return true
	})
	return ordered, next
}

// sources are the nodes that a chunk can be copied from. Those in awaited hold it, and may come back before the grace
// is over.
func (r *repair) sources(slot namespace.ChunkSlot) (sources, awaited []datanode.Index) {
	for _, node := range r.room.locations.of(slot) {
		switch n := r.room.Nodes.at(node); {
		case !n.dead():
			sources = append(sources, node)
		case n.serves() && r.room.Nodes.deadFor(n) < r.room.config.RepairGrace:
			awaited = append(awaited, node)
		}
	}
	return sources, awaited
}

// occupied reports whether a node has a file of a chunk that no copy may replace.
func (r *repair) occupied(n *node, slot namespace.ChunkSlot) bool {
	return r.room.holds(n.index, slot) && !r.room.replaceable(n, slot)
}

// maybeCopy orders one more replica of a chunk if it is time and there is a
// source and a target, and reports whether it did. None is under way.
func (r *repair) maybeCopy(slot namespace.ChunkSlot) bool {
	sources, awaited := r.sources(slot)
	if len(sources) == 0 || len(awaited) > 0 && len(sources) > 1 { // with one left there is no time to wait
		return false
	}
	retry := r.retries[slot]
	if r.room.step.Mono < retry.notBefore {
		return false
	}
	record := r.room.files.Chunk(slot)
	r.room.Nodes.order(sources)
	choose := func(avoid func(*node) bool) []datanode.Index {
		return r.room.Chooser.choose(1, record.Length(), func(n *node) bool {
			return avoid(n) || r.copiesTo[n.index] >= r.limits.NodeStreams || r.occupied(n, slot)
		}, r.room.Nodes.racks(sources))
	}
	targets := choose(func(n *node) bool { return n.index == retry.target || r.room.Nodes.flapping(n) })
	if len(targets) == 0 {
		targets = choose(func(*node) bool { return false })
	}
	if len(targets) == 0 {
		return false
	}
	r.copiesTo[targets[0]]++
	r.pace.take(r.room.step.Mono, record.Length())
	r.copies[slot] = &copyOrder{target: targets[0], deadline: r.room.step.Mono + r.room.config.CopyTimeout}
	r.sendCopy(slot, targets[0], sources)
	return true
}

// sendCopy orders a node to copy a chunk from others, the best first.
func (r *repair) sendCopy(slot namespace.ChunkSlot, target datanode.Index, sources []datanode.Index) {
	record, id := r.room.files.Chunk(slot), r.room.Nodes.ID(target)
	r.room.step.Send(id, &datanode.CopyReplica{Chunk: record.ID(), Generation: record.Generation(),
		Length: record.Length(), Sources: r.room.Nodes.Locations(sources)})
	r.room.step.Emit(step.Event{Kind: step.EventCopyOrdered, NodeID: id, Chunk: record.ID(), Count: len(sources)})
}

// goesFirst reports whether copies are, or soon will be, under way to make up for lost ones: nothing else is copied
// meanwhile.
func (r *repair) goesFirst() bool {
	return !r.room.sweep.done() || len(r.copies) > 0 || r.few.Len() > 0 && !r.pace.ready(r.room.step.Mono) ||
		slices.ContainsFunc(r.room.Nodes.all(), func(n *node) bool {
			return n.dead() && n.serves() && r.room.Nodes.deadFor(n) < r.room.config.RepairGrace
		})
}

// copying reports whether a copy of a chunk is under way.
func (r *repair) copying(slot namespace.ChunkSlot) bool {
	_, moving := r.room.Balancer.moving(slot)
	return moving || r.copies[slot] != nil
}

// free reports whether another copy may be under way.
func (r *repair) free() bool { return len(r.copies) < r.limits.Streams }

// hurry orders a copy of a chunk that somebody waits for, whether repairs run yet or not.
func (r *repair) hurry(slot namespace.ChunkSlot) {
	if c := r.copies[slot]; c != nil && !r.room.Nodes.at(c.target).live() {
		r.endCopy(slot) // it hangs, perhaps: another one can take it
	}
	if !r.busy(slot) && r.free() {
		r.maybeCopy(slot)
	}
}

// busy reports whether a copy of a chunk is under way that is worth to wait for.
func (r *repair) busy(slot namespace.ChunkSlot) bool {
	if r.room.locations.level(slot) == levelLast {
		r.room.Balancer.giveWay(slot)
	}
	return r.copying(slot)
}

// surplusChunks lists chunks with too many replicas of which no copy is under way, at most so many, and goes on behind
// them the next time: of some none may go yet.
func (r *repair) surplusChunks(most int) (slots []namespace.ChunkSlot) {
	from := r.trimFrom
	r.trimFrom = 0
	r.surplus.Ascend(from, func(slot namespace.ChunkSlot, _ struct{}) bool {
		if len(slots) == most {
			r.trimFrom = slot
			return false
		}
		slots = append(slots, slot)
		return true
	})
	return slices.DeleteFunc(slots, r.copying)
}
