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
	room    *Replicas
	awaited int // nodes may still report replicas that nobody knows of
}

// Examine begins to draw verdicts.
func (r *Replicas) Examine() Examiner { return Examiner{room: r, awaited: r.unreported()} }

// unreported counts the nodes that may still report replicas that nobody knows of: those that have not reported in full
// since this namenode became active, while they are there, and for RecoverWait if they are not.
func (r *Replicas) unreported() (awaited int) {
	for _, n := range r.Nodes.all() {
		awaited += int(count(r.mayTell(n)))
	}
	return awaited
}

// mayTell reports whether a node is awaited: see unreported.
func (r *Replicas) mayTell(n *node) bool { return !n.reported() && (!n.dead() || r.Nodes.starting()) }

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

// Overview is what is known of all chunks, for people and for scripts that wait.
type Overview struct {
	Counts

	// Verdict is Healthy only if nothing else here speaks against it; a chunk being written counts by its pipeline.
	Verdict Verdict
	// Unconfirmed sealed chunks have enough replicas, but some of these only a writer or a recovery named.
	Unconfirmed uint64
	// Unreported nodes may still tell of replicas that nobody knows of.
	Unreported int
	Counting   bool // chunks are being counted again after a change that concerns all
	// Copying is how many copies are under way, Waiting how many chunks need one that is not ordered. Leaving chunks
	// have enough replicas, but some on nodes that leave.
	Copying, Waiting, Leaving int
}

// Overview sums up.
func (r *Replicas) Overview() Overview {
	found := Overview{Counts: r.Counts(), Unconfirmed: r.locations.unproven(), Unreported: r.unreported(),
		Counting: !r.sweep.done()}
	found.Copying, found.Waiting, found.Leaving = r.repair.work()
	switch {
	case !r.step.Active || found.Unreported > 0 || found.Counting:
		found.Verdict = Unknown
	case found.Missing > 0:
		found.Verdict = Missing
	case found.UnderReplicated > 0 || found.Unusable > 0:
		found.Verdict = UnderReplicated
	case found.Unconfirmed > 0:
		found.Verdict = Unknown
	default:
		found.Verdict = Healthy
	}
	return found
}
