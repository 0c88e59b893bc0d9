package daemon

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/daemon/config"
	"github.com/whispering-woods/ww/internal/fault"
)

// A file whose second copy has no place to go is explained, by its path and by the chunk.
func TestWhyNamesWhatBlocksACopy(t *testing.T) {
	namenode := startNamespace(t, func(n *config.Namenode) {
		n.Replication, n.RepairGrace, n.RepairStreams = 2, config.Duration(time.Millisecond), 7
	})
	var nodes []*Daemon
	for range 2 {
		d, _ := startEmptyDatanode(t, namenode)
		nodes = append(nodes, d)
	}
	c := dialNamenode(t, namenode)
	write(t, c, "/f", "content")
	stop(t, nodes[0])
	var reason client.ChunkReason
	require.Eventually(t, func() bool {
		explained := 0
		chunks, err := c.Why(t.Context(), "/f", func(r client.ChunkReason) error {
			explained, reason = explained+1, r
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, int64(1), chunks)
		return explained == 1 && reason.Blocked != ""
	}, time.Minute, 20*time.Millisecond)
	require.Equal(t, client.UnderReplicated, reason.Health)
	require.Contains(t, reason.Blocked, "needs a datanode without a replica and with 7 bytes free")
	require.Len(t, reason.Copies, 2)
	require.Positive(t, reason.Lacking)
	again, err := c.WhyChunk(t.Context(), reason.Chunk)
	require.NoError(t, err)
	require.Equal(t, reason.Copies[0].NodeID, again.Copies[0].NodeID)
	require.Equal(t, reason.FileID, again.FileID)

	bound := int64(1 << 20)
	repair, err := c.Repair(t.Context(), client.RepairLimits{NodeStreams: 3, Bandwidth: &bound})
	require.NoError(t, err)
	require.Equal(t, client.RepairLimits{Streams: 7, NodeStreams: 3, Bandwidth: &bound}, repair.Limits)
	require.Equal(t, []client.RepairDanger{{Copies: 1, Chunks: 1}}, repair.Queue)
	require.Equal(t, int64(1), repair.Waiting)
	require.Len(t, repair.Reasons, 1)
	require.True(t, repair.Reasons[0].Blocked)
	require.Equal(t, reason.Chunk, repair.Reasons[0].Example)
	require.Contains(t, repair.Reasons[0].Text, "needs a datanode without a replica")
	_, err = c.Repair(t.Context(), client.RepairLimits{Bandwidth: new(int64(1))})
	require.ErrorIs(t, err, fault.Invalid)
}
