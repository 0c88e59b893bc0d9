package pipeline

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
)

// TestTheTimeOutBoundsTheWaitForNodes: in turn there are too few, and one of those that are named does not answer.
// The attempts do not run out; the retry policy ends them, and the error says what was waited for.
func TestTheTimeOutBoundsTheWaitForNodes(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	retry := func(_ int, elapsed time.Duration, _ error) (time.Duration, bool) { return 0, elapsed < time.Minute }
	refused := &sessionError{err: fault.New(fault.Unavailable, "open write", "connection refused"),
		failed: []HopFailure{{Hop: wire.Hop{NodeID: "b"}, Err: fault.New(fault.Unavailable, "open write", "refused")}}}
	var r recovery
	for second := range 60 {
		now := start.Add(time.Duration(second) * time.Second)
		if second%2 == 0 {
			r.awaitNodes(now, fault.New(fault.Unavailable, "write chunk", "2 copies are needed"))
			require.Empty(t, r.excluded(now), "those that failed may come back")
		} else {
			r.note(refused, now)
		}
		_, allowed := r.begin(now, retry)
		require.True(t, allowed, "after %d s", second)
	}
	_, allowed := r.begin(start.Add(time.Minute), retry)
	require.False(t, allowed)
	require.ErrorContains(t, r.exhausted(), "2 copies are needed")

	r.stands()
	for range RecoveriesMax {
		_, allowed = r.begin(start, retry)
		require.True(t, allowed)
	}
	_, allowed = r.begin(start, retry)
	require.False(t, allowed, "without a wait attempts count")
}
