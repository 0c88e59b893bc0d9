package replicas

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
	"github.com/whispering-woods/ww/internal/queue"
)

// Reports compares what datanodes report with what is known.
type Reports struct {
	room     *Replicas
	running  map[datanode.Index]*report
	done     bitset[datanode.Index]    // nodes of which all pages are in, and are still compared
	expected queue.FIFO[expectedChunk] // chunks that nodes should soon tell of: see expect
	next     namespace.ChunkSlot       // the next slot to compare with all reports that are done
}

// report is a full chunk report that comes in. What the node did not list, and
// did not report meanwhile, is gone from it.
type report struct {
	id   uint64
	next uint32 // page wanted
	// listed are the slots of chunks that the report, a delta or a commit put on the node since the report began;
	// unlisted counts the chunks located on the node that are not among them.
	listed   bitset[namespace.ChunkSlot]
	unlisted int
	// touched are chunks that a delta reported since the report began: what the report says of them is older.
	touched map[chunk.ID]struct{}
	// done: all pages are in. left is how many slots must still be compared.
	done bool
	left namespace.ChunkSlot
}

// expectedChunk has locations that rest on the word of a writer or a recovery.
type expectedChunk struct {
	slot namespace.ChunkSlot
	at   time.Duration
}

// forget ends a node's report, complete or not, and its turn.
func (r *Reports) forget(node datanode.Index) {
	delete(r.running, node)
	r.done.unset(node)
	r.room.turns.end(node)
}

// id of the report of a node that comes in; 0 if there is none.
func (r *Reports) id(node datanode.Index) uint64 {
	if p := r.running[node]; p != nil {
		return p.id
	}
	return 0
}

// list notes that a node has a chunk, whether its report lists it or not.
func (r *Reports) list(node datanode.Index, slot namespace.ChunkSlot) {
	if p := r.running[node]; p != nil && !p.listed.has(slot) {
		p.listed.set(slot)
		p.unlisted -= int(count(r.room.locations.has(slot, node)))
	}
}

// unlocated notes that a node was a location of a chunk, and is no more.
func (r *Reports) unlocated(slot namespace.ChunkSlot, node datanode.Index) {
	if p := r.running[node]; p != nil && !p.listed.has(slot) {
		p.unlisted--
	}
}

// expect notes that a chunk has a location by another's word than its node's. Such a word comes before the node's own
// or, when that node has lost the replica since, instead of it. So a report that does not list the replica proves
// nothing: it may be older than the seal. What decides is the node's answer to a question that is sent after the word
// came: at the end of such a report (compare), and when the node has said nothing for ConfirmAfter.
func (r *Reports) expect(slot namespace.ChunkSlot) {
	if r.expected.Len() >= expectedMax {
		r.ask(r.expected.Pop().slot, r.send)
	}
	r.expected.Push(expectedChunk{slot: slot, at: r.room.step.Mono})
}

// askExpected asks the nodes that have not yet told of chunks that others say they have.
func (r *Reports) askExpected() {
	questions := make(map[datanode.Index][]chunk.Replica)
	for r.expected.Len() > 0 && r.room.step.Mono-r.expected.At(0).at >= ConfirmAfter {
		r.ask(r.expected.Pop().slot, func(node datanode.Index, replicas []chunk.Replica) {
			questions[node] = append(questions[node], replicas...)
		})
	}
	for _, node := range slices.Sorted(maps.Keys(questions)) {
		r.send(node, questions[node])
	}
}

// ask puts the question whether they have a chunk, for all its nodes that have not said so.
func (r *Reports) ask(slot namespace.ChunkSlot, put func(datanode.Index, []chunk.Replica)) {
	unconfirmed := r.room.locations.unconfirmed(slot)
	if unconfirmed == 0 {
		return
	}
	for i, node := range r.room.locations.of(slot) {
		if unconfirmed&(1<<i) != 0 {
			put(node, []chunk.Replica{r.question(slot)})
		}
	}
}

// question names a sealed chunk as its replicas should be.
func (r *Reports) question(slot namespace.ChunkSlot) chunk.Replica {
	c := r.room.files.Chunk(slot)
	return chunk.Replica{ID: c.ID(), Generation: c.Generation()}
}

// send asks a node what it has of some chunks: it answers with a delta. One that is away reports when it is back.
func (r *Reports) send(node datanode.Index, questions []chunk.Replica) {
	n := r.room.Nodes.at(node)
	if !n.reachable() {
		return
	}
	for replicas := range slices.Chunk(questions, questionsPerMessage) {
		r.room.step.Send(n.id, &datanode.TellReplicas{Replicas: replicas})
	}
}

// Missing notes that a reader did not find a replica: its node is asked.
func (r *Reports) Missing(id chunk.ID, generation chunk.Generation, nodeID string) {
	node, slot := r.room.Nodes.Find(nodeID), r.room.files.Find(id)
	if node != 0 && slot != 0 && r.room.files.Chunk(slot).Generation() == generation &&
		r.room.locations.has(slot, node) {
		r.send(node, []chunk.Replica{r.question(slot)})
	}
}

// Page is one of a full report.
type Page struct {
	ReportID uint64
	Number   uint32
	Last     bool
	Replicas []chunk.Replica // not retained
}

// Page compares a page with what is known.
func (r *Reports) Page(session Session, page Page) *fault.Error {
	const op = "chunk report"
	node, err := r.room.Nodes.Heard(op, session)
	if err != nil {
		return err
	}
	if len(page.Replicas) > limits.ReplicasPerMessageMax {
		return limits.TooMany(op, "replicas in one page", len(page.Replicas), limits.ReplicasPerMessageMax)
	}
	if page.Number == 0 {
		r.running[node] = &report{id: page.ReportID, touched: make(map[chunk.ID]struct{}),
			unlisted: r.room.locations.held(node)}
		r.done.unset(node)
	}
	current := r.running[node]
	if current == nil || current.done || current.id != page.ReportID || current.next != page.Number {
		r.forget(node)
		r.room.turns.want(node)
		e := fault.New(fault.Protocol, op, "page %d of report %d is out of order", page.Number, page.ReportID)
		e.Node = session.NodeID
		return e
	}
	r.room.turns.heard(node)
	current.next++
	for i := range page.Replicas {
		replica := &page.Replicas[i]
		if _, newer := current.touched[replica.ID]; newer || !plausible(replica) {
			continue
		}
		slot := r.room.files.Find(replica.ID)
		if slot != 0 {
			r.list(node, slot)
		}
		r.room.observe(node, slot, replica, false)
	}
	if !page.Last {
		return nil
	}
	current.done, current.left = true, max(r.room.files.Limit(), 1)
	current.touched = nil
	r.done.set(node)
	r.forgetUnlisted(node, current.id)
	if current.unlisted == 0 { // nothing to look for
		r.finish(node)
	}
	r.compare()
	return nil
}

// plausible refuses what no chunk store can say.
func plausible(r *chunk.Replica) bool {
	return !r.ID.IsZero() && r.Length >= 0 && r.Length <= chunk.SizeMax && r.State >= chunk.Open &&
		r.State <= chunk.Recovered
}

// forgetUnlisted drops the node's misplaced replicas that its report did not list.
func (r *Reports) forgetUnlisted(node datanode.Index, report uint64) {
	for _, id := range r.room.misplaced.unlisted(node, report) {
		r.room.misplaced.remove(id, node)
		r.room.deletion.confirm(node, id)
		if slot := r.room.files.Find(id); slot != 0 {
			r.room.repair.markDirty(slot)
		}
	}
}

// compare removes the locations that complete reports did not list, a bounded number of slots at a time. One pass over
// the chunks serves all reports that are there.
func (r *Reports) compare() {
	if !r.comparing() {
		return
	}
	limit := r.room.files.Limit()
	visited, questions := namespace.ChunkSlot(0), make(map[datanode.Index][]chunk.Replica)
	for compared := 0; visited < min(limit, passedPerStep) && compared < assessedPerStep; compared++ {
		if r.next >= limit {
			r.next = 0
		}
		end := min(limit, r.next+passedPerStep-visited)
		slot := r.room.locations.nextOn(r.next, end, r.done, false)
		r.room.step.Work += int(slot-r.next) / passedWork
		if slot < end {
			r.room.step.Work += assessmentWork
			r.compareSlot(slot, questions)
			slot++
		}
		visited += slot - r.next
		r.next = slot
	}
	for _, node := range slices.Sorted(maps.Keys(questions)) {
		r.send(node, questions[node])
	}
	for _, node := range slices.Sorted(maps.Keys(r.running)) {
		if report := r.running[node]; report.done {
			report.left -= min(report.left, visited)
			if report.left == 0 || report.unlisted == 0 {
				r.finish(node)
			}
		}
	}
}

// comparing reports whether a complete report is still compared.
func (r *Reports) comparing() bool { return !r.done.empty() }

// compareSlot compares one chunk. If a node has never told of it, the chunk may be younger than the report, and the
// node is asked.
func (r *Reports) compareSlot(slot namespace.ChunkSlot, questions map[datanode.Index][]chunk.Replica) {
	var buffer [holdersInit]datanode.Index
	for _, node := range append(buffer[:0], r.room.locations.of(slot)...) {
		switch report := r.running[node]; {
		case report == nil || !report.done || report.listed.has(slot):
		case r.room.locations.confirmed(slot, node):
			r.room.removeLocation(slot, node)
		default:
			questions[node] = append(questions[node], r.question(slot))
		}
	}
}

func (r *Reports) finish(node datanode.Index) {
	r.room.deletion.compare(node)
	r.room.Nodes.setComplete(r.room.Nodes.at(node), true)
	r.room.step.Emit(step.Event{Kind: step.EventReportDone, NodeID: r.room.Nodes.ID(node)})
}

// Delta tells changes of a node's replicas, in order.
func (r *Reports) Delta(s Session, stored, removed []chunk.Replica) *fault.Error {
	const op = "chunk delta"
	node, err := r.room.Nodes.Heard(op, s)
	if err != nil {
		return err
	}
	if changes := len(stored) + len(removed); changes > limits.ReplicasPerMessageMax {
		return limits.TooMany(op, "replicas in one delta", changes, limits.ReplicasPerMessageMax)
	}
	for i := range stored {
		if !plausible(&stored[i]) {
			continue
		}
		r.touch(node, stored[i].ID)
		slot := r.room.files.Find(stored[i].ID)
		if slot != 0 {
			r.list(node, slot)
		}
		r.room.observe(node, slot, &stored[i], true)
	}
	for i := range removed {
		r.touch(node, removed[i].ID)
		r.room.gone(node, &removed[i])
	}
	return nil
}

func (r *Reports) touch(node datanode.Index, id chunk.ID) {
	if p := r.running[node]; p != nil && !p.done {
		p.touched[id] = struct{}{}
	}
}

// check counts anew what the running reports have not listed, and what each node has.
func (r *Reports) check() error {
	held, unlisted := make(map[datanode.Index]int), make(map[datanode.Index]int)
	for slot := range r.room.files.Limit() {
		for _, node := range r.room.locations.of(slot) {
			held[node]++
			if p := r.running[node]; p != nil && !p.listed.has(slot) {
				unlisted[node]++
			}
		}
	}
	for _, n := range r.room.Nodes.withForgotten() {
		p := r.running[n.index]
		if counted := r.room.locations.held(n.index); counted != held[n.index] {
			return fmt.Errorf("node %d has %d chunks, counted %d", n.index, held[n.index], counted)
		}
		if p != nil && p.unlisted != unlisted[n.index] || r.done.has(n.index) != (p != nil && p.done) {
			return fmt.Errorf("report of node %d: %+v; %d chunks are not listed", n.index, p, unlisted[n.index])
		}
	}
	return nil
}
