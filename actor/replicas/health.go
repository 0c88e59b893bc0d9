package replicas

import (
	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
)

// Verdict is what is known of a chunk's replicas, or of the chunks of a file: the worst of them. A higher one is worse.
type Verdict uint8

// Verdicts. None is a hope: healthy means that nodes which have reported to this namenode in full hold the replicas.
const (
	NoVerdict       Verdict = iota // there is no chunk
	Healthy                        // as many replicas as wanted
	UnderReplicated                // readable, with fewer replicas than wanted
	Unknown                        // nodes that may hold what lacks have not reported yet
	Corrupt                        // no good replica is known, but a bad one
	Missing                        // no replica is known
)

// Health is the verdict on one chunk, with what it is drawn from.
type Health struct {
	Chunk      chunk.ID
	Generation chunk.Generation
	Index      uint32 // in its file
	Length     int64
	Open       bool
	Verdict    Verdict
	// Confirmed replicas are on nodes that are not dead, have reported in full and told of them; Unconfirmed ones on
	// other nodes that are not dead. Bad ones are corrupt, or said to be and not verified yet.
	Wanted, Confirmed, Unconfirmed, Bad int
}

// Examiner draws verdicts within one step.
type Examiner struct {
	room *Replicas
	// awaited nodes may still report replicas that nobody knows of.
	awaited int
}

// Examine begins to draw verdicts. A node that has not reported since this namenode became active is awaited while it
// is there, and for RecoverWait if it is not.
func (r *Replicas) Examine() Examiner {
	e := Examiner{room: r}
	starting := r.step.Mono-r.step.ActiveSince < r.config.RecoverWait
	for _, n := range r.Nodes.all() {
		e.awaited += int(count(!n.reported() && (!n.dead() || starting)))
	}
	return e
}

// Chunk draws the verdict on one.
func (e *Examiner) Chunk(slot namespace.ChunkSlot) Health {
	record := e.room.files.Chunk(slot)
	health := Health{Chunk: record.ID(), Generation: record.Generation(), Index: record.Index(),
		Length: record.Length(), Open: record.Open(), Wanted: e.room.wanted(slot)}
	for _, node := range e.holders(slot) {
		n := e.room.Nodes.at(node)
		switch {
		case n.dead():
		case n.reported() && e.told(slot, node):
			health.Confirmed++
		default:
			health.Unconfirmed++
		}
	}
	for _, m := range e.room.misplaced.of(health.Chunk) {
		health.Bad += int(count(m.unusable() && m.generation == health.Generation))
	}
	switch known := health.Confirmed + health.Unconfirmed; {
	case health.Confirmed >= health.Wanted:
		health.Verdict = Healthy
	case known < health.Wanted && known+e.awaited >= health.Wanted, known >= health.Wanted, known == 0 && e.awaited > 0:
		health.Verdict = Unknown
	case known > 0:
		health.Verdict = UnderReplicated
	case health.Bad > 0:
		health.Verdict = Corrupt
	default:
		health.Verdict = Missing
	}
	return health
}

// told reports whether a node said itself that it has a chunk that counts.
func (e *Examiner) told(slot namespace.ChunkSlot, node datanode.Index) bool {
	if record := e.room.files.Chunk(slot); record.Open() {
		return e.room.misplaced.find(record.ID(), node) != nil
	}
	return e.room.locations.confirmed(slot, node)
}

// holders are the nodes that count: of a sealed chunk its locations, of an open one its pipeline and who else may have
// it.
func (e *Examiner) holders(slot namespace.ChunkSlot) []datanode.Index {
	if e.room.files.Chunk(slot).Open() {
		return e.room.OpenChunks.Holders(slot)
	}
	return e.room.locations.of(slot)
}
