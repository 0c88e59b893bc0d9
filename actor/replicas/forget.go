package replicas

import (
	"fmt"
	"math"
	"slices"

	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
)

// A node that is forgotten keeps its index, id and address, because records name it by its index. It is forgotten only
// while it is dead and no chunk would lose the last replica that is known; nothing is deleted because of it. When it
// registers, it is a node like others, and reports what it has.

// noReport is the number of no node's report.
const noReport = math.MaxUint64

// MayForget refuses to forget a node that is there, or may have what no node that is there has. Its cost grows with
// the chunks that are open, and if chunks are missing with a look at the level of each.
func (r *Replicas) MayForget(op string, index datanode.Index) *fault.Error {
	peer := r.Nodes.at(index)
	refuse := func(kind fault.Kind, hint, format string, args ...any) *fault.Error {
		return &fault.Error{Kind: kind, Op: op, Node: peer.id, Address: peer.address,
			Reason: fmt.Sprintf(format, args...), Hint: hint}
	}
	if !peer.dead() || peer.talks(r.step.Mono-r.config.DeadAfter) {
		return refuse(fault.Invalid, "stop it first, and wait until `ww admin node list` calls it dead",
			"the datanode is not dead, or still sends heartbeats")
	}
	if r.SafeMode.On() || !r.sweep.done() || r.Nodes.ReportsMissing() || r.Nodes.mayReturn(peer) {
		return refuse(fault.Busy, "try again in a moment",
			"it is not known yet what the datanodes have: not all have reported, or chunks are still assessed")
	}
	if only := r.onlyOn(peer); only > 0 {
		return refuse(fault.Invalid,
			"bring it back, or remove the files that `ww fsck` calls missing or corrupt, and those that stay open",
			"%d %s on no datanode that is there, and may be on this one", only,
			verb(int(only), "chunk is", "chunks are"))
	}
	return nil
}

// onlyOn counts the chunks of which a dead node has, or may have, a replica, and no node that is not dead. What a node
// has that never reported to this namenode may be any chunk that is missing.
func (r *Replicas) onlyOn(peer *node) uint64 {
	there := func(node datanode.Index) bool { return !r.Nodes.at(node).dead() }
	only := r.files.CountOpen(func(slot namespace.ChunkSlot) bool {
		if !r.locations.isShort(slot) {
			return false
		}
		here, away := r.OpenChunks.reported(slot)
		return slices.Contains(r.OpenChunks.Holders(slot), peer.index) &&
			!slices.ContainsFunc(append(here, away...), there)
	})
	_, missing := r.repair.counts()
	if !peer.reported() || missing == 0 {
		return only + missing
	}
	for slot := namespace.ChunkSlot(1); slot < r.files.Limit(); slot++ {
		if r.locations.level(slot) == levelMissing && (r.locations.has(slot, peer.index) ||
			r.misplaced.find(r.files.Chunk(slot).ID(), peer.index) != nil) {
			only++
		}
	}
	return only
}

// Returned lists the forgotten nodes that are there: they registered with a standby, which writes no records.
func (r *Replicas) Returned() (returned []datanode.Index) {
	for _, n := range r.Nodes.withForgotten() {
		if n.forgotten() && n.attached() {
			returned = append(returned, n.index)
		}
	}
	return returned
}

// forgetNode drops what is known of a node's replicas that are not in their place, and the orders to it.
func (r *Replicas) forgetNode(node datanode.Index) {
	r.Reports.forget(node)
	r.Reports.forgetUnlisted(node, noReport)
	r.deletion.forgetNode(node)
}

// forgetLocations drops what forgotten nodes had of a chunk.
func (r *Replicas) forgetLocations(slot namespace.ChunkSlot) {
	if len(r.Nodes.all()) == len(r.Nodes.withForgotten()) {
		return
	}
	var buffer [holdersInit]datanode.Index
	for _, node := range append(buffer[:0], r.locations.of(slot)...) {
		if r.Nodes.at(node).forgotten() {
			r.locations.remove(slot, node)
			r.locations.markReduced(slot, r.step.Active)
			r.Balancer.note(slot, node, -1)
		}
	}
}
