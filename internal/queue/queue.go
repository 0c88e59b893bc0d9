// Package queue provides a first-in, first-out queue that reuses its memory. It
// runs no goroutine, takes no lock and has no bound: its owner has them.
package queue

// compactFrom is how many items are popped before the rest may be moved to the front. Moving waits for half of the
// items besides, so a pop costs O(1) on average, and the memory stays below twice the longest queue.
const compactFrom = 64

// FIFO is a queue; its zero value is empty. One goroutine at a time may use it.
type FIFO[T any] struct {
	items []T
	first int // items[:first] are popped and zero
}

// Len is the number of items.
func (q *FIFO[T]) Len() int { return len(q.items) - q.first }

// Push appends an item.
func (q *FIFO[T]) Push(item T) { q.items = append(q.items, item) }

// At returns the item at a position, 0 the oldest. It panics at Len and beyond;
// the pointer is valid until the next Push or Pop.
func (q *FIFO[T]) At(position int) *T { return &q.items[q.first+position] }

// Pop removes and returns the oldest item. It panics on an empty queue.
func (q *FIFO[T]) Pop() T {
	var zero T
	item := q.items[q.first]
	q.items[q.first] = zero
	q.first++
	switch {
	case q.first == len(q.items):
		q.items, q.first = q.items[:0], 0
	case q.first >= compactFrom && q.first*2 >= len(q.items):
		count := copy(q.items, q.items[q.first:])
		clear(q.items[count:])
		q.items, q.first = q.items[:count], 0
	}
	return item
}
