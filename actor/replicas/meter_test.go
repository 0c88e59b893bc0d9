package replicas

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMeterTellsTheRateOfTheLastMinute(t *testing.T) {
	var m meter
	chunks, bytes := m.rate(time.Hour)
	require.Zero(t, chunks+bytes)
	for now := time.Hour; now < time.Hour+10*time.Minute; now += time.Second {
		m.add(now, 1000)
	}
	chunks, bytes = m.rate(time.Hour + 10*time.Minute)
	require.InEpsilon(t, 1, chunks, 0.1)
	require.InEpsilon(t, 1000, bytes, 0.1)
	chunks, _ = m.rate(time.Hour + 12*time.Minute)
	require.Zero(t, chunks, "it is long ago")
	require.Equal(t, Arrivals{Chunks: 600, Bytes: 600_000}, m.total)
}
