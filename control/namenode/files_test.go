package namenode

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// A retry of a removal that went to the trash hears where it is.
func TestRemovalToTheTrashIsRepeated(t *testing.T) {
	config := testConfig()
	config.TrashExpiry = time.Hour
	cluster := startCluster(t, 3, Options{Log: newFakeLog(), Actor: config})
	require.NoError(t, cluster.client.mkdir("/d"))
	request := &controlpb.RemoveRequest{Header: cluster.client.header(), Path: "/d", ToTrash: true, User: "ann"}
	for range 2 {
		removed, err := cluster.client.Remove(contextOf(t), request)
		require.NoError(t, faultOf(err))
		require.True(t, removed.Trashed)
		require.True(t, strings.HasPrefix(removed.TrashPath, "/.trash/ann/"))
	}
	request.Header, request.User = cluster.client.header(), "a/b"
	_, err := cluster.client.Remove(contextOf(t), request)
	require.Error(t, err)
	require.Equal(t, []string{".trash"}, cluster.client.names("/", 0))
}

func TestLifeOfAFile(t *testing.T) {
	cluster := startCluster(t, 3, Options{Log: newFakeLog()})
	ctx := contextOf(t)
	require.NoError(t, cluster.client.mkdir("/dir"))
	info, id := cluster.write("/dir/file", 3, 1234)
	require.EqualValues(t, 1234, info.Length)
	require.Equal(t, "file", info.Name)

	located, err := cluster.client.Locate(ctx, &controlpb.LocateRequest{Path: "/dir/file"})
	require.NoError(t, faultOf(err))
	require.Len(t, located.Chunks, 1)
	require.Equal(t, id[:], located.Chunks[0].ChunkId)
	require.Len(t, located.Chunks[0].Replicas, 3)
	require.Contains(t, located.Chunks[0].Replicas[0].Address, "127.0.0.1:1")

	summary, err := cluster.client.Summary(ctx, &controlpb.SummaryRequest{Path: "/"})
	require.NoError(t, faultOf(err))
	require.EqualValues(t, 1, summary.Files)
	require.EqualValues(t, 1234, summary.Bytes)
	require.EqualValues(t, 3*1234, summary.StoredBytes)

	_, err = cluster.client.Rename(ctx, &controlpb.RenameRequest{Header: cluster.client.header(), Source: "/dir/file",
		Target: "/moved"})
	require.NoError(t, faultOf(err))
	require.Equal(t, []string{"dir", "moved"}, cluster.client.names("/", 0))
	_, err = cluster.client.Stat(ctx, &controlpb.StatRequest{Path: "/dir/file"})
	require.ErrorIs(t, faultOf(err), fault.NotFound)

	reopened, err := cluster.client.Append(ctx,
		&controlpb.AppendRequest{Header: cluster.client.header(), Path: "/moved", ClientName: "test"})
	require.NoError(t, faultOf(err))
	require.NotNil(t, reopened.Last)
	require.Equal(t, reopened.PreviousGeneration+1, reopened.Last.Generation)
	commit := &controlpb.ChunkCommit{ChunkId: id[:], Generation: reopened.Last.Generation, Length: 2000}
	for _, r := range reopened.Last.Replicas {
		cluster.nodes[r.NodeId].put(chunk.Replica{ID: id, Generation: chunk.Generation(reopened.Last.Generation),
			Length: 2000, State: chunk.Sealed})
		commit.NodeIds = append(commit.NodeIds, r.NodeId)
	}
	_, err = cluster.client.AddChunks(ctx, &controlpb.AddChunksRequest{Header: cluster.client.header(),
		FileId: info.FileId, FirstIndex: 1, Commits: []*controlpb.ChunkCommit{commit}})
	require.NoError(t, faultOf(err))
	done, err := cluster.client.Complete(ctx,
		&controlpb.CompleteRequest{Header: cluster.client.header(), FileId: info.FileId})
	require.NoError(t, faultOf(err))
	require.EqualValues(t, 2000, done.Info.Length)

	removed, err := cluster.client.Remove(ctx,
		&controlpb.RemoveRequest{Header: cluster.client.header(), Path: "/moved"})
	require.NoError(t, faultOf(err))
	require.EqualValues(t, 1, removed.Files)
	require.Eventually(t, func() bool {
		for _, n := range cluster.nodes {
			if n.has(id) {
				return false
			}
		}
		return true
	}, patience, 5*time.Millisecond, "the replicas are deleted")
	require.Equal(t, []string{"dir"}, cluster.client.names("/", 0))
}

func TestTooFewNodesAreNamed(t *testing.T) {
	c := startCluster(t, 1, Options{Log: newFakeLog()})
	_, err := c.client.Create(contextOf(t),
		&controlpb.CreateRequest{Header: c.client.header(), Path: "/f", Replication: 3, ChunkCount: 1,
			ClientName: "test"})
	err = faultOf(err)
	require.ErrorIs(t, err, fault.TooFewNodes)
	require.Contains(t, err.Error(), "1 is live")
}

// After a restart mutations are refused until the replicas are reported;
// reads work at once.
func TestSafeModeEndsWithTheReports(t *testing.T) {
	log := newFakeLog()
	before := startCluster(t, 2, Options{Log: log})
	_, id := before.write("/file", 2, 77)
	for _, n := range before.nodes {
		n.close(t)
	}
	closeServer(t, before.server)

	server := ready(t, startServer(t, Options{Log: log}))
	client := dial(t, server.Addr())
	err := client.mkdir("/d")
	require.ErrorIs(t, err, fault.SafeMode)
	stat, err := client.Stat(contextOf(t), &controlpb.StatRequest{Path: "/file"})
	require.NoError(t, faultOf(err))
	require.EqualValues(t, 77, stat.Info.Length)
	mode, err := client.SafeMode(contextOf(t),
		&controlpb.SafeModeRequest{Action: controlpb.SafeModeAction_SAFE_MODE_ACTION_GET})
	require.NoError(t, faultOf(err))
	require.True(t, mode.On)
	require.NotEmpty(t, mode.Reason)

	for _, n := range before.nodes {
		n.start(t, server.Addr())
	}
	after := &cluster{t: t, server: server, client: client, nodes: before.nodes}
	after.live(2)
	require.NoError(t, client.mkdir("/d"))
	require.Eventually(t, func() bool {
		located, err := client.Locate(contextOf(t), &controlpb.LocateRequest{Path: "/file"})
		return err == nil && len(located.Chunks) == 1 && len(located.Chunks[0].Replicas) == 2
	}, patience, time.Millisecond)
	for _, n := range before.nodes {
		require.True(t, n.has(id))
	}
}
