package queue_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/queue"
)

func TestItemsComeOutInTheirOrder(t *testing.T) {
	var q queue.FIFO[int]
	pushed, popped := 0, 0
	// Longer than what is moved to the front at once, never quite empty, and
	// then drained.
	for round := range 1000 {
		for range 1 + round%7 {
			q.Push(pushed)
			pushed++
		}
		for range round % 7 {
			require.Equal(t, popped, *q.At(0))
			require.Equal(t, popped, q.Pop())
			popped++
		}
		require.Equal(t, pushed-popped, q.Len())
		require.Equal(t, pushed-1, *q.At(q.Len() - 1))
	}
	for q.Len() > 0 {
		require.Equal(t, popped, q.Pop())
		popped++
	}
	require.Equal(t, pushed, popped)
	require.Panics(t, func() { q.Pop() })
}

func TestAQueueThatNeverEmptiesReusesItsMemory(t *testing.T) {
	var q queue.FIFO[*int]
	q.Push(new(int))
	require.Zero(t, testing.AllocsPerRun(10, func() {
		for range 10_000 {
			q.Push(nil)
			q.Pop()
		}
	}))
}
