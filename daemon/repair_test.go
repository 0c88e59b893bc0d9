package daemon

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/daemon/config"
)

// Of four datanodes one is lost: its chunks are copied from the others to the
// one that did not have them, and only then another loss does no harm.
func TestLostReplicasAreCopied(t *testing.T) {
	namenode := startNamespace(t, func(n *config.Namenode) {
		n.ChunkSize, n.DeadAfter, n.RepairGrace = 64<<10, config.Duration(3*time.Second),
			config.Duration(100*time.Millisecond)
	})
	datanodes := make(map[string]*Daemon) // by data address
	for range 4 {
		d, _ := startEmptyDatanode(t, namenode)
		datanodes[d.Address("data")] = d
	}
	user := dialNamenode(t, namenode)
	content := bytes.Repeat([]byte("whispering woods "), 20_000) // six chunks, the last one partial
	w, err := user.Create(t.Context(), "/f", client.CreateOptions{VisibleOnComplete: true, Replication: 3})
	require.NoError(t, err)
	_, err = w.Write(content)
	require.NoError(t, err)
	require.NoError(t, w.Close())

	for range 2 { // one lost node after the other; with two left there is no place for a third copy
		locations, err := user.Locate(t.Context(), "/f", 0, int64(len(content)))
		require.NoError(t, err)
		require.Len(t, locations, 6)
		lost := locations[0].Replicas[0].Address
		stop(t, datanodes[lost])
		delete(datanodes, lost)
		require.Eventually(t, func() bool {
			locations, err := user.Locate(t.Context(), "/f", 0, int64(len(content)))
			if err != nil {
				return false
			}
			for _, at := range locations {
				live := 0
				for _, r := range at.Replicas {
					if datanodes[r.Address] != nil {
						live++
					}
				}
				if live < min(3, len(datanodes)) {
					return false
				}
			}
			return true
		}, 30*time.Second, 20*time.Millisecond)
	}
	// Each of the two that are left has everything.
	r, err := user.Open(t.Context(), "/f")
	require.NoError(t, err)
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.True(t, bytes.Equal(content, got))
}
