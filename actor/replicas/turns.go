package replicas

import (
	"slices"
	"time"

	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/queue"
)

// turns says which nodes report in full now. A thousand nodes that register at once would put a page each into the
// mailbox: seconds of work, behind which every heartbeat waits, until live nodes are taken for dead. So reportsAtOnce
// nodes are asked at a time, in the order in which they registered.
type turns struct {
	room   *Replicas
	queue  queue.FIFO[datanode.Index]
	queued bitset[datanode.Index] // the nodes in queue whose turn comes
	given  []turn                 // at most reportsAtOnce
}

// turn is that of a node that was asked.
type turn struct {
	node  datanode.Index
	until time.Duration // it has sent nothing for too long then
}

// want has a node asked for a full report when its turn comes.
func (t *turns) want(node datanode.Index) {
	t.end(node)
	if !t.queued.has(node) {
		t.queued.set(node)
		t.queue.Push(node)
	}
}

// heard notes that a page of a node's report came, asked for or not.
func (t *turns) heard(node datanode.Index) {
	t.queued.unset(node)
	for i := range t.given {
		if t.given[i].node == node {
			t.given[i].until = t.room.step.Mono + reportPatience
		}
	}
}

// end gives a node's turn to the next one.
func (t *turns) end(node datanode.Index) {
	t.given = slices.DeleteFunc(t.given, func(given turn) bool { return given.node == node })
}

// expire has nodes that send no report, although they are there, asked again behind the others.
func (t *turns) expire() {
	for _, given := range slices.Clone(t.given) {
		if given.until <= t.room.step.Mono {
			t.want(given.node)
		}
	}
}

// give asks the next nodes that are there. One that is not registers again, and is asked then.
func (t *turns) give() {
	for len(t.given) < reportsAtOnce && t.queue.Len() > 0 {
		node := t.queue.Pop()
		if n := t.room.Nodes.at(node); t.queued.has(node) && n.attached() {
			t.given = append(t.given, turn{node: node, until: t.room.step.Mono + reportPatience})
			t.room.step.Send(n.id, &datanode.SendReport{})
		}
		t.queued.unset(node)
	}
}
