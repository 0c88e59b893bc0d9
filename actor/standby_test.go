package actor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
)

// TestAStandbyTakesOver: a standby that follows the log and hears the datanodes
// serves at once, but deletes nothing before every node reported to it anew.
func TestAStandbyTakesOver(t *testing.T) {
	h := newHarness(t, Config{DefaultReplication: 2, DefaultChunkSize: 1 << 16})
	h.start(4)
	c := h.write(1, "/f", 1<<16, 10)[0]
	removed := h.write(1, "/gone", 1<<16, 10)[0]
	nodes := []string{"a", "b", "c", "d"}

	standby := h.fresh()
	for i, r := range h.log {
		require.NoError(t, standby.Replay(uint64(i+1), r))
	}
	active := h.s
	h.s, h.slow = standby, true // talk to the standby
	for _, id := range nodes {
		require.Nil(t, h.register(id).Reply.Err)
		require.Nil(t, h.report(id, sealedReplica(c.Chunk, 1, 10), sealedReplica(removed.Chunk, 1, 10),
			sealedReplica(testID(9), 1, 1)).Reply.Err)
	}
	for _, id := range nodes {
		require.Empty(t, deletions(h.pass(time.Minute, nodes...)), "a standby orders nothing, %s", id)
	}
	require.Equal(t, fault.NotActive, h.as(1, &Mkdir{Path: "/x"}).Reply.Err.Kind)
	require.Len(t, read[LocateResult](h, &Locate{Path: "/f"}).Chunks[0].Replicas, 4)

	// The active one removes a file; the standby hears of it by the log.
	h.s = active
	ok[RemoveResult](h, 1, &Remove{Path: "/gone"})
	h.s = standby
	require.NoError(t, standby.Replay(standby.Txid()+1, h.log[len(h.log)-1]))
	require.NoError(t, standby.check())

	h.slow = false
	h.follower = h.fresh()
	for i, r := range h.log {
		require.NoError(t, h.follower.Replay(uint64(i+1), r))
	}
	e := h.own(&BecomeActive{Epoch: 2})
	require.Nil(t, e.Reply.Err)
	require.Len(t, bodies[datanode.SendReport](e.Messages), 4)
	require.Empty(t, deletions(e.Messages))
	require.False(t, h.s.replicas.SafeMode.On(), "every chunk is located")
	require.Nil(t, h.as(1, &Mkdir{Path: "/x"}).Reply.Err)
	require.Empty(t, deletions(h.pass(10*time.Minute, nodes...)))

	for _, id := range nodes {
		h.report(id, sealedReplica(c.Chunk, 1, 10), sealedReplica(removed.Chunk, 1, 10), sealedReplica(testID(9), 1, 1))
	}
	surplus := h.pass(time.Second, nodes...)
	require.Len(t, deletions(surplus), 2, "two of four replicas are too many")
	rest := deletions(h.pass(6*time.Minute, nodes...))
	for _, id := range nodes {
		require.Contains(t, rest, id+" "+removed.Chunk.String()+"@1")
		require.Contains(t, rest, id+" "+testID(9).String()+"@1")
	}
	require.Len(t, read[LocateResult](h, &Locate{Path: "/f"}).Chunks[0].Replicas, 2)
}

// TestAnEmptyNamenodeDeletesNothing: a namenode whose log was lost is refused by
// nodes that have seen more, and deletes nothing of what unknowing ones report
// while the grace lasts.
func TestAnEmptyNamenodeDeletesNothing(t *testing.T) {
	h := newHarness(t, Config{})
	h.start(0)
	e := h.own(&RegisterNode{Session: 1, NodeID: "a", Address: "a:1", ClusterID: "cluster-1", HighestEpoch: 1,
		HighestTxid: 500, DurableTxid: h.s.Txid(), Volumes: volumes()})
	require.Equal(t, fault.Fenced, e.Reply.Err.Kind)
	h.register("a")
	replicas := make([]chunk.Replica, 100)
	for i := range replicas {
		replicas[i] = sealedReplica(testID(byte(i)), 1, 10)
	}
	h.report("a", replicas...)
	require.Empty(t, deletions(h.pass(h.s.config.DeleteGrace-time.Second, "a")))
}

// A datanode that is forgotten while it talks to a standby is known again as soon as that one is active: it is there.
func TestAForgottenNodeOfAStandbyIsRemembered(t *testing.T) {
	h := newHarness(t, Config{DefaultReplication: 2, DefaultChunkSize: 1 << 16})
	h.start(3)
	active, standby := h.s, h.fresh()
	for i, r := range h.log {
		require.NoError(t, standby.Replay(uint64(i+1), r))
	}
	session := h.sessions["c"]
	h.s, h.slow = standby, true // talk to the standby
	require.Nil(t, h.register("c").Reply.Err)
	onStandby := h.sessions["c"]
	h.s, h.slow = active, false
	h.pass(10*time.Second, "a", "b") // the active one hears nothing of it
	require.Nil(t, h.own(&SetDuty{NodeID: "c", Duty: datanode.DutyForgotten}).Reply.Err)
	beat := func(number uint64) *fault.Error {
		return h.own(&Heartbeat{NodeID: "c", Session: number, Volumes: volumes()}).Reply.Err
	}
	require.Equal(t, fault.Closed, beat(session).Kind, "it must register anew")

	h.s, h.slow = standby, true
	require.NoError(t, standby.Replay(standby.Txid()+1, h.log[len(h.log)-1]))
	require.NoError(t, standby.check())
	require.Equal(t, fault.Closed, beat(onStandby).Kind)
	require.Nil(t, h.register("c").Reply.Err, "a standby writes no record")
	require.Len(t, read[ClusterStatusResult](h, &ClusterStatus{}).Nodes, 2)
	e := h.own(&BecomeActive{Epoch: 2})
	require.Nil(t, e.Reply.Err)
	require.Len(t, e.Records, 2)
	require.NoError(t, h.s.check())
	require.Len(t, read[ClusterStatusResult](h, &ClusterStatus{}).Nodes, 3)
	require.Nil(t, beat(h.sessions["c"]))
}
