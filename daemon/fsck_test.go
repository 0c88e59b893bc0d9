package daemon

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/daemon/config"
)

// What fsck says follows the datanodes: all are there, one is gone, both holders of some chunk are.
func TestFsckTellsWhatTheHoldersConfirmed(t *testing.T) {
	namenode := startNamespace(t, func(n *config.Namenode) {
		n.Replication, n.RepairGrace = 2, config.Duration(time.Hour)
	})
	var nodes []*Daemon
	for range 2 {
		d, _ := startEmptyDatanode(t, namenode)
		nodes = append(nodes, d)
	}
	c := dialNamenode(t, namenode)
	for i := range 5 {
		write(t, c, fmt.Sprint("/f", i), "content")
	}
	await := func(want client.Health) client.TreeHealth {
		var sum client.TreeHealth
		require.Eventually(t, func() bool {
			var found int64
			var err error
			sum, err = c.Fsck(t.Context(), "/", func(f client.FileHealth) error {
				found += int64(len(f.Chunks))
				return nil
			})
			require.NoError(t, err)
			require.Equal(t, int64(5), sum.Files)
			require.Equal(t, sum.ChunksBy[client.Healthy], 5-found)
			status, err := c.ClusterStatus(t.Context())
			require.NoError(t, err)
			return sum.Health == want && status.Health == want
		}, time.Minute, 20*time.Millisecond)
		return sum
	}
	require.Equal(t, int64(5), await(client.Healthy).FilesBy[client.Healthy])
	stop(t, nodes[0])
	require.Equal(t, int64(5), await(client.UnderReplicated).FilesBy[client.UnderReplicated])
	stop(t, nodes[1])
	require.Equal(t, int64(5), await(client.HealthMissing).ChunksBy[client.HealthMissing])
}
