package copier

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/test/fakeclock"
)

func newTestCopier(running, waiting int) (*Copier, *fakeclock.Clock) {
	clock := fakeclock.New(time.Unix(1_800_000_000, 0))
	return New(Options{Clock: clock, RunningMax: running, WaitingMax: waiting}), clock
}

func testID(n byte) chunk.ID { return chunk.NewID(1_700_000_000_000, [10]byte{n}) }

// entered enters on a goroutine of its own, and tells how that ended.
type entered struct {
	release func()
	err     error
	done    bool
}

func (c *Copier) entering(ctx context.Context, id chunk.ID) *entered {
	e := &entered{}
	go func() {
		var this *running
		this, e.err = c.enter(ctx, id)
		e.release = func() { c.leave(id, this) }
		e.done = true
	}()
	return e
}

// So many copies run, so many wait, and the next one is refused; what ends lets one in.
func TestCopiesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newTestCopier(2, 1)
		one, two := c.entering(t.Context(), testID(1)), c.entering(t.Context(), testID(2))
		synctest.Wait()
		require.True(t, one.done && two.done)
		three := c.entering(t.Context(), testID(3))
		synctest.Wait()
		require.False(t, three.done, "two run")
		_, err := c.enter(t.Context(), testID(4))
		require.ErrorIs(t, err, fault.Busy)
		require.EqualValues(t, 3, c.Stats().Pending, "one that is refused does not count")
		one.release()
		synctest.Wait()
		require.True(t, three.done)
		require.NoError(t, three.err)
		two.release()
		three.release()
		require.Zero(t, c.Stats().Pending)
		require.Empty(t, c.mu.running)
	})
}

// Two copies of one chunk would write one replica: the second begins when the first has ended.
func TestCopiesOfOneChunkRunOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newTestCopier(3, 3)
		first := c.entering(t.Context(), testID(1))
		synctest.Wait()
		others := []*entered{c.entering(t.Context(), testID(1)), c.entering(t.Context(), testID(1))}
		other := c.entering(t.Context(), testID(2))
		synctest.Wait()
		require.True(t, other.done, "another chunk's runs beside it")
		require.False(t, others[0].done || others[1].done)
		first.release()
		synctest.Wait()
		require.NotEqual(t, others[0].done, others[1].done, "again one at a time")
		last := others[1]
		if others[1].done {
			last = others[0]
			others[1].release()
		} else {
			others[0].release()
		}
		synctest.Wait()
		require.True(t, last.done)
		last.release()
		other.release()
		require.Empty(t, c.mu.running)
	})
}

// Who gives up while it waits leaves nothing behind, whatever it waited for.
func TestCopyIsGivenUpBeforeItBegins(t *testing.T) {
	for name, id := range map[string]chunk.ID{"for the same chunk": testID(1), "for a slot": testID(2)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, _ := newTestCopier(1, 2)
				first := c.entering(t.Context(), testID(1))
				synctest.Wait()
				ctx, cancel := context.WithCancel(t.Context())
				waiting := c.entering(ctx, id)
				synctest.Wait()
				require.False(t, waiting.done)
				cancel()
				synctest.Wait()
				require.ErrorIs(t, waiting.err, fault.Closed)
				require.ErrorIs(t, waiting.err, context.Canceled)
				require.EqualValues(t, 1, c.Stats().Pending)
				first.release()
				again := c.entering(t.Context(), id)
				synctest.Wait()
				require.True(t, again.done)
				require.NoError(t, again.err)
				again.release()
				require.Empty(t, c.mu.running)
			})
		})
	}
}

// A source that was silent is asked last, for a while; the others keep their order. The memory of them is bounded.
func TestSilentSourcesAreAskedLast(t *testing.T) {
	c, clock := newTestCopier(1, 1)
	sources := []wire.Hop{{NodeID: "a", Address: "a:1"}, {NodeID: "b", Address: "b:1"}, {NodeID: "c", Address: "c:1"}}
	order := func() (ids string) {
		for _, source := range c.inOrder(sources) {
			ids += source.NodeID
		}
		return ids
	}
	require.Equal(t, "abc", order())
	c.noteSilent(sources[0])
	require.Equal(t, "bca", order())
	clock.Advance(silentFor - time.Second)
	c.noteSilent(sources[1])
	require.Equal(t, "cab", order())
	clock.Advance(time.Second)
	require.Equal(t, "acb", order())
	for i := range 3 * silentMax {
		c.noteSilent(wire.Hop{Address: strconv.Itoa(i)})
		require.LessOrEqual(t, len(c.mu.silent), silentMax)
	}
}

// Only who waits for the disk says how far that is.
func TestProgressTellsOfTheDiskOnly(t *testing.T) {
	var p Progress
	p.taken.Store(5)
	require.Zero(t, p.Told())
	p.waits.Store(true)
	require.EqualValues(t, 6, p.Told())
	p.taken.Store(0)
	require.EqualValues(t, 1, p.Told(), "a disk that took nothing yet is waited for, too")
}
