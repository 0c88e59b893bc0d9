package replicas

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/limits"
)

// Balancer evens out how full the nodes are. It only copies: a chunk gets one replica more on an emptier node, and the
// one on the fuller node is then surplus, which goes by the rules of deletion. So there is no moment with fewer
// replicas than before, and a namenode that ends leaves nothing half done.
//
// The utilisation of a node is the share of its capacity that the sealed replicas in their place take (as HDFS
// defines it for its balancer). Each move lowers the sum of capacity times squared utilisation, so it comes to an end.
type Balancer struct {
	room   *Replicas
	stored []int64 // bytes of these replicas by node index
	run    *balance
}

// BalanceWish is what an operator wants of a balance.
type BalanceWish struct {
	Threshold float64 // percentage points between a node and the mean that are even enough
	Bandwidth int64   // bytes per second that moves may begin with to, and from, each node
}

// Check says what is wrong with the wish; "" if nothing is.
func (w BalanceWish) Check() string {
	switch {
	case !(w.Threshold >= limits.BalanceThresholdMin && w.Threshold <= limits.BalanceThresholdMax): // NaN too
		return fmt.Sprintf("a threshold of %g percent: want %g to %g", w.Threshold, limits.BalanceThresholdMin,
			limits.BalanceThresholdMax)
	case w.Bandwidth < limits.CopyBandwidthMin:
		return fmt.Sprintf("a bandwidth of %d bytes per second: want at least %d", w.Bandwidth, limits.CopyBandwidthMin)
	}
	return ""
}

// balance is one that runs, or the last one that did.
type balance struct {
	wish     BalanceWish
	began    time.Duration
	progress time.Duration // when a copy arrived last, or it began
	ended    string        // why; "" while it runs
	moves    map[namespace.ChunkSlot]*move
	nodes    map[datanode.Index]*mover
	next     namespace.ChunkSlot // to look at
	lap      lap
	moved    meter
	failures int
}

// mover is a node as a part of moves.
type mover struct {
	pace     pace
	moves    int           // under way to or from it, of which the copy has not arrived
	failures int           // attempts in a row to copy to it
	after    time.Duration // no move before, because of them
}

// lap is what one round over all chunks found; why counts chunks that could not move.
type lap struct {
	arrived  bool
	hindered bool // a move has to wait for the limits of its nodes
	why      [whys]int
}

// Why a chunk on a node that is too full does not move.
const (
	whyUnsure = iota
	whyLarge
	whyPlace
	whys
)

// move of a chunk: a copy, then a removal.
type move struct {
	source, target datanode.Index
	bytes          int64
	began          time.Duration
	arrived        bool
}

func (b *Balancer) addNode() { b.stored = append(b.stored, 0) }

// note counts a replica that is in its place now, or is no longer.
func (b *Balancer) note(slot namespace.ChunkSlot, node datanode.Index, sign int64) {
	b.stored[node] += sign * b.room.files.Chunk(slot).Length()
}

func (b *Balancer) running() bool { return b.run != nil && b.run.ended == "" }

// Running returns the wish of the balance that runs.
func (b *Balancer) Running() (BalanceWish, bool) {
	if !b.running() {
		return BalanceWish{}, false
	}
	return b.run.wish, true
}

// Start begins a balance; none may run.
func (b *Balancer) Start(wish BalanceWish) {
	now := b.room.step.Mono
	b.run = &balance{wish: wish, began: now, progress: now, moves: make(map[namespace.ChunkSlot]*move),
		nodes: make(map[datanode.Index]*mover)}
}

// Stop ends the balance that runs, if one does. Copies under way arrive, and are surplus then.
func (b *Balancer) Stop() {
	if b.running() {
		b.end("an operator stopped it")
	}
}

func (b *Balancer) end(why string) {
	b.run.ended = why
	clear(b.run.moves)
}

// activate forgets what was balanced before this namenode was active: nothing of it counts any more.
func (b *Balancer) activate() { b.run = nil }

// moving reports whether a copy of a chunk is under way because of a move.
func (b *Balancer) moving(slot namespace.ChunkSlot) (to datanode.Index, yes bool) {
	if !b.running() || b.run.moves[slot] == nil || b.run.moves[slot].arrived {
		return 0, false
	}
	return b.run.moves[slot].target, true
}

// from is the node that a chunk moves away from; 0: none.
func (b *Balancer) from(slot namespace.ChunkSlot) datanode.Index {
	if !b.running() || b.run.moves[slot] == nil {
		return 0
	}
	return b.run.moves[slot].source
}

// failed ends the move of a chunk that its target could not copy.
func (b *Balancer) failed(slot namespace.ChunkSlot, target datanode.Index) {
	if to, yes := b.moving(slot); yes && to == target {
		b.drop(slot, true)
	}
}

// giveWay ends the move of a chunk with one replica left: its copy may hang, and another node has to make one. Should
// it arrive after all, the chunk has one more.
func (b *Balancer) giveWay(slot namespace.ChunkSlot) {
	if target, yes := b.moving(slot); yes {
		b.drop(slot, false)
		b.room.repair.avoid(slot, target)
	}
}

// unsealed ends the move of a chunk that is written to, or removed.
func (b *Balancer) unsealed(slot namespace.ChunkSlot) {
	if b.running() && b.run.moves[slot] != nil {
		b.drop(slot, false)
	}
}

// drop forgets a move.
func (b *Balancer) drop(slot namespace.ChunkSlot, failed bool) {
	m := b.run.moves[slot]
	delete(b.run.moves, slot)
	if !m.arrived {
		b.run.mover(m.source).moves--
		b.run.mover(m.target).moves--
	}
	if failed {
		b.run.mover(m.target).fail(m.began, b.room.step.Mono)
		b.run.failures++
		b.run.lap.hindered = true
	}
}

// fail notes that a copy to the node failed that began at a time. Those that ran beside it count with it.
func (m *mover) fail(began, now time.Duration) {
	if began >= m.after {
		m.after = now + copyRetryFirst<<m.failures
		m.failures++
	}
}

func (r *balance) mover(node datanode.Index) *mover {
	if r.nodes[node] == nil {
		r.nodes[node] = &mover{pace: pace{bound: r.wish.Bandwidth}}
	}
	return r.nodes[node]
}

// free reports whether a node may take part in another move now.
func (r *balance) free(node datanode.Index, now time.Duration) bool {
	m := r.mover(node)
	return m.moves < movesPerNode && (m.failures == 0 || m.moves == 0) && m.after <= now && m.pace.ready(now)
}

// tick follows the moves under way and begins others.
func (b *Balancer) tick() {
	if !b.running() {
		return
	}
	b.follow()
	if b.paused() != "" {
		return
	}
	p := b.plan(b.run.wish.Threshold)
	defer func() { b.room.step.Work += p.work }()
	switch {
	case len(p.fills) < 2 && len(b.run.moves) == 0:
		b.end("fewer than two datanodes are live, in service and have reported in full")
	case p.even() && len(b.run.moves) == 0:
		b.end(fmt.Sprintf("every datanode is within %g of the mean, %.1f %%", p.threshold, p.mean))
	case !p.even():
		b.scan(p)
	}
}

// paused says why no move begins now; "" if nothing is in the way.
func (b *Balancer) paused() string {
	switch {
	case b.room.SafeMode.On():
		return "nothing moves in safe mode: " + b.room.SafeMode.Reason()
	case b.room.repair.goesFirst():
		return "chunks that lack copies are repaired first"
	}
	return ""
}

// follow ends the moves that are over.
func (b *Balancer) follow() {
	now := b.room.step.Mono
	b.room.step.Work += len(b.run.moves)
	for _, slot := range slices.Sorted(maps.Keys(b.run.moves)) {
		m := b.run.moves[slot]
		late := now-m.began >= b.room.config.CopyTimeout
		if !m.arrived && b.room.locations.has(slot, m.target) {
			b.arrive(m)
		}
		switch {
		case !m.arrived && (late || !b.room.Nodes.at(m.target).live()):
			b.drop(slot, true)
		case m.arrived && (late || b.room.locations.level(slot) != levelSurplus):
			b.drop(slot, false) // the source's is gone, or is wanted after all
		}
	}
}

// arrive notes that the copy of a move is there; it may be removed at its source as soon as deletion sees fit.
func (b *Balancer) arrive(m *move) {
	m.arrived, m.began, b.run.progress = true, b.room.step.Mono, b.room.step.Mono
	b.run.moved.add(b.room.step.Mono, m.bytes)
	b.run.mover(m.source).moves--
	b.run.mover(m.target).moves--
	b.run.mover(m.target).failures = 0
	b.run.lap.arrived = true
}

// scan looks at the next chunks and begins moves, within the limits. It ends the balance when all chunks were looked
// at and nothing was, or will be, moved.
func (b *Balancer) scan(plan *planner) {
	run, now := b.run, b.room.step.Mono
	plan.admit(func(node datanode.Index) bool { return run.free(node, now) })
	if !plan.all.possible() {
		if len(run.moves) == 0 {
			b.end("nothing more can move" + plan.failing(run))
		}
		return
	}
	for turned := false; plan.work < movesWorkPerTick && len(run.moves) < movesMax; {
		if !plan.free.possible() { // else the chunks would be looked at in vain
			run.lap.hindered = true
			return
		}
		if run.next == 0 || run.next >= b.room.files.Limit() {
			if turned || !b.turn(plan) {
				return
			}
			turned, run.next = true, 1
		}
		slot := run.next
		run.next++
		chosen, found := plan.choose(slot)
		switch {
		case found == moveLater:
			run.lap.hindered = true
		case found < 0:
		case chosen == nil:
			run.lap.why[found]++
		default:
			b.begin(slot, chosen)
			plan.apply(chosen)
		}
	}
}

// turn ends a round over all chunks; false: no other begins now.
func (b *Balancer) turn(p *planner) bool {
	run := b.run
	// What is not sure now is, as a rule, when datanodes have told, and are back for a while.
	patient := b.room.config.DeleteGrace + b.room.config.RepairGrace
	unsure := run.lap.why[whyUnsure] > 0 && b.room.step.Mono-run.progress < patient
	if run.next == 0 || run.lap.arrived || run.lap.hindered || unsure {
		run.lap = lap{}
		return true
	}
	if len(run.moves) == 0 {
		b.end("nothing more can move: " + run.lap.reason() + p.failing(run))
	}
	return false // what is under way shows whether another round is of use
}

// begin orders the copy of a move.
func (b *Balancer) begin(slot namespace.ChunkSlot, chosen *move) {
	now := b.room.step.Mono
	chosen.began = now
	b.run.moves[slot] = chosen
	sources := slices.Clone(b.room.locations.of(slot))
	slices.SortStableFunc(sources, func(a, other datanode.Index) int {
		return int(count(other == chosen.source)) - int(count(a == chosen.source)) // the bound holds for it
	})
	for _, node := range []datanode.Index{chosen.source, chosen.target} {
		b.run.mover(node).moves++
		b.run.mover(node).pace.take(now, chosen.bytes)
	}
	b.room.repair.sendCopy(slot, chosen.target, sources)
}

// reason says why the chunks of a round did not move.
func (l *lap) reason() string {
	texts := [whys]string{
		whyUnsure: "lack a replica, have one that its datanode has not confirmed, or are on datanodes out of service",
		whyLarge:  "are so large that a move would only turn the difference around",
		whyPlace: "have no place on an emptier datanode: it has a replica, has no room, or the racks would be spread " +
			"less",
	}
	var parts []string
	for i, chunks := range l.why {
		if chunks > 0 {
			parts = append(parts, fmt.Sprintf("%d %s %s", chunks, verb(chunks, "chunk", "chunks"), texts[i]))
		}
	}
	if len(parts) == 0 {
		return "no chunk is on a datanode that is too full"
	}
	return joinSome(parts)
}

// planner finds moves. It knows how full the nodes will be when the moves under way are over.
type planner struct {
	room            *Replicas
	threshold, mean float64
	fills           map[datanode.Index]*fill // of nodes that are live, serve and have reported
	nodes           []*fill                  // the emptiest first, as it was at the beginning
	outside         int                      // nodes that are not within the threshold
	work            int                      // chunks, nodes and moves that were looked at

	// Of the moves that begin now, after admit:
	mayBegin  func(datanode.Index) bool
	all, free prospects // of all nodes, and of those that may take part in another move now
	targets   []*fill   // in the order of nodes, those of free that may get a chunk
}

// prospects count nodes that may give chunks, and that may get some.
type prospects struct {
	above, over  int // fuller than the mean; those of them outside of the threshold
	below, under int // emptier, and not avoided
}

// possible reports whether there are two nodes that are of use to each other.
func (p *prospects) possible() bool { return p.over > 0 && p.below > 0 || p.above > 0 && p.under > 0 }

// targets counts the nodes that may get a chunk of one that is fuller than the mean.
func (p *prospects) targets(over bool) int {
	if over {
		return p.below
	}
	return p.under
}

// fill is how full a node is.
type fill struct {
	node            *node
	bytes, capacity int64
	avoided         bool   // copies to it fail, or had better not be made
	doubts          string // why they had better not; "" if nothing speaks against them
	free            bool   // it may take part in another move now
}

func (f *fill) percent() float64 { return f.with(0) }
func (f *fill) with(bytes int64) float64 {
	return 100 * float64(f.bytes+bytes) / float64(f.capacity)
}

// plan begins to look for moves.
func (b *Balancer) plan(threshold float64) *planner {
	made := &planner{room: b.room, threshold: threshold, fills: make(map[datanode.Index]*fill)}
	var bytes, capacity int64
	for _, n := range b.room.Nodes.all() {
		if !n.trusted() || !n.serves() || n.bytesMax() == 0 {
			continue
		}
		f := &fill{node: n, bytes: b.stored[n.index], capacity: n.bytesMax(), doubts: b.doubts(n)}
		f.avoided = f.doubts != "" || b.running() && b.run.mover(n.index).failures >= moveFailuresMax
		made.fills[n.index] = f
		made.nodes = append(made.nodes, f)
		bytes, capacity = bytes+f.bytes, capacity+f.capacity
	}
	made.mean = 100 * float64(bytes) / float64(max(capacity, 1))
	if b.running() {
		for slot, m := range b.run.moves { // sums: the order has no effect
			if f := made.fills[m.source]; f != nil && b.room.locations.has(slot, m.source) {
				f.bytes -= m.bytes
			}
			if f := made.fills[m.target]; f != nil && !b.room.locations.has(slot, m.target) {
				f.bytes += m.bytes
			}
		}
		made.work += len(b.run.moves)
	}
	slices.SortFunc(made.nodes, func(a, b *fill) int {
		return cmp.Or(cmp.Compare(a.percent(), b.percent()), cmp.Compare(a.node.index, b.node.index))
	})
	for _, f := range made.nodes {
		made.outside += int(count(made.over(f) || made.under(f)))
	}
	made.work += planNodeWork * len(b.room.Nodes.all())
	return made
}

// admit says which nodes may take part in moves that begin now.
func (p *planner) admit(mayBegin func(datanode.Index) bool) {
	p.mayBegin, p.outside = mayBegin, 0
	for _, f := range p.nodes {
		f.free = mayBegin(f.node.index)
		p.count(f, 1)
		if p.takes(f) {
			p.targets = append(p.targets, f)
		}
	}
}

// takes reports whether a node may get a chunk now.
func (p *planner) takes(f *fill) bool { return f.free && !f.avoided && f.percent() < p.mean }

// count counts a node as it is now, or no longer.
func (p *planner) count(f *fill, sign int) {
	p.outside += sign * int(count(p.over(f) || p.under(f)))
	for _, of := range []*prospects{&p.all, &p.free} {
		switch {
		case of == &p.free && !f.free:
		case f.percent() > p.mean:
			of.above, of.over = of.above+sign, of.over+sign*int(count(p.over(f)))
		case f.percent() < p.mean && !f.avoided:
			of.below, of.under = of.below+sign, of.under+sign*int(count(p.under(f)))
		}
	}
}

// doubts says why a node shall not get copies that nobody needs; "" if nothing speaks against it.
func (b *Balancer) doubts(n *node) string {
	switch {
	case n.suspect():
		return "its disks are suspect"
	case b.room.Slowness.of(n.index):
		return "it is slow"
	}
	return ""
}

func (p *planner) over(f *fill) bool  { return f.percent() > p.mean+p.threshold }
func (p *planner) under(f *fill) bool { return f.percent() < p.mean-p.threshold }

// even reports whether every node is within the threshold of the mean.
func (p *planner) even() bool { return p.outside == 0 }

// What choose finds when there is no move: moveLater: the limits of nodes are in the way; moveNone: the chunk is on no
// node that is too full. Else it is one of the reasons above.
const (
	moveLater = -1
	moveNone  = -2
)

// choose finds a move of a chunk that can begin now, or why there is none. A move serves the balance if one of its
// nodes is outside of the threshold.
func (p *planner) choose(slot namespace.ChunkSlot) (chosen *move, found int) {
	p.work++
	record := p.room.files.Chunk(slot)
	if record.ID().IsZero() || record.Open() || record.Length() == 0 || p.room.repair.copying(slot) {
		return nil, moveNone
	}
	holders, bytes := p.room.locations.of(slot), record.Length()
	found = moveNone
	for _, holder := range holders {
		source := p.fills[holder]
		p.work++
		if source == nil || source.percent() <= p.mean {
			continue
		}
		over := p.over(source)
		all, now := p.all.targets(over), p.free.targets(over)
		switch {
		case all == 0:
			continue
		case !p.sure(slot):
			return nil, whyUnsure
		case !source.free || now < all: // perhaps others can take it
			found = moveLater
		}
		if !source.free || now == 0 {
			continue
		}
		for _, target := range p.targets {
			p.work++
			switch {
			case !over && !p.under(target):
			case source.with(-bytes) < target.with(bytes):
				found = worse(found, whyLarge)
			case !target.node.takes(bytes) || p.room.holds(target.node.index, slot) ||
				!p.spreadStays(holders, source.node, target.node):
				found = worse(found, whyPlace)
			default:
				return &move{source: holder, target: target.node.index, bytes: bytes}, 0
			}
		}
	}
	return nil, found
}

// worse is what is found of a chunk after another reason against a move: that one could be made later says more.
func worse(found, reason int) int {
	if found == moveLater {
		return found
	}
	return max(found, reason)
}

// sure reports whether a chunk has as many replicas as wanted, all on nodes that serve, have told of them, and did not
// come back from the dead lately.
func (p *planner) sure(slot namespace.ChunkSlot) bool {
	holders := p.room.locations.of(slot)
	return p.room.locations.level(slot) == levelWanted && len(holders) == p.room.wanted(slot) &&
		p.room.locations.unconfirmed(slot) == 0 && !slices.ContainsFunc(holders, func(node datanode.Index) bool {
		n := p.room.Nodes.at(node)
		return !n.trusted() || !n.serves() || p.room.Nodes.backLately(n)
	})
}

// spreadStays reports whether a chunk is on as many racks after a move, and the replica that goes then is that of the
// source: deletion takes one that shares its rack first.
func (p *planner) spreadStays(holders []datanode.Index, source, target *node) bool {
	if target.sharesRack(source) {
		return true
	}
	shared := false // by any two of those that will be there
	for i, holder := range holders {
		n := p.room.Nodes.at(holder)
		if n != source && n.sharesRack(source) {
			return true
		}
		shared = shared || n.sharesRack(target)
		for _, other := range holders[i+1:] {
			shared = shared || n.sharesRack(p.room.Nodes.at(other))
		}
	}
	return !shared
}

// apply counts a move that was chosen.
func (p *planner) apply(m *move) {
	p.work += moveWork
	source, target := p.fills[m.source], p.fills[m.target]
	p.count(source, -1)
	p.count(target, -1)
	source.bytes -= m.bytes
	target.bytes += m.bytes
	source.free, target.free = p.mayBegin(m.source), p.mayBegin(m.target)
	p.count(source, 1)
	p.count(target, 1)
	if !p.takes(target) {
		p.targets = slices.DeleteFunc(p.targets, func(f *fill) bool { return f == target })
	}
}

// failing names the nodes that could not be copied to, or had better not be, after a text.
func (p *planner) failing(run *balance) (text string) {
	var names, doubtful []string
	for _, f := range p.nodes {
		if f.doubts != "" && f.percent() < p.mean {
			doubtful = append(doubtful, fmt.Sprintf("%s (%s)", f.node.called(), f.doubts))
		}
		if run.mover(f.node.index).failures > 0 {
			names = append(names, fmt.Sprintf("%s (%d in a row)", f.node.called(), run.mover(f.node.index).failures))
		}
	}
	if len(names) > 0 {
		text = "; copies failed to " + joinSome(names)
	}
	if len(doubtful) > 0 {
		text += "; none were made to " + joinSome(doubtful)
	}
	return text
}

// left is how many bytes have to move at least until every node is within the threshold.
func (p *planner) left() int64 {
	var over, under float64
	for _, f := range p.nodes {
		over += max(f.percent()-p.mean-p.threshold, 0) / 100 * float64(f.capacity)
		under += max(p.mean-p.threshold-f.percent(), 0) / 100 * float64(f.capacity)
	}
	return int64(max(over, under))
}
