package agent

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
)

// FuzzNamenodeMessage: whatever a namenode sends before or after it was
// accepted, nothing is deleted under a wrong epoch, and every refusal has a
// kind.
func FuzzNamenodeMessage(f *testing.F) {
	for _, message := range []*controlpb.NamenodeMessage{
		welcomeMessage("cluster-1", 5, 100), welcomeMessage("cluster-2", 5, 100), deleteMessage(5, 100, sealed(1)),
		deleteMessage(4, 100, sealed(1)),
		recoverMessage(5, 101), copyMessage(5, 102), verifyMessage(5, 103, sealed(1)),
		{Epoch: 5, Txid: 100, Body: &controlpb.NamenodeMessage_SendReport{SendReport: &controlpb.SendReport{}}},
		{Epoch: 5, Txid: 100, Body: &controlpb.NamenodeMessage_HeartbeatReply{
			HeartbeatReply: &controlpb.HeartbeatReply{Sequence: 3}}},
	} {
		b, err := proto.Marshal(message)
		require.NoError(f, err)
		f.Add(true, b)
		f.Add(false, b)
	}
	f.Fuzz(func(t *testing.T, registered bool, b []byte) {
		var message controlpb.NamenodeMessage
		if proto.Unmarshal(b, &message) != nil {
			return
		}
		store := newFakeStore(NewEvents())
		store.mu.identity = datanode.Identity{NodeID: "node-1", ClusterID: "cluster-1", HighestEpoch: 5,
			HighestTxid: 100}
		o := Options{Store: store, Events: store.events, Clock: clock.Real{}, Logger: slog.New(slog.DiscardHandler)}
		agent := &Agent{options: o, first: make(chan struct{})}
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // the workers end at once: orders stay in their queues, or are thrown away
		var group sync.WaitGroup
		defer group.Wait()
		agent.workers = startWorkers(ctx, &group, o)
		l := &link{agent: agent, address: "fuzz:1", logger: o.Logger, queue: newChangeQueue(8),
			outbox: make(chan *controlpb.DatanodeMessage, outboxMax)}
		r := receiver{session: newSession(l)}
		if registered {
			require.NoError(t, r.onMessage(ctx, welcomeMessage("cluster-1", 5, 100)))
		}
		err := r.onMessage(ctx, &message)
		if err != nil {
			require.NotZero(t, fault.KindOf(err))
		}
		identity := store.Identity()
		require.Equal(t, "cluster-1", identity.ClusterID)
		require.GreaterOrEqual(t, identity.HighestEpoch, uint64(5))
		require.GreaterOrEqual(t, identity.HighestTxid, uint64(100))
		if message.GetDeleteReplicas() != nil && len(agent.workers.replicas.mu.queues) > 0 { // a deletion was queued
			require.True(t, registered)
			require.NoError(t, err)
			require.EqualValues(t, 5, message.Epoch)
			require.GreaterOrEqual(t, message.Txid, uint64(100))
		}
	})
}
