package replicas

import (
	"slices"
	"time"

	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/queue"
)

// Deleting is the one thing that loses data, so all of it is here. A replica is
// ordered deleted only by the active namenode, out of safe mode, and because:
//   - its chunk was removed by a durable record (at once), or
//   - its chunk is unknown, or it is stale: of a lower generation than the
//     sealed chunk, which has live replicas in their place (after a grace), or
//   - it is surplus, misplaced or unreadable, and enough other replicas are in
//     their place on live nodes that reported in full to this namenode; or it is
//     the one that is in the way of the repair.
// A corrupt replica is never deleted: its node puts it in quarantine. An order names the replica's generation, and
// is checked once more before it is sent once more.

type deleteReason uint8

const (
	deleteRemoved deleteReason = iota + 1
	deleteUnknown
	deleteStale
	deleteSurplus
)

// deleteOrder waits for the node's word that the replica is gone.
type deleteOrder struct {
	generation chunk.Generation
	reason     deleteReason
	attempts   int
	leaving    bool // of deleteSurplus: its disk is to be removed
}

// deletion holds the orders of all nodes, and the misplaced replicas that may get one.
type deletion struct {
	room   *Replicas
	byNode []*nodeOrders     // the orders by node index
	queued bool              // some node has orders to be sent
	grace  queue.FIFO[check] // of misplaced replicas
}

type nodeOrders struct {
	orders   map[chunk.ID]*deleteOrder
	toSend   queue.FIFO[chunk.ID]
	toResend queue.FIFO[resend]
}

type resend struct {
	id chunk.ID
	at time.Duration
}

// check makes a misplaced replica come up for examination.
type check struct {
	id    chunk.ID
	node  datanode.Index
	since time.Duration
	at    time.Duration
}

func (d *deletion) addNode() {
	d.byNode = append(d.byNode, newNodeOrders())
}

func newNodeOrders() *nodeOrders { return &nodeOrders{orders: make(map[chunk.ID]*deleteOrder)} }

// forgetNode drops the orders to a node; should it come back, its report tells what it still has.
func (d *deletion) forgetNode(node datanode.Index) { d.byNode[node] = newNodeOrders() }

// watch has a misplaced replica examined after the grace.
func (d *deletion) watch(c check) {
	c.at = d.room.step.Mono + d.room.config.DeleteGrace
	d.grace.Push(c)
}

// order queues an order; send sends it.
func (d *deletion) order(node datanode.Index, id chunk.ID, generation chunk.Generation, reason deleteReason) {
	orders := d.byNode[node]
	if old := orders.orders[id]; old != nil {
		if old.reason == deleteRemoved || old.generation == generation {
			return
		}
		old.generation, old.reason, old.attempts = generation, reason, 0
		d.queue(orders, id)
		return
	}
	if len(orders.orders) >= deletesPerNodeMax {
		return // the next full report finds it
	}
	orders.orders[id] = &deleteOrder{generation: generation, reason: reason}
	d.queue(orders, id)
}

func (d *deletion) queue(n *nodeOrders, id chunk.ID) {
	n.toSend.Push(id)
	d.queued = true
}

// ordered reports whether a node shall delete its replica of a chunk, and of which generation.
func (d *deletion) ordered(node datanode.Index, id chunk.ID) (chunk.Generation, bool) {
	if order := d.byNode[node].orders[id]; order != nil {
		return order.generation, true
	}
	return 0, false
}

// confirm ends an order: the replica is gone.
func (d *deletion) confirm(node datanode.Index, id chunk.ID) { delete(d.byNode[node].orders, id) }

// compare ends the orders for what a node no longer has after its full report. Map order has no effect here.
func (d *deletion) compare(node datanode.Index) {
	for id, order := range d.byNode[node].orders {
		slot := d.room.files.Find(id)
		if order.attempts > 0 && d.room.misplaced.find(id, node) == nil &&
			(slot == 0 || !d.room.locations.has(slot, node)) {
			d.confirm(node, id)
		}
	}
}

// resendAll has every order of a node sent again, to a new stream.
func (d *deletion) resendAll(node datanode.Index) {
	for n := d.byNode[node]; n.toResend.Len() > 0; {
		d.queue(n, n.toResend.Pop().id)
	}
	d.wake(node)
}

// wake has the orders of a node sent that could not be sent before.
func (d *deletion) wake(node datanode.Index) { d.queued = d.queued || d.byNode[node].toSend.Len() > 0 }

// send sends what is queued to nodes that are there, within the limits of one step.
func (d *deletion) send() {
	if !d.room.step.Active || d.room.SafeMode.On() || !d.queued {
		return
	}
	d.queued = false
	messages := 0
	for _, peer := range d.room.Nodes.all() {
		if !peer.reachable() {
			continue
		}
		orders := d.byNode[peer.index]
		var questions []chunk.Replica
		for orders.toSend.Len() > 0 && messages < deleteMessagesPerStep {
			var replicas []chunk.Replica
			for range min(orders.toSend.Len(), deletesPerMessage) {
				id := orders.toSend.Pop()
				order := orders.orders[id]
				if order == nil {
					continue
				}
				if order.attempts >= deleteAttemptsMax || !d.stillWanted(peer, id, order) {
					questions = append(questions, d.cancel(peer, id)...)
					continue
				}
				order.attempts++
				replicas = append(replicas, chunk.Replica{ID: id, Generation: order.generation})
				orders.toResend.Push(resend{id: id, at: d.room.step.Mono + d.room.config.ResendAfter})
			}
			messages++
			if len(replicas) > 0 {
				d.room.step.Send(peer.id, &datanode.DeleteReplicas{Replicas: replicas})
				d.room.step.Emit(step.Event{Kind: step.EventDeleteOrdered, NodeID: peer.id, Count: len(replicas)})
			}
		}
		d.room.Reports.send(peer.index, questions)
		d.wake(peer.index)
	}
}

// resendLate queues the orders again that waited too long.
func (d *deletion) resendLate() {
	for _, n := range d.byNode[1:] {
		for i := 0; i < deletesPerMessage && n.toResend.Len() > 0 && n.toResend.At(0).at <= d.room.step.Mono; i++ {
			d.queue(n, n.toResend.Pop().id)
		}
	}
}

// stillWanted checks an order once more.
func (d *deletion) stillWanted(peer *node, id chunk.ID, order *deleteOrder) bool {
	slot := d.room.files.Find(id)
	if order.reason == deleteRemoved || order.reason == deleteUnknown {
		return slot == 0
	}
	if slot == 0 || d.room.files.Chunk(slot).Open() {
		return false
	}
	if m := d.room.misplaced.find(id, peer.index); m != nil {
		return m.generation == order.generation && d.deletable(peer, id, m) != 0
	}
	return order.reason == deleteSurplus && d.confirmed(slot, peer.index) >= d.room.wanted(slot)
}

// cancel ends an order that is not wanted. If the replica may still be there and be good, its node is to be asked: the
// answer comes behind what it did with the order.
func (d *deletion) cancel(peer *node, id chunk.ID) (questions []chunk.Replica) {
	order := d.byNode[peer.index].orders[id]
	d.confirm(peer.index, id)
	slot := d.room.files.Find(id)
	if slot == 0 || d.room.files.Chunk(slot).Open() || d.room.files.Chunk(slot).Generation() != order.generation ||
		d.room.misplaced.find(id, peer.index) != nil {
		return nil
	}
	if order.attempts == 0 {
		d.room.addLocation(slot, peer.index, true)
		d.room.locations.setLeaving(slot, peer.index, order.leaving)
		return nil
	}
	return []chunk.Replica{d.room.Reports.question(slot)}
}

// confirmed counts the replicas of a sealed chunk that live nodes told of themselves, which do not leave and have
// reported in full to this namenode, apart from one node.
func (d *deletion) confirmed(slot namespace.ChunkSlot, except datanode.Index) int {
	return d.toldBy(slot, except, func(n *node) bool {
		return n.confirms() && !d.room.locations.leaves(slot, n.index)
	})
}

// toldBy counts the replicas of a sealed chunk that some nodes told of themselves, apart from one node.
func (d *deletion) toldBy(slot namespace.ChunkSlot, except datanode.Index, some func(*node) bool) (told int) {
	for _, node := range d.room.locations.of(slot) {
		told += int(count(node != except && some(d.room.Nodes.at(node)) && d.room.locations.confirmed(slot, node)))
	}
	return told
}

// examineMisplaced looks at the misplaced replicas whose grace is over.
func (d *deletion) examineMisplaced() {
	for i := 0; i < misplacedExaminedPerTick && d.grace.Len() > 0 && d.grace.At(0).at <= d.room.step.Mono; i++ {
		c := d.grace.Pop()
		m := d.room.misplaced.find(c.id, c.node)
		if m == nil || m.since != c.since {
			continue // gone, or another check is under way for what it became
		}
		if reason := d.deletable(d.room.Nodes.at(c.node), c.id, m); reason != 0 {
			d.order(c.node, c.id, m.generation, reason)
		}
		d.room.watch(c.id, m)
	}
}

// deletable decides over a misplaced replica; 0 means that it stays.
func (d *deletion) deletable(peer *node, id chunk.ID, replica *misplaced) deleteReason {
	if d.room.SafeMode.On() || !peer.trusted() || replica.verdict == suspect {
		return 0
	}
	known := min(d.room.Nodes.registeredFor(peer), d.room.step.Mono-d.room.step.ActiveSince)
	if replica.verdict == unverified && known < d.room.config.DeleteGrace {
		return 0
	}
	slot := d.room.files.Find(id)
	if slot == 0 {
		return deleteUnknown
	}
	c := d.room.files.Chunk(slot)
	switch {
	case c.Open():
		return 0
	case replica.state == chunk.Corrupt:
		return 0 // in quarantine, where it stays
	case replica.verdict == unverified && replica.generation < c.Generation():
		if d.staleAllowed(slot, d.confirmed(slot, peer.index)) {
			return deleteStale
		}
	default: // unreadable, not sealed, or of another length
		good, wanted := d.confirmed(slot, peer.index), d.room.wanted(slot)
		if good >= wanted || good > 0 && good+1 >= wanted && !d.canCopy(slot) {
			return deleteSurplus
		}
	}
	return 0
}

// staleAllowed: a stale replica is the last resort while the chunk has but one
// good one; it goes then only if it is in the way of the repair.
func (d *deletion) staleAllowed(slot namespace.ChunkSlot, good int) bool {
	return good >= min(2, d.room.wanted(slot)) || good > 0 && !d.canCopy(slot)
}

// canCopy reports whether some node could take another replica of a chunk.
func (d *deletion) canCopy(slot namespace.ChunkSlot) bool {
	length := d.room.files.Chunk(slot).Length()
	return slices.ContainsFunc(d.room.Nodes.all(), func(n *node) bool {
		return n.takes(length) && !d.room.holds(n.index, slot)
	})
}

// trimSurplus orders one replica too many deleted per chunk, and only when the wanted number of others is confirmed.
func (d *deletion) trimSurplus() {
	for _, slot := range d.room.repair.surplusChunks(trimsPerTick) {
		surplus := d.surplusOf(slot)
		if surplus == nil {
			continue
		}
		c := d.room.files.Chunk(slot)
		d.order(surplus.index, c.ID(), c.Generation(), deleteSurplus)
		if order := d.byNode[surplus.index].orders[c.ID()]; order != nil {
			order.leaving = d.room.locations.leaves(slot, surplus.index)
			d.room.removeLocation(slot, surplus.index)
		}
	}
}

// surplusOf chooses the node whose replica of a chunk goes; nil if none may. While a holder is back from the dead only
// lately, what was copied for it stays: it may go again.
func (d *deletion) surplusOf(slot namespace.ChunkSlot) (chosen *node) {
	for _, node := range d.room.locations.of(slot) {
		n := d.room.Nodes.at(node)
		if d.room.Nodes.backLately(n) {
			return nil
		}
		if n.trusted() && d.confirmed(slot, node) >= d.room.wanted(slot) &&
			(chosen == nil || d.ratherGoes(slot, n, chosen)) {
			chosen = n
		}
	}
	return chosen
}

// ratherGoes compares two replicas of a chunk with too many: one on a disk that is to be removed goes first; then one
// that shares its rack, so that the spread stays; then that which is moved away; then that of a node that flaps, whose
// next absence then costs nothing; then that of the fuller node.
func (d *deletion) ratherGoes(slot namespace.ChunkSlot, one, other *node) bool {
	if leaves := d.room.locations.leaves(slot, one.index); leaves != d.room.locations.leaves(slot, other.index) {
		return leaves
	}
	if alone := d.aloneInRack(slot, one); alone != d.aloneInRack(slot, other) {
		return !alone
	}
	if from := d.room.Balancer.from(slot); from == one.index || from == other.index {
		return from == one.index
	}
	if flapping := d.room.Nodes.flapping(one); flapping != d.room.Nodes.flapping(other) {
		return flapping
	}
	return one.fuller(other)
}

// aloneInRack reports whether no other live replica of a chunk is in the rack of a node.
func (d *deletion) aloneInRack(slot namespace.ChunkSlot, of *node) bool {
	return !slices.ContainsFunc(d.room.locations.of(slot), func(index datanode.Index) bool {
		n := d.room.Nodes.at(index)
		return n != of && !n.dead() && n.sharesRack(of)
	})
}

// forgetGrace begins every grace anew.
func (d *deletion) forgetGrace() { d.grace = queue.FIFO[check]{} }
