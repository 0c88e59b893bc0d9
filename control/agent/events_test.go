package agent

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/whispering-woods/ww/internal/chunk"
)

// Whatever happens, a namenode that took a snapshot after reset, and then the
// changes, or a new snapshot when they are incomplete, sees what the store has.
func TestChangesConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := NewEvents()
		queue := events.subscribe(4)
		store, view := map[chunk.ID]chunk.Replica{}, map[chunk.ID]chunk.Replica{}
		synchronize := func(most int) {
			changes, complete := queue.drain(most)
			if !complete {
				require.Empty(t, changes)
				queue.reset()
				view = map[chunk.ID]chunk.Replica{}
				for id, r := range store {
					view[id] = r
				}
				return
			}
			for _, c := range changes {
				if c.removed {
					delete(view, c.replica.ID)
				} else {
					view[c.replica.ID] = c.replica
				}
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			r := chunk.Replica{ID: testID(rapid.IntRange(0, 7).Draw(t, "chunk")),
				Generation: chunk.Generation(rapid.IntRange(1, 3).Draw(t, "generation"))}
			switch rapid.IntRange(0, 5).Draw(t, "action") {
			case 0, 1, 2:
				store[r.ID] = r
				events.Stored(r)
			case 3:
				delete(store, r.ID)
				events.Removed(r)
			case 4:
				synchronize(rapid.IntRange(1, 3).Draw(t, "most"))
			case 5:
				queue.stop()
			}
			require.LessOrEqual(t, len(queue.mu.order), 4)
			require.Equal(t, len(queue.mu.order), len(queue.mu.latest))
		}
		for range 10 {
			synchronize(2)
		}
		require.Equal(t, store, view)
	})
}

func TestWakeAfterPartialTake(t *testing.T) {
	queue := newChangeQueue(8)
	queue.reset()
	for i := range 3 {
		queue.put(change{replica: sealed(i)})
	}
	<-queue.wake
	changes, complete := queue.drain(2)
	require.True(t, complete)
	require.Len(t, changes, 2)
	<-queue.wake
	changes, _ = queue.drain(2)
	require.Len(t, changes, 1)
	require.Empty(t, queue.wake)
}

func TestUnsubscribedQueueHearsNothing(t *testing.T) {
	events := NewEvents()
	q := events.subscribe(8)
	q.reset()
	events.unsubscribe(q)
	events.Stored(sealed(1))
	changes, complete := q.drain(8)
	require.True(t, complete)
	require.Empty(t, changes)
}
