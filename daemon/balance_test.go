package daemon

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/daemon/config"
	"github.com/whispering-woods/ww/internal/fault"
)

// A balance of a cluster whose disks are nearly empty begins, and ends at once; what is stored is counted.
func TestABalanceOfEvenNodesEnds(t *testing.T) {
	namenode := startNamespace(t, func(n *config.Namenode) { n.Replication = 2 })
	for range 2 {
		startEmptyDatanode(t, namenode)
	}
	woods := dialNamenode(t, namenode)
	write(t, woods, "/f", "content")
	wish := client.BalanceWish{Threshold: 5, Bandwidth: 1 << 20}
	planned, err := woods.Balance(t.Context(), client.BalancePlan, wish)
	require.NoError(t, err)
	require.True(t, planned.Even)
	require.Empty(t, planned.Moves)
	require.Equal(t, wish, planned.BalanceWish)
	status, err := woods.Balance(t.Context(), client.BalanceStart, wish)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		status, err = woods.Balance(t.Context(), client.BalanceGet, client.BalanceWish{})
		require.NoError(t, err)
		return !status.Running && len(status.Nodes) == 2
	}, time.Minute, 20*time.Millisecond)
	require.True(t, status.Even)
	require.Contains(t, status.Ended, "every datanode is within 5 of the mean")
	for _, n := range status.Nodes {
		require.Equal(t, int64(len("content")), n.Bytes)
		require.Positive(t, n.CapacityBytes)
	}
	_, err = woods.Balance(t.Context(), client.BalanceStart, client.BalanceWish{})
	require.ErrorIs(t, err, fault.Invalid)
}
