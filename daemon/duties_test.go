package daemon

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/daemon/config"
	"github.com/whispering-woods/ww/internal/fault"
)

// Two datanodes of four are decommissioned, one after the other, while a file is being written on them. When they are,
// both are stopped and all that was acknowledged is there in two copies at once: nothing has to be repaired.
func TestADecommissionedDatanodeIsNeededByNothing(t *testing.T) {
	namenode := startNamespace(t, func(n *config.Namenode) {
		n.Replication, n.RepairGrace = 2, config.Duration(100*time.Millisecond)
	})
	nodes := make(map[string]*Daemon)
	for i := range 4 {
		name := fmt.Sprint("dn", i)
		nodes[name], _ = startEmptyDatanode(t, namenode, func(c *config.Datanode) { c.Name = name })
	}
	c := dialNamenode(t, namenode)
	find := func(name string) client.NodeStatus {
		status, err := c.ClusterStatus(t.Context())
		require.NoError(t, err)
		for _, n := range status.Nodes {
			if n.Name == name {
				return n
			}
		}
		t.Fatalf("no datanode is called %s", name)
		return client.NodeStatus{}
	}
	for i := range 20 {
		write(t, c, fmt.Sprint("/f", i), fmt.Sprint("content ", i))
	}
	open, err := c.Create(t.Context(), "/open", client.CreateOptions{})
	require.NoError(t, err)
	_, err = open.Write([]byte("being written"))
	require.NoError(t, err)
	require.NoError(t, open.Sync(t.Context()))
	for _, name := range []string{"dn0", "dn1"} {
		_, err := c.SetNodeDuty(t.Context(), find(name).NodeID, client.NodeDecommission, 0)
		require.NoError(t, err)
	}
	holders, err := c.Locate(t.Context(), "/open", 0, -1)
	require.NoError(t, err)
	for _, r := range holders[0].Replicas {
		if r.NodeID == find("dn0").NodeID || r.NodeID == find("dn1").NodeID {
			require.False(t, find("dn0").DutyDone && find("dn1").DutyDone, "the open chunk is on %s", r.NodeID)
		}
	}
	require.NoError(t, open.Close())
	require.Eventually(t, func() bool { return find("dn0").DutyDone && find("dn1").DutyDone }, time.Minute,
		20*time.Millisecond)
	stop(t, nodes["dn0"])
	stop(t, nodes["dn1"])
	require.Eventually(t, func() bool { return !find("dn0").Live && !find("dn1").Live }, time.Minute,
		20*time.Millisecond)
	status, err := c.ClusterStatus(t.Context())
	require.NoError(t, err)
	require.Zero(t, status.UnderReplicatedChunks)
	require.Zero(t, status.MissingChunks)
	require.Equal(t, "being written", read(t, c, "/open"))
	for i := range 20 {
		path := fmt.Sprint("/f", i)
		require.Equal(t, fmt.Sprint("content ", i), read(t, c, path))
		at, err := c.Locate(t.Context(), path, 0, -1)
		require.NoError(t, err)
		kept := 0
		for _, r := range at[0].Replicas {
			if r.NodeID == find("dn2").NodeID || r.NodeID == find("dn3").NodeID {
				kept++
			}
		}
		require.Equal(t, 2, kept, path)
	}
	back, err := c.SetNodeDuty(t.Context(), find("dn0").NodeID, client.NodeServes, 0)
	require.NoError(t, err)
	require.Equal(t, client.NodeServes, back.Duty)
}

// A dead datanode is forgotten, and when it runs again it is known again, with what it has.
func TestAForgottenDatanodeIsKnownAgainWhenItStarts(t *testing.T) {
	namenode := startNamespace(t, func(n *config.Namenode) {
		n.Replication, n.RepairGrace = 2, config.Duration(100*time.Millisecond)
		n.DeadAfter = config.Duration(4 * time.Second)
	})
	gone, disk := startEmptyDatanode(t, namenode, func(c *config.Datanode) { c.Name = "gone" })
	for range 2 {
		startEmptyDatanode(t, namenode)
	}
	c := dialNamenode(t, namenode)
	write(t, c, "/f", "content")
	nodes := func() []client.NodeStatus {
		status, err := c.ClusterStatus(t.Context())
		require.NoError(t, err)
		return status.Nodes
	}
	id := ""
	for _, n := range nodes() {
		if n.Name == "gone" {
			id = n.NodeID
		}
	}
	forget := func() error {
		_, err := c.SetNodeDuty(t.Context(), id, client.NodeForgotten, 0)
		return err
	}
	require.ErrorIs(t, forget(), fault.Invalid, "it is there")
	stop(t, gone)
	require.Eventually(t, func() bool { return forget() == nil }, time.Minute, 100*time.Millisecond)
	require.Len(t, nodes(), 2)
	require.Equal(t, "content", read(t, c, "/f"))
	startEmptyDatanode(t, namenode, func(c *config.Datanode) { c.Disks = []string{disk} })
	require.Eventually(t, func() bool { return len(nodes()) == 3 }, time.Minute, 20*time.Millisecond)
	require.ErrorIs(t, forget(), fault.Invalid, "it is there again")
	require.Equal(t, "content", read(t, c, "/f"))
}
