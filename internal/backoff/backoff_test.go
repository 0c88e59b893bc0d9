package backoff_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/backoff"
)

func TestWaitsDoubleUpToTheLongest(t *testing.T) {
	e := backoff.Exponential{First: 100 * time.Millisecond, Max: time.Second}
	for failures, want := range []int{1: 100, 2: 200, 3: 400, 4: 800, 5: 1000, 6: 1000} {
		if failures > 0 {
			require.Equal(t, time.Duration(want)*time.Millisecond, e.After(failures), "%d failures", failures)
		}
	}
	require.Equal(t, time.Second, e.After(math.MaxInt))
}

func TestSpreadStaysAroundTheWait(t *testing.T) {
	for range 1000 {
		require.InDelta(t, time.Second, backoff.Spread(time.Second), float64(time.Second/2))
	}
	require.Zero(t, backoff.Spread(0))
}
