package replicas

import (
	"cmp"
	"slices"
	"time"

	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/limits"
)

// Explanation says of a chunk where its replicas are, for how long it lacks some, what is done about that, and what
// stands in the way. The texts are for people; an empty one: nothing.
type Explanation struct {
	Health

	FileID   uint64
	Replicas []ReplicaNote // at most replicaNotesMax
	// Lacking is for how long it has had fewer replicas than wanted; 0: it has enough, or that is not known. If
	// SinceStart is set, longer: as long as this namenode is active.
	Lacking        time.Duration
	SinceStart     bool
	Doing, Blocked string
}

// ReplicaNote is what is known of a replica, good or not.
type ReplicaNote struct{ NodeID, Name, Address, Text string }

// Explain says why a chunk is as it is.
func (e *Examiner) Explain(slot namespace.ChunkSlot) Explanation {
	found := Explanation{Health: e.Chunk(slot), FileID: e.room.files.Inode(e.room.files.Chunk(slot)).ID(),
		Replicas: e.notes(slot)}
	if found.Verdict != Healthy {
		found.Lacking, found.SinceStart = e.lacking(slot, &found.Health)
	}
	if found.Open {
		found.Blocked = e.room.OpenChunks.blocked(slot)
	} else {
		found.Doing, found.Blocked = e.room.repair.plan(slot)
	}
	if found.Verdict == Unknown {
		awaited := e.awaitedNames()
		if awaited == "" {
			awaited = "the datanodes that a writer named have not told of their replicas yet"
		}
		found.Doing = joinSentences(awaited, found.Doing)
	}
	found.Doing = limits.Clip(found.Doing, limits.ReasonBytesMax)
	found.Blocked = limits.Clip(found.Blocked, limits.ReasonBytesMax)
	return found
}

func joinSentences(first, second string) string {
	if first == "" || second == "" {
		return first + second
	}
	return first + "; " + second
}

// awaitedNames says whose reports may still tell of replicas; "" if there are none.
func (e *Examiner) awaitedNames() string {
	var names []string
	for _, n := range e.room.Nodes.all() {
		if e.room.mayTell(n) {
			names = append(names, n.called())
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "full reports are awaited of " + joinSome(names)
}

// notes describes the replicas that count, then the others.
func (e *Examiner) notes(slot namespace.ChunkSlot) (notes []ReplicaNote) {
	add := func(node datanode.Index, text string) {
		if len(notes) < replicaNotesMax {
			n := e.room.Nodes.at(node)
			notes = append(notes, ReplicaNote{NodeID: n.id, Name: n.called(), Address: n.address, Text: text})
		}
	}
	holders := e.holders(slot)
	for _, node := range holders {
		n := e.room.Nodes.at(node)
		text := n.condition(e.room.step.Mono)
		switch {
		case text != "":
		case !n.reported():
			text = "its full report is awaited"
		case !e.told(slot, node):
			text = "a writer named it, it has not told yet"
		default:
			text = "confirmed"
		}
		if e.room.locations.leaves(slot, node) {
			text += ", on a disk that is to be removed"
		}
		add(node, text)
	}
	record := e.room.files.Chunk(slot)
	replicas := e.room.misplaced.of(record.ID())
	for i := range replicas {
		if m := &replicas[i]; !slices.Contains(holders, m.node) {
			add(m.node, m.describe(record.Generation()))
		}
	}
	return notes
}

// lacking is for how long a chunk has had fewer replicas than wanted, if all that it lost since are known.
func (e *Examiner) lacking(slot namespace.ChunkSlot, health *Health) (lacking time.Duration, sinceStart bool) {
	holders := e.holders(slot)
	total := len(holders)
	var lost []time.Duration // for how long
	for _, node := range holders {
		if n := e.room.Nodes.at(node); n.dead() {
			lost = append(lost, e.room.Nodes.deadFor(n))
		}
	}
	replicas := e.room.misplaced.of(health.Chunk)
	for i := range replicas {
		if m := &replicas[i]; m.unusable() && m.generation == health.Generation && !slices.Contains(holders, m.node) {
			lost = append(lost, e.room.step.Mono-m.since)
			total++
		}
	}
	slices.SortFunc(lost, func(a, b time.Duration) int { return cmp.Compare(b, a) })
	at := total - health.Wanted // the loss that was one too many
	if at < 0 || at >= len(lost) {
		return 0, false
	}
	active := e.room.step.Mono - e.room.step.ActiveSince
	return max(min(lost[at], active), time.Millisecond), lost[at] >= active // never 0: it is known
}

// Lacks reports whether something is to be copied of a sealed chunk, also from nodes that leave.
func (r *Replicas) Lacks(slot namespace.ChunkSlot) bool { return !r.locations.level(slot).sated() }

// age is a span for people.
func age(d time.Duration) string { return max(d, 0).Round(100 * time.Millisecond).String() }
