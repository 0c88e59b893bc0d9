package dataplane

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestConnectionsAreNoMoreThanDescriptorsAllow(t *testing.T) {
	for descriptors, want := range map[uint64]int{
		0: connectionsMin, descriptorsReserved: connectionsMin, 1024: (1024 - descriptorsReserved) / 4,
		4096: (4096 - descriptorsReserved) / 4, 65_536: 4096, math.MaxUint64: 4096,
	} {
		l, err := Limits{}.withDefaults()
		require.NoError(t, err)
		require.Equal(t, want < 4096, l.fitDescriptors(descriptors), "%d descriptors", descriptors)
		require.Equal(t, want, l.ConnectionsMax, "%d descriptors", descriptors)
	}
	few := Limits{ConnectionsMax: 3}
	require.False(t, few.fitDescriptors(10), "what is asked for is never raised")
	require.Equal(t, 3, few.ConnectionsMax)
}

// The sum is that of the comment, and follows what can be configured.
func TestMemoryMax(t *testing.T) {
	l, err := Limits{Loops: 2}.withDefaults()
	require.NoError(t, err)
	require.EqualValues(t, 130<<20+(32+64+48+96+8)<<20+32<<10, l.memoryMax())
	before := l.memoryMax()
	l.WindowBudgetBytes += 64 << 20
	require.EqualValues(t, 65<<20, l.memoryMax()-before)
	before = l.memoryMax()
	l.ConnectionsMax += 1024
	require.EqualValues(t, 24<<20, l.memoryMax()-before)
}
