package namenode

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/actor"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/fault"
)

// Clients go on, each mutation with its own sequence until it is answered,
// while the log breaks again and again and keeps some of what was in flight.
// Every mutation happens exactly once, and a restart shows the same.
func TestEveryMutationHappensOnceThoughTheLogBreaks(t *testing.T) {
	log := newFakeLog()
	options := Options{Log: log, BatchesInFlight: 2}
	cluster := startCluster(t, 0, options)
	const workers, each = 8, 100
	var group sync.WaitGroup
	failures := make(chan error, workers)
	for w := range workers {
		group.Go(func() {
			client := dial(t, cluster.server.Addr())
			failures <- work(t, client, w, each)
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		group.Wait()
	}()
	random := rand.New(rand.NewPCG(1, 2))
	for range 25 {
		require.Eventually(t, func() bool { return cluster.server.Active() == nil }, patience, time.Millisecond)
		log.hold()
		select {
		case <-log.appended: // maybe an old signal: then nothing is in flight
		case <-done:
		}
		log.fail(fault.New(fault.Unavailable, "append", "broken"), random.IntN(3))
	}
	<-done
	for range workers {
		require.NoError(t, <-failures)
	}
	require.Eventually(t, func() bool { return cluster.server.Active() == nil }, patience, time.Millisecond)
	var want []string
	for w := range workers {
		// Each was made, renamed and its predecessor removed: the last is left.
		want = append(want, fmt.Sprintf("%d-%d-renamed", w, each-1))
	}
	slices.Sort(want)
	require.Equal(t, want, cluster.client.names("/", 3))
	closeServer(t, cluster.server)
	log.mu.Lock()
	records := log.mu.records
	log.mu.Unlock()
	state, err := actor.New(testConfig())
	require.NoError(t, err)
	for i, r := range records {
		require.NoError(t, state.Replay(uint64(i+1), r))
	}
	s := ready(t, startServer(t, options))
	require.Equal(t, want, dial(t, s.Addr()).names("/", 0))
}

// work makes, renames and removes directories; each step fails if it happens
// twice.
func work(t *testing.T, client *testClient, worker, each int) error {
	retry := func(what string, call func() error) error {
		deadline := time.Now().Add(patience)
		for {
			err := faultOf(call())
			if err == nil {
				return nil
			}
			if fault.ClassOf(err) != fault.Retryable || time.Now().After(deadline) {
				return fmt.Errorf("%s: %w", what, err)
			}
		}
	}
	previous := ""
	for i := range each {
		name := fmt.Sprintf("/%d-%d", worker, i)
		ctx := contextOf(t)
		mkdir := &controlpb.MkdirRequest{Header: client.header(), Path: name}
		if err := retry(name, func() error { _, err := client.Mkdir(ctx, mkdir); return err }); err != nil {
			return err
		}
		move := &controlpb.RenameRequest{Header: client.header(), Source: name, Target: name + "-renamed"}
		if err := retry("rename "+name, func() error { _, err := client.Rename(ctx, move); return err }); err != nil {
			return err
		}
		if previous != "" {
			remove := &controlpb.RemoveRequest{Header: client.header(), Path: previous}
			if err := retry("remove "+previous,
				func() error { _, err := client.Remove(ctx, remove); return err }); err != nil {
				return err
			}
		}
		previous = name + "-renamed"
	}
	return nil
}

// An order to delete leaves only when the record that removed the file is
// durable, stamped with a txid that covers it.
func TestDeletionIsOrderedAfterItsRecordIsDurable(t *testing.T) {
	log := newFakeLog()
	cluster := startCluster(t, 0, Options{Log: log})
	stream := connect(t, cluster.server.Addr()).register(someNode())
	stream.registered()
	stream.say(&controlpb.DatanodeMessage{Body: &controlpb.DatanodeMessage_Report{
		Report: &controlpb.ChunkReport{ReportId: 1, Last: true}}})
	cluster.live(1)
	ctx := contextOf(t)
	created, err := cluster.client.Create(ctx, &controlpb.CreateRequest{Header: cluster.client.header(), Path: "/f",
		Replication: 1, ChunkCount: 1, VisibleOnComplete: true, ClientName: "test"})
	require.NoError(t, faultOf(err))
	located := created.Chunks[0]
	_, err = cluster.client.Complete(ctx, &controlpb.CompleteRequest{Header: cluster.client.header(),
		FileId: created.Info.FileId, Commits: []*controlpb.ChunkCommit{
			{ChunkId: located.ChunkId, Generation: located.Generation, Length: 10, NodeIds: []string{"node-1"}}}})
	require.NoError(t, faultOf(err))
	stream.say(&controlpb.DatanodeMessage{Body: &controlpb.DatanodeMessage_Delta{
		Delta: &controlpb.ChunkDelta{Stored: []*controlpb.ReplicaReport{
			{ChunkId: located.ChunkId, Generation: located.Generation, Length: 10,
				State: controlpb.ReplicaState_REPLICA_STATE_SEALED}}}}})

	log.hold()
	before := uint64(log.length())
	removal := async(func() error {
		_, err := cluster.client.Remove(ctx, &controlpb.RemoveRequest{Header: cluster.client.header(), Path: "/f"})
		return faultOf(err)
	})
	require.Eventually(t, func() bool { return log.waits() > 0 }, patience, time.Millisecond)
	stream.beat()
	for {
		m, err := stream.Recv()
		require.NoError(t, faultOf(err))
		require.Nil(t, m.GetDeleteReplicas(), "ordered before it is durable")
		require.LessOrEqual(t, m.Txid, before)
		if m.GetHeartbeatReply() != nil {
			break
		}
	}
	log.release()
	require.NoError(t, result(t, removal))
	for {
		m, err := stream.Recv()
		require.NoError(t, faultOf(err))
		if order := m.GetDeleteReplicas(); order != nil {
			require.Len(t, order.Replicas, 1)
			require.Equal(t, located.ChunkId, order.Replicas[0].ChunkId)
			require.Greater(t, m.Txid, before)
			return
		}
	}
}
