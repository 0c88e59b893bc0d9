package leases

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEveryRecoveryGetsItsTurn: files that are due at every tick, because nothing comes of them, do not keep the others
// from theirs.
func TestEveryRecoveryGetsItsTurn(t *testing.T) {
	var l Leases
	for file := uint64(1); file <= 5; file++ {
		l.recoveries.Set(file, &Recovery{})
	}
	require.Equal(t, []uint64{1, 2}, l.DueRecoveries(1, 2))
	require.Equal(t, []uint64{3, 4}, l.DueRecoveries(1, 2))
	require.Equal(t, []uint64{5}, l.DueRecoveries(1, 2))
	require.Equal(t, []uint64{1, 2, 3, 4, 5}, l.DueRecoveries(1, 5))
	require.Equal(t, []uint64{1, 2, 3, 4, 5}, l.DueRecoveries(1, 9))
}
