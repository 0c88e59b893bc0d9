package daemon

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/daemon/config"
)

// A client calls replicas bad. Those that are good are locations again as soon
// as their nodes have verified them; a corrupt one goes into quarantine and is
// replaced, here on its own node, as there is no other.
func TestCalledBadReplicasAreVerified(t *testing.T) {
	namenode := startNamespace(t, func(n *config.Namenode) { n.RepairGrace = config.Duration(100 * time.Millisecond) })
	disks := make(map[string]string) // by data address
	for range 3 {
		d, disk := startEmptyDatanode(t, namenode)
		disks[d.Address("data")] = disk
	}
	user := dialNamenode(t, namenode)
	connection, err := rpc.Dial(namenode.Address("grpc"))
	require.NoError(t, err)
	defer func() { require.NoError(t, connection.Close()) }()
	stub := controlpb.NewNamenodeClient(connection)

	content := bytes.Repeat([]byte("whispering woods "), 20_000)
	w, err := user.Create(t.Context(), "/f", client.CreateOptions{VisibleOnComplete: true, Replication: 3})
	require.NoError(t, err)
	_, err = w.Write(content)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	located := func() client.ChunkLocation {
		locations, err := user.Locate(t.Context(), "/f", 0, -1)
		require.NoError(t, err)
		require.Len(t, locations, 1)
		return locations[0]
	}
	call := func(at client.ChunkLocation, bad client.Replica) {
		_, err := stub.ReportBadReplica(t.Context(), &controlpb.ReportBadReplicaRequest{ChunkId: at.ID[:],
			Generation: uint64(at.Generation), NodeId: bad.NodeID, Reason: "the test says so"})
		require.NoError(t, err)
	}
	whole := func() bool { return len(located().Replicas) == 3 }
	at := located()
	require.Len(t, at.Replicas, 3)

	for _, r := range at.Replicas {
		call(at, r)
	}
	require.Eventually(t, whole, 20*time.Second, time.Millisecond, "all of them are good")

	file := func(r client.Replica) string {
		found, err := filepath.Glob(filepath.Join(disks[r.Address], "chunks", "*", at.ID.String()+"_*"))
		require.NoError(t, err)
		require.Len(t, found, 1)
		return found[0]
	}
	parked := func(r client.Replica) int {
		found, err := filepath.Glob(filepath.Join(disks[r.Address], "quarantine", "*"+at.ID.String()+"*"))
		require.NoError(t, err)
		return len(found)
	}
	corrupt := at.Replicas[0]
	name := file(corrupt)
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte{b[len(b)-100_000] ^ 1}, int64(len(b)-100_000))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.Zero(t, parked(corrupt))
	call(at, corrupt)
	require.Eventually(t, func() bool { return parked(corrupt) == 1 && whole() }, 20*time.Second, 5*time.Millisecond,
		"the corrupt one is in quarantine, and replaced")

	r, err := user.Open(t.Context(), "/f")
	require.NoError(t, err)
	defer r.Close()
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, got))
}
