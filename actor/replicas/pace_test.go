package replicas

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// In any span of time no more begins than the bound allows for it and a second, and one copy.
func TestPaceHoldsItsBound(t *testing.T) {
	const bound, size = 1 << 20, 300 << 10
	var p pace
	require.True(t, p.ready(0), "no bound")
	p.set(bound)
	var begun []time.Duration
	for now := time.Hour; now < time.Hour+5*time.Minute; now += 50 * time.Millisecond {
		if idle := now % time.Minute; idle < 20*time.Second {
			continue // what is not used then is lost, but for a second's worth
		}
		for p.ready(now) {
			p.take(now, size)
			begun = append(begun, now)
		}
	}
	for i, from := range begun {
		for j, to := range begun[i:] {
			require.LessOrEqual(t, float64((j+1)*size), bound*(to-from+paceCredit).Seconds()+size, "%v to %v", from, to)
		}
	}
	require.InEpsilon(t, bound*5*40, len(begun)*size, 0.05, "the bound is used")
}
