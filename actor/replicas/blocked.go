package replicas

import (
	"fmt"
	"time"

	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/internal/datanode"
)

// plan says what is done about a sealed chunk that lacks a replica, and what stands in the way.
func (r *repair) plan(slot namespace.ChunkSlot) (doing, blocked string) {
	now := r.room.step.Mono
	if c := r.copies[slot]; c != nil {
		return fmt.Sprintf("a copy to %s was ordered %s ago and may take %s more", r.room.Nodes.at(c.target).called(),
			age(r.age(c)), age(c.deadline-now)), ""
	}
	if to, moving := r.room.Balancer.moving(slot); moving && !r.room.locations.level(slot).sated() {
		return fmt.Sprintf("a copy to %s is under way, which the balance began", r.room.Nodes.at(to).called()), ""
	}
	switch l := r.room.locations.level(slot); {
	case l == levelAway:
		return "datanodes in maintenance are waited for, nothing is copied meanwhile", ""
	case l.sated():
		return "", ""
	case l == levelMissing:
		return "", r.lost(slot)
	case r.room.SafeMode.On():
		return "", "nothing is copied in safe mode: " + r.room.SafeMode.Reason()
	}
	if doing = r.waits(slot); doing != "" {
		return doing, ""
	}
	if blocked = r.refusals(slot); blocked != "" {
		return "", blocked
	}
	if running := len(r.copies); !r.free() {
		return "", fmt.Sprintf("%d copies are under way, which is the limit; %d chunks wait, those with the fewest "+
			"replicas first", running, r.few.Len()-running)
	}
	if !r.pace.ready(now) {
		return fmt.Sprintf("as many bytes were begun as the repair may copy in a second (%d); it goes on in %s",
			r.pace.bound, age(r.pace.paid-now)), ""
	}
	return "a copy is ordered next", ""
}

// waits says what time a chunk with too few replicas waits for; "" if for none.
func (r *repair) waits(slot namespace.ChunkSlot) string {
	sources, awaited := r.sources(slot)
	if left := r.room.SafeMode.graceLeft(); left > 0 {
		return fmt.Sprintf("datanodes that are slow to come back have %s more after safe mode (namenode.repair_grace)",
			age(left))
	}
	if len(awaited) > 0 && len(sources) > 1 {
		left := time.Duration(0)
		for _, node := range awaited {
			left = max(left, r.room.config.RepairGrace-r.room.Nodes.deadFor(r.room.Nodes.at(node)))
		}
		return fmt.Sprintf("%s %s %s more to come back (namenode.repair_grace)", r.names(awaited),
			verb(len(awaited), "has", "have"), age(left))
	}
	if retry := r.retries[slot]; r.room.step.Mono < retry.notBefore {
		return fmt.Sprintf("%d %s failed, the last one to %s; the next one is ordered in %s", retry.failures,
			verb(retry.failures, "attempt to copy it", "attempts to copy it"),
			r.room.Nodes.at(retry.target).called(), age(retry.notBefore-r.room.step.Mono))
	}
	return ""
}

func (r *repair) names(nodes []datanode.Index) string {
	names := make([]string, len(nodes))
	for i, node := range nodes {
		names[i] = r.room.Nodes.at(node).called()
	}
	return joinSome(names)
}

// lost says what a chunk without replicas waits for.
func (r *repair) lost(slot namespace.ChunkSlot) string {
	holders := r.room.locations.of(slot)
	if len(holders) == 0 {
		return "there is no good replica to copy from, and no datanode is known that has one"
	}
	return fmt.Sprintf("there is nothing to copy from until %s %s back", r.names(holders),
		verb(len(holders), "is", "are"))
}

// refusals says why no node takes another replica of a chunk; "" if one does.
func (r *repair) refusals(slot namespace.ChunkSlot) string {
	var reasons []string
	for _, n := range r.room.Nodes.all() {
		reason, possible := r.refusal(n, slot)
		if possible {
			return ""
		}
		if reason != "" {
			reasons = append(reasons, n.called()+" "+reason)
		}
	}
	text := fmt.Sprintf("needs a datanode without a replica and with %d bytes free above datanode.reserve",
		r.room.files.Chunk(slot).Length())
	if len(reasons) == 0 {
		return text + "; all have one: start more datanodes"
	}
	return text + "; " + joinSome(reasons)
}

// refusal says why a node takes no copy of a chunk now; nothing of one that has it.
func (r *repair) refusal(peer *node, slot namespace.ChunkSlot) (reason string, possible bool) {
	switch condition := peer.condition(r.room.step.Mono); {
	case r.room.locations.has(slot, peer.index) && !r.room.locations.leaves(slot, peer.index):
		return "", false
	case !peer.live(), !peer.serves():
		return "is " + condition, false
	case !peer.takes(r.room.files.Chunk(slot).Length()):
		return peer.room(), false
	case r.occupied(peer, slot):
		return "has another file of it, which must go first", false
	case r.copiesTo[peer.index] >= r.limits.NodeStreams:
		return fmt.Sprintf("has %d copies under way, its limit", r.copiesTo[peer.index]), false
	}
	return "", true
}
