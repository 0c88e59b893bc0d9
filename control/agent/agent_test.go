package agent

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/lateness"
	"github.com/whispering-woods/ww/test/fakeclock"
)

func TestRegistersReportsAndTellsChanges(t *testing.T) {
	store := newFakeStore(NewEvents())
	const count = 2*pageReplicas + 17
	for i := range count {
		store.put(sealed(i))
	}
	n := startNamenode(t, "127.0.0.1:0")
	agent := startAgent(t, store, func(o *Options) {
		o.Load = func() datanode.Load {
			return datanode.Load{ActiveWrites: 3, QueuedDiskOps: 7, GrantedWindowBytes: 9, Links: []datanode.Link{
				{NodeID: "other", Acks: lateness.Sample{Operations: 5, Late: 7 * time.Millisecond}}}}
		}
	}, n.address)

	stream, register := n.accept()
	require.Equal(t, "node-1", register.NodeId)
	require.Equal(t, "127.0.0.1:7720", register.Address)
	require.Equal(t, "/default", register.Rack)
	require.Empty(t, register.ClusterId)
	require.Len(t, register.Volumes, 1)
	stream.welcome(5, 42)

	require.Len(t, stream.report(), count)
	<-agent.Registered()
	require.Equal(t, datanode.Identity{NodeID: "node-1", ClusterID: "cluster-1", HighestEpoch: 5, HighestTxid: 42},
		store.Identity())

	beat := stream.await(func(m *controlpb.DatanodeMessage) bool { return m.GetHeartbeat() != nil }).GetHeartbeat()
	require.EqualValues(t, 3, beat.Load.ActiveWrites)
	require.EqualValues(t, 7, beat.Load.QueuedDiskOps)
	require.EqualValues(t, 9, beat.Load.GrantedWindowBytes)
	require.Len(t, beat.Load.Links, 1)
	require.Equal(t, "other", beat.Load.Links[0].NodeId)
	require.EqualValues(t, 5, beat.Load.Links[0].Acks.Operations)
	require.EqualValues(t, 7000, beat.Load.Links[0].Acks.LateUs)
	next := stream.await(func(m *controlpb.DatanodeMessage) bool { return m.GetHeartbeat() != nil }).GetHeartbeat()
	require.Equal(t, beat.Sequence+1, next.Sequence)

	opened := chunk.Replica{ID: testID(count), Generation: 1, State: chunk.Open}
	store.put(opened)
	require.NoError(t, store.Delete(testID(1), 1))
	var stored, removed []*controlpb.ReplicaReport
	for len(stored) == 0 || len(removed) == 0 {
		delta := stream.await(func(m *controlpb.DatanodeMessage) bool { return m.GetDelta() != nil }).GetDelta()
		stored, removed = append(stored, delta.Stored...), append(removed, delta.Removed...)
	}
	require.Equal(t, opened.ID[:], stored[0].ChunkId)
	require.Equal(t, controlpb.ReplicaState_REPLICA_STATE_OPEN, stored[0].State)
	id := testID(1)
	require.Equal(t, id[:], removed[0].ChunkId)

	stream.send(&controlpb.NamenodeMessage{Epoch: 5, Txid: 43,
		Body: &controlpb.NamenodeMessage_SendReport{SendReport: &controlpb.SendReport{}}})
	require.Len(t, stream.report(), count)
	eventually(t, "two reports", func() bool { return agent.Status()[0].Reports == 2 })
}

func TestEmptyNodeReportsOnePage(t *testing.T) {
	n := startNamenode(t, "127.0.0.1:0")
	startAgent(t, newFakeStore(NewEvents()), nil, n.address)
	s, _ := n.accept()
	s.welcome(1, 1)
	require.Empty(t, s.report())
}

func TestReconnectsAndReportsAgain(t *testing.T) {
	store := newFakeStore(NewEvents())
	n := startNamenode(t, "127.0.0.1:0")
	a := startAgent(t, store, nil, n.address)
	stream, _ := n.accept()
	stream.welcome(1, 1)
	stream.report()
	n.stop()
	eventually(t, "the stream's end is seen", func() bool { return !a.Status()[0].Registered })
	store.put(sealed(1)) // nobody hears of this one

	n = startNamenode(t, n.address)
	stream, register := n.accept()
	require.Equal(t, "cluster-1", register.ClusterId)
	require.EqualValues(t, 1, register.HighestEpoch)
	stream.welcome(2, 7)
	require.Len(t, stream.report(), 1)
	require.EqualValues(t, 2, store.Identity().HighestEpoch)
}

func TestTwoNamenodesHearTheSame(t *testing.T) {
	store := newFakeStore(NewEvents())
	one, two := startNamenode(t, "127.0.0.1:0"), startNamenode(t, "127.0.0.1:0")
	startAgent(t, store, nil, one.address, two.address)
	first, _ := one.accept()
	first.welcome(3, 10)
	first.report()
	second, _ := two.accept()
	second.welcome(3, 10)
	second.report()
	store.put(sealed(1))
	for _, s := range []*fakeStream{first, second} {
		delta := s.await(func(m *controlpb.DatanodeMessage) bool { return m.GetDelta() != nil }).GetDelta()
		require.Len(t, delta.Stored, 1)
	}
}

// The first change is told at once, those that follow it together.
func TestChangesGather(t *testing.T) {
	fake := fakeclock.New(time.Unix(1, 0))
	store := newFakeStore(NewEvents())
	n := startNamenode(t, "127.0.0.1:0")
	startAgent(t, store, func(o *Options) { o.Clock = fake }, n.address)
	s, _ := n.accept()
	s.welcome(1, 1)
	s.report()
	delta := func() *controlpb.ChunkDelta {
		return s.await(func(m *controlpb.DatanodeMessage) bool { return m.GetDelta() != nil }).GetDelta()
	}
	store.put(sealed(1))
	require.Len(t, delta().Stored, 1)
	for range 2 {
		store.put(sealed(2))
		store.put(sealed(3))
		store.put(sealed(4))
		fake.Advance(changesInterval)
		require.Len(t, delta().Stored, 3)
	}
}

// A namenode that falls silent, with its connection up, is left.
func TestSilentNamenodeIsLeft(t *testing.T) {
	fake := fakeclock.New(time.Unix(1, 0))
	n := startNamenode(t, "127.0.0.1:0")
	startAgent(t, newFakeStore(NewEvents()), func(o *Options) { o.Clock = fake }, n.address)
	s, _ := n.accept()
	s.welcome(1, 1)
	s.report()
	cut := func() bool {
		select {
		case <-s.over:
			return true
		default:
			fake.Advance(time.Second)
			return false
		}
	}
	eventually(t, "the stream is cut", cut)
}

func TestUnansweredRegistrationIsGivenUp(t *testing.T) {
	fake := fakeclock.New(time.Unix(1, 0))
	n := startNamenode(t, "127.0.0.1:0")
	a := startAgent(t, newFakeStore(NewEvents()), func(o *Options) { o.Clock = fake }, n.address)
	s, _ := n.accept()
	fake.Advance(registerTimeout)
	s.gone()
	eventually(t, "the reason is kept", func() bool { return fault.KindOf(a.Status()[0].Err) == fault.Unavailable })
}

func TestStartRefusesBadOptions(t *testing.T) {
	store := newFakeStore(NewEvents())
	good := Options{Namenodes: []string{"127.0.0.1:1"}, Address: "127.0.0.1:2", Store: store, Events: store.events}
	for name, change := range map[string]func(*Options){
		"no namenode":  func(o *Options) { o.Namenodes = nil },
		"bad namenode": func(o *Options) { o.Namenodes = []string{"127.0.0.1"} },
		"no address":   func(o *Options) { o.Address = "" },
		"no store":     func(o *Options) { o.Store = nil },
		"no events":    func(o *Options) { o.Events = nil },
	} {
		t.Run(name, func(t *testing.T) {
			o := good
			change(&o)
			_, err := Start(o)
			require.ErrorIs(t, err, fault.Invalid)
		})
	}
}
