package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/bench/cluster"
	"github.com/whispering-woods/ww/client"
)

// TestASlowDatanodeGetsNoNewChunks: a datanode that stands still 45 ms of 50 is named by the namenode, and a client
// that has never met it gets chunks on the others only.
func TestASlowDatanodeGetsNoNewChunks(t *testing.T) {
	if os.Getenv("E2E_SLOW") != "1" {
		t.Skip("takes half a minute: make slow")
	}
	system := start(t, cluster.Options{})
	h := &hungCluster{t: t, Cluster: system, ctx: patient(t, 3*time.Minute)}
	stop := system.Datanodes[3].SlowDown()
	defer func() { require.NoError(t, stop()) }()

	ctx, cancel := context.WithCancel(h.ctx)
	var writers sync.WaitGroup
	for writer := range 4 {
		user := h.dial()
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				_ = storeSmall(ctx, user, fmt.Sprintf("/load-%d-%d", writer, i)) // it ends in the middle
			}
			_ = user.Close()
		})
	}
	var named client.NodeStatus
	require.NoError(t, cluster.Poll(h.ctx, func() error {
		status, err := h.Client().ClusterStatus(h.ctx)
		require.NoError(t, err)
		at := slices.IndexFunc(status.Nodes, func(n client.NodeStatus) bool { return h.DatanodeAt(n.Address) == 3 })
		if named = status.Nodes[at]; named.SlowReason == "" {
			return errors.New("the slow datanode is not named yet")
		}
		return nil
	}))
	cancel()
	writers.Wait()
	require.Equal(t, "slow", named.State)
	t.Log(named.SlowReason)

	user := h.dial()
	defer func() { require.NoError(t, user.Close()) }()
	for i := range 20 {
		path := fmt.Sprintf("/new-%d", i)
		require.NoError(t, storeSmall(h.ctx, user, path))
		chunks, err := user.Locate(h.ctx, path, 0, 0)
		require.NoError(t, err)
		require.Len(t, chunks[0].Replicas, 3)
		for _, r := range chunks[0].Replicas {
			require.NotEqual(t, 3, h.DatanodeAt(r.Address), path)
		}
	}
}

func storeSmall(ctx context.Context, user *client.Client, path string) error {
	w, err := user.Create(ctx, path, client.CreateOptions{})
	if err != nil {
		return err
	}
	if _, err := w.Write(bytesOf(1, 4<<10)); err != nil {
		return err
	}
	return w.Close()
}
