package agent

import (
	"slices"
	"sync"

	"github.com/whispering-woods/ww/internal/chunk"
)

// Events passes the chunk store's changes on to every namenode's stream. It
// exists before store and agent do: the store's callback feeds it, the agent
// subscribes to it. Safe for concurrent use; no method blocks beyond a short mutex.
type Events struct {
	mu struct {
		sync.Mutex
		queues []*changeQueue
	}
}

// NewEvents makes an Events without subscribers.
func NewEvents() *Events { return &Events{} }

// Stored notes that a replica exists or changed: opened, sealed, found corrupt, or at another generation.
func (e *Events) Stored(r chunk.Replica) { e.put(change{replica: r}) }

// Removed notes that a replica is gone.
func (e *Events) Removed(r chunk.Replica) { e.put(change{replica: r, removed: true}) }

func (e *Events) put(change change) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, q := range e.mu.queues {
		q.put(change)
	}
}

func (e *Events) subscribe(capacity int) *changeQueue {
	q := newChangeQueue(capacity)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mu.queues = append(e.mu.queues, q)
	return q
}

func (e *Events) unsubscribe(q *changeQueue) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mu.queues = slices.DeleteFunc(e.mu.queues, func(other *changeQueue) bool { return other == q })
}

// change is the latest state of one chunk.
type change struct {
	replica chunk.Replica
	removed bool
}

// changeQueue holds the latest change per chunk since reset, in the order of each chunk's first one. After an
// overflow or stop it is incomplete: it holds nothing and accepts nothing until the next reset.
type changeQueue struct {
	capacity int
	wake     chan struct{} // capacity 1: changes wait, or it is incomplete
	mu       struct {
		sync.Mutex
		// len(order) == len(latest) <= capacity; both empty while incomplete.
		order      []chunk.ID
		latest     map[chunk.ID]change
		incomplete bool
	}
}

func newChangeQueue(capacity int) *changeQueue {
	q := &changeQueue{capacity: capacity, wake: make(chan struct{}, 1)}
	q.clearLocked(true)
	return q
}

func (q *changeQueue) put(change change) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.incomplete {
		return
	}
	if _, known := q.mu.latest[change.replica.ID]; !known {
		if len(q.mu.order) == q.capacity {
			q.clearLocked(true)
			signal(q.wake)
			return
		}
		q.mu.order = append(q.mu.order, change.replica.ID)
	}
	q.mu.latest[change.replica.ID] = change
	signal(q.wake)
}

// drain removes and returns up to most changes; complete is false when changes were lost and only a full report helps.
func (q *changeQueue) drain(most int) (changes []change, complete bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.incomplete {
		return nil, false
	}
	n := min(most, len(q.mu.order))
	changes = make([]change, 0, n)
	for _, id := range q.mu.order[:n] {
		changes = append(changes, q.mu.latest[id])
		delete(q.mu.latest, id)
	}
	if n == len(q.mu.order) {
		q.mu.order = nil
	} else {
		q.mu.order = q.mu.order[n:]
		signal(q.wake)
	}
	return changes, true
}

// empty tells whether nothing waits.
func (q *changeQueue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.mu.order) == 0
}

// reset empties the queue and accepts changes from now on. Earlier changes are in
// any snapshot that is made after reset.
func (q *changeQueue) reset() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.clearLocked(false)
}

// stop empties the queue and makes it ignore changes.
func (q *changeQueue) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.clearLocked(true)
}

func (q *changeQueue) clearLocked(incomplete bool) {
	q.mu.order, q.mu.latest, q.mu.incomplete = nil, make(map[chunk.ID]change), incomplete
}

// signal notes in a channel of capacity 1 that there is something to do.
func signal(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}
