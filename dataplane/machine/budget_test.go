package machine

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/dataplane/wire"
)

func TestWindowsNarrowAndNeverExceedTheBudget(t *testing.T) {
	limits := Limits{WindowBytes: 8 << 20, WindowBudgetBytes: 128 << 20, SessionsMax: 1024}
	b := newBudget(&limits)
	var windows []int64
	var sum int64
	for {
		w, ok := b.grant(0)
		if !ok {
			break
		}
		require.GreaterOrEqual(t, w, int64(WindowMin))
		require.Zero(t, w%WindowMin)
		if n := len(windows); n > 0 {
			require.LessOrEqual(t, w, windows[n-1])
		}
		windows, sum = append(windows, w), sum+w
	}
	require.EqualValues(t, 8<<20, windows[0])
	require.LessOrEqual(t, sum, limits.WindowBudgetBytes)
	require.Greater(t, len(windows), 280)
	// 64 writers at once get on, and take little more than half of it.
	var first int64
	for _, w := range windows[:64] {
		first += w
	}
	require.Less(t, first, int64(80<<20))
	for _, w := range windows {
		b.release(w)
	}
	require.Zero(t, b.granted.Load())
	require.Zero(t, b.sessions.Load())
}

func TestAWindowIsNoWiderThanItCanBeUsed(t *testing.T) {
	o := wire.OpenWrite{ChunkSize: 64 << 20}
	require.EqualValues(t, 64<<20, windowWish(&o))
	o.SizeHint = 300_000
	require.EqualValues(t, 512<<10, windowWish(&o))
	o.WindowBytes = 100_000
	require.EqualValues(t, 100_000, windowWish(&o)) // granted is never below windowMin
	o = wire.OpenWrite{ChunkSize: 1 << 20, Offset: 1 << 20}
	require.EqualValues(t, wire.WindowCostMin, windowWish(&o))
}
