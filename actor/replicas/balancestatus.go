package replicas

import (
	"maps"
	"slices"
	"time"

	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/limits"
)

// BalanceStatus is how far a balance is: the one that runs, or else the last one of this namenode since it became
// active.
type BalanceStatus struct {
	BalanceWish

	Running bool
	For     time.Duration // since it began
	Paused  string        // why no move begins now; "" if nothing is in the way
	Ended   string        // why it ended; "" if it runs, or there was none
	Even    bool          // all nodes are within the threshold of the mean
	Mean    float64       // utilisation of all nodes together, in percent
	// LeftBytes have to move at least. Moved arrived, Failed are copies that did not.
	LeftBytes      int64
	Moved          Arrivals
	Failed         int
	BytesPerSecond float64
	Nodes          []NodeFill    // in the order of their utilisation, the fullest first
	Moving         int           // moves under way
	Moves          []BalanceMove // of those, or of a plan, at most movesToldMax
	More           bool          // the plan is not all: more moves follow, or chunks move twice
}

// NodeFill is how full a node is that takes part: Bytes are those of its sealed replicas in their place.
type NodeFill struct {
	NodeID, Name, Address string
	Bytes, CapacityBytes  int64
	Percent               float64
}

// BalanceMove moves a chunk. The nodes are named for people.
type BalanceMove struct {
	Chunk          chunk.ID
	Bytes          int64
	Source, Target string
}

// Status says how far the balance is.
func (b *Balancer) Status() BalanceStatus {
	if b.run == nil {
		return b.describe(BalanceWish{Threshold: limits.BalanceThresholdDefault})
	}
	out := b.describe(b.run.wish)
	out.Running, out.Ended, out.For = b.running(), b.run.ended, b.room.step.Mono-b.run.began
	out.Moved, out.Failed, out.Moving = b.run.moved.total, b.run.failures, len(b.run.moves)
	_, out.BytesPerSecond = b.run.moved.rate(b.room.step.Mono)
	if out.Running {
		out.Paused = b.paused()
	}
	for _, slot := range slices.Sorted(maps.Keys(b.run.moves)) {
		if len(out.Moves) == movesToldMax {
			break
		}
		out.Moves = append(out.Moves, b.tell(slot, b.run.moves[slot]))
	}
	return out
}

// Plan says what a balance would move first, without moving it. What it costs is bounded.
func (b *Balancer) Plan(wish BalanceWish) BalanceStatus {
	out := b.describe(wish)
	p := b.plan(wish.Threshold)
	p.admit(func(datanode.Index) bool { return true })
	for slot := namespace.ChunkSlot(1); slot < b.room.files.Limit() && p.work < planWorkMax &&
		len(out.Moves) < movesToldMax && p.free.possible(); slot++ {
		if m, _ := p.choose(slot); m != nil {
			p.apply(m)
			out.Moves = append(out.Moves, b.tell(slot, m))
		}
	}
	b.room.step.Work += p.work
	out.More = !p.even()
	return out
}

func (b *Balancer) tell(slot namespace.ChunkSlot, m *move) BalanceMove {
	return BalanceMove{Chunk: b.room.files.Chunk(slot).ID(), Bytes: m.bytes,
		Source: b.room.Nodes.at(m.source).called(), Target: b.room.Nodes.at(m.target).called()}
}

// describe says how full the nodes are now, moves under way not counted.
func (b *Balancer) describe(wish BalanceWish) BalanceStatus {
	p := b.plan(wish.Threshold)
	for _, f := range p.nodes {
		f.bytes = b.stored[f.node.index]
	}
	p.admit(func(datanode.Index) bool { return true })
	b.room.step.Work += p.work
	out := BalanceStatus{BalanceWish: wish, Even: p.even(), Mean: p.mean, LeftBytes: p.left()}
	for _, f := range slices.Backward(p.nodes) {
		out.Nodes = append(out.Nodes, NodeFill{NodeID: f.node.id, Name: f.node.called(), Address: f.node.address,
			Bytes: f.bytes, CapacityBytes: f.capacity, Percent: f.percent()})
	}
	return out
}
