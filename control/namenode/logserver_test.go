package namenode

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/logserver"
	"github.com/whispering-woods/ww/internal/fault"
)

func startLog(t *testing.T, directory, listen string) *logserver.Server {
	t.Helper()
	s, err := logserver.Start(logserver.Options{Directory: directory, ListenGRPC: listen, SegmentBytes: 1 << 20,
		Logger: testLogger(t)})
	require.NoError(t, err)
	return s
}

func closeLog(t *testing.T, s *logserver.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, s.Close(ctx))
}

// The whole control plane over real gRPC and a real log: what was acknowledged
// is there after a restart of the namenode and of the log server.
func TestRealLogServer(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "log")
	log := startLog(t, directory, "127.0.0.1:0")
	address := log.Addr()
	defer func() { closeLog(t, log) }()
	cluster := startCluster(t, 3, Options{LogServers: []string{address}})
	require.NoError(t, cluster.client.mkdir("/d"))
	info, id := cluster.write("/d/file", 3, 4321)
	var group sync.WaitGroup
	errs := make(chan error, 200)
	for i := range 200 {
		group.Go(func() { errs <- cluster.client.mkdir(fmt.Sprintf("/d/%03d", i)) })
	}
	group.Wait()
	for range 200 {
		require.NoError(t, <-errs)
	}
	before := cluster.client.names("/d", 30)
	require.Len(t, before, 201)
	stats := cluster.server.Stats()
	require.LessOrEqual(t, stats.Batches, stats.Records)

	// The log server goes away and comes back; the namenode replays.
	closeLog(t, log)
	require.Eventually(t, func() bool { return cluster.server.Active() != nil }, patience, time.Millisecond)
	_, err := cluster.client.Stat(contextOf(t), &controlpb.StatRequest{Path: "/d"})
	require.ErrorIs(t, faultOf(err), fault.NotActive)
	log = startLog(t, directory, address)
	require.Eventually(t, func() bool { return cluster.server.Active() == nil }, patience, time.Millisecond)
	cluster.live(3)
	require.Equal(t, before, cluster.client.names("/d", 50))
	located, err := cluster.client.Locate(contextOf(t), &controlpb.LocateRequest{Path: "/d/file"})
	require.NoError(t, faultOf(err))
	require.Equal(t, id[:], located.Chunks[0].ChunkId)
	require.Equal(t, info.FileId, located.Info.FileId)

	// A second namenode takes over.
	other := ready(t, startServer(t, Options{LogServers: []string{address}}))
	err = cluster.client.mkdir("/late")
	require.ErrorIs(t, err, fault.NotActive)
	select {
	case <-cluster.server.Done():
	case <-time.After(patience):
		require.FailNow(t, "the first namenode goes on")
	}
	require.ErrorIs(t, cluster.server.Err(), fault.Fenced)
	require.Equal(t, before, dial(t, other.Addr()).names("/d", 0))
}

// A namenode that only reads learns from the log that it was replaced.
func TestIdleNamenodeLearnsOfItsSuccessor(t *testing.T) {
	log := startLog(t, filepath.Join(t.TempDir(), "log"), "127.0.0.1:0")
	defer closeLog(t, log)
	first := ready(t, startServer(t, Options{LogServers: []string{log.Addr()}}))
	ready(t, startServer(t, Options{LogServers: []string{log.Addr()}}))
	select {
	case <-first.Done():
	case <-time.After(patience):
		require.FailNow(t, "the first namenode goes on")
	}
	require.ErrorIs(t, first.Err(), fault.Fenced)
}
