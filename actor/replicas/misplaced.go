package replicas

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
)

// misplaced is a replica that is not in its place: unknown, open, stale or bad.
type misplaced struct {
	node       datanode.Index
	state      chunk.State
	generation chunk.Generation
	length     int64
	since      time.Duration // since when it is known as it is
	verdict    verdict
	settled    bool   // it is in quarantine, and was made good since: of no interest any more
	vouched    bool   // a writer or a recovery says so, its node has not yet
	report     uint64 // the node's last full report that listed it
}

// unusable reports whether it is corrupt, or may be.
func (m *misplaced) unusable() bool { return m.verdict != unverified || m.state == chunk.Corrupt }

// describe says what is wrong with it, given the generation that is wanted.
func (m *misplaced) describe(wanted chunk.Generation) string {
	switch {
	case m.verdict == suspect:
		return "bad, as a reader says; its datanode verifies it"
	case m.verdict == bad:
		return "unreadable"
	case m.state == chunk.Corrupt:
		return "corrupt, in quarantine"
	case m.generation != wanted:
		return fmt.Sprintf("of generation %d, not %d", m.generation, wanted)
	}
	return fmt.Sprintf("%s, %d bytes: not what is wanted", m.state, m.length)
}

type misplacedTable struct {
	byChunk  map[chunk.ID][]misplaced
	byNode   []int            // how many, by node index
	unusable map[chunk.ID]int // how many are, and are not settled, of chunks that have some
}

func (t *misplacedTable) addNode() { t.byNode = append(t.byNode, 0) }

// of returns the misplaced replicas of a chunk; valid until the next change.
func (t *misplacedTable) of(id chunk.ID) []misplaced { return t.byChunk[id] }

// find returns a node's misplaced replica of a chunk, nil if there is none; valid
// until the next change of the chunk's misplaced replicas.
func (t *misplacedTable) find(id chunk.ID, node datanode.Index) *misplaced {
	replicas := t.byChunk[id]
	for i := range replicas {
		if replicas[i].node == node {
			return &replicas[i]
		}
	}
	return nil
}

// set notes a misplaced replica and reports whether that is news. If it is known as it is, its age stays.
func (t *misplacedTable) set(id chunk.ID, replica misplaced) bool {
	old := t.find(id, replica.node)
	switch {
	case old == nil && t.byNode[replica.node] >= misplacedPerNodeMax:
		return false
	case old == nil:
		t.byNode[replica.node]++
		t.byChunk[id] = append(t.byChunk[id], replica)
	case old.state == replica.state && old.generation == replica.generation &&
		(old.verdict != unverified) == (replica.verdict != unverified):
		old.length, old.report, old.vouched = replica.length, replica.report, old.vouched && replica.vouched
		return false
	default:
		t.countUnusable(id, old, -1)
		*old = replica
	}
	t.countUnusable(id, &replica, 1)
	return true
}

func (t *misplacedTable) countUnusable(id chunk.ID, m *misplaced, by int) {
	if !m.unusable() || m.settled {
		return
	}
	if t.unusable[id] += by; t.unusable[id] == 0 {
		delete(t.unusable, id)
	}
}

func count(yes bool) uint64 {
	if yes {
		return 1
	}
	return 0
}

// withUnusable yields the chunks that have unusable replicas which are not settled, in no order.
func (t *misplacedTable) withUnusable() iter.Seq[chunk.ID] { return maps.Keys(t.unusable) }

// settle notes that a chunk is whole without its replicas that are in quarantine.
func (t *misplacedTable) settle(id chunk.ID) {
	if t.unusable[id] == 0 {
		return
	}
	replicas := t.byChunk[id]
	for i := range replicas {
		if m := &replicas[i]; m.state == chunk.Corrupt && !m.settled {
			t.countUnusable(id, m, -1)
			m.settled = true
		}
	}
}

// count is the number of all.
func (t *misplacedTable) count() (all uint64) {
	for _, of := range t.byNode {
		all += uint64(of)
	}
	return all
}

func (t *misplacedTable) remove(id chunk.ID, node datanode.Index) {
	replicas := t.byChunk[id]
	i := slices.IndexFunc(replicas, func(m misplaced) bool { return m.node == node })
	if i < 0 {
		return
	}
	t.countUnusable(id, &replicas[i], -1)
	t.byNode[node]--
	if len(replicas) == 1 {
		delete(t.byChunk, id)
		return
	}
	t.byChunk[id] = slices.Delete(replicas, i, i+1)
}

// unlisted lists the chunks of which a node has a misplaced replica that a report did not list, by id.
func (t *misplacedTable) unlisted(node datanode.Index, report uint64) (gone []chunk.ID) {
	for id, replicas := range t.byChunk {
		for i := range replicas {
			if replicas[i].node == node && replicas[i].report != report {
				gone = append(gone, id)
			}
		}
	}
	slices.SortFunc(gone, compareIDs)
	return gone
}

// chunks lists the chunks with misplaced replicas, by id.
func (t *misplacedTable) chunks() []chunk.ID {
	return slices.SortedFunc(maps.Keys(t.byChunk), compareIDs)
}

func compareIDs(a, b chunk.ID) int { return slices.Compare(a[:], b[:]) }
