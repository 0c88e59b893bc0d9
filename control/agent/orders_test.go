package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
)

func TestDeletesOnlyTheGenerationThatWasOrdered(t *testing.T) {
	store := newFakeStore(NewEvents())
	newer := sealed(2)
	newer.Generation = 2
	store.put(sealed(1))
	store.put(newer)
	n := startNamenode(t, "127.0.0.1:0")
	startAgent(t, store, nil, n.address)
	s, _ := n.accept()
	s.welcome(1, 10)
	s.report()
	s.send(deleteMessage(1, 11, sealed(2), sealed(3), sealed(1)))
	delta := s.await(func(m *controlpb.DatanodeMessage) bool { return m.GetDelta() != nil }).GetDelta()
	require.Len(t, delta.Removed, 1)
	require.False(t, store.has(testID(1)))
	require.True(t, store.has(testID(2)), "a replica at another generation is left alone")
	require.EqualValues(t, 11, store.Identity().HighestTxid, "the txid is written down before the order is carried out")
}

// A datanode that is asked for chunks tells of those that it has, and that it has not the others.
func TestQuestionsAreAnsweredByChanges(t *testing.T) {
	store := newFakeStore(NewEvents())
	store.put(sealed(1))
	n := startNamenode(t, "127.0.0.1:0")
	startAgent(t, store, nil, n.address)
	s, _ := n.accept()
	s.welcome(1, 10)
	s.report()
	s.send(tellMessage(1, 10, sealed(1), sealed(2)))
	var stored, removed []*controlpb.ReplicaReport
	s.await(func(m *controlpb.DatanodeMessage) bool {
		stored, removed = append(stored, m.GetDelta().GetStored()...), append(removed, m.GetDelta().GetRemoved()...)
		return len(stored)+len(removed) == 2
	})
	require.Len(t, stored, 1)
	require.Equal(t, testID(1).String(), idOf(t, stored[0]).String())
	require.Len(t, removed, 1)
	require.Equal(t, testID(2).String(), idOf(t, removed[0]).String())
	require.EqualValues(t, 1, removed[0].Generation)
}

func idOf(t *testing.T, r *controlpb.ReplicaReport) chunk.ID {
	t.Helper()
	id, err := chunk.IDFrom(r.ChunkId)
	require.NoError(t, err)
	return id
}

// Each of these namenodes must not get anything deleted: it is of another
// cluster, of the past, or breaks the protocol.
func TestRefusedNamenodes(t *testing.T) {
	replica := sealed(1)
	for _, test := range []struct {
		name  string
		kind  fault.Kind
		speak func(*fakeStream)
	}{
		{"another cluster", fault.Invalid, func(s *fakeStream) { s.send(welcomeMessage("cluster-2", 9, 100)) }},
		{"lower epoch", fault.Fenced, func(s *fakeStream) { s.welcome(4, 100) }},
		{"a log that ends too early", fault.Fenced, func(s *fakeStream) { s.welcome(9, 99) }},
		{"no cluster", fault.Protocol, func(s *fakeStream) { s.send(welcomeMessage("", 9, 100)) }},
		{"no epoch", fault.Protocol, func(s *fakeStream) { s.welcome(0, 100) }},
		{"an order before the registration", fault.Protocol,
			func(s *fakeStream) { s.send(deleteMessage(9, 100, replica)) }},
		{"registered twice", fault.Protocol, func(s *fakeStream) { s.welcome(9, 100); s.welcome(9, 100) }},
		{"the epoch changes", fault.Protocol, func(s *fakeStream) {
			s.welcome(9,
				100)
			s.send(deleteMessage(10, 100, replica))
		}},
		{"txid goes back", fault.Protocol,
			func(s *fakeStream) { s.welcome(9, 101); s.send(deleteMessage(9, 100, replica)) }},
		{"a bad chunk id", fault.Protocol, func(s *fakeStream) {
			s.welcome(9, 100)
			m := deleteMessage(9, 100, replica)
			m.GetDeleteReplicas().Replicas[0].ChunkId = []byte("short")
			s.send(m)
		}},
		{"no generation", fault.Protocol, func(s *fakeStream) {
			s.welcome(9,
				100)
			s.send(deleteMessage(9, 100, chunk.Replica{ID: replica.ID}))
		}},
		{"a recovery without replicas", fault.Protocol, func(s *fakeStream) {
			s.welcome(9, 100)
			m := recoverMessage(9, 100)
			m.GetRecoverChunk().Replicas = nil
			s.send(m)
		}},
		{"a copy of impossible length", fault.Protocol, func(s *fakeStream) {
			s.welcome(9, 100)
			m := copyMessage(9, 100)
			m.GetCopyReplica().Length = -1
			s.send(m)
		}},
		{"an order to verify without a generation", fault.Protocol, func(s *fakeStream) {
			s.welcome(9, 100)
			s.send(verifyMessage(9, 100, chunk.Replica{ID: replica.ID}))
		}},
		{"refuses us", fault.Invalid, func(s *fakeStream) {
			s.end <- fault.New(fault.Invalid, "register datanode",
				"not you")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			store := newFakeStore(NewEvents())
			store.put(replica)
			store.mu.identity = datanode.Identity{NodeID: "node-1", ClusterID: "cluster-1", HighestEpoch: 5,
				HighestTxid: 100}
			n := startNamenode(t, "127.0.0.1:0")
			a := startAgent(t, store, nil, n.address)
			s, register := n.accept()
			require.EqualValues(t, 5, register.HighestEpoch)
			require.EqualValues(t, 100, register.HighestTxid)
			test.speak(s)
			s.gone()
			eventually(t, "the reason is kept", func() bool { return a.Status()[0].Err != nil })
			require.Equal(t, test.kind, fault.KindOf(a.Status()[0].Err), "%v", a.Status()[0].Err)
			require.True(t, store.has(replica.ID))
		})
	}
}

// A namenode of the past, still connected, orders a deletion after this node
// has seen a higher epoch elsewhere.
func TestOldNamenodeIsFencedByTheNewOne(t *testing.T) {
	store := newFakeStore(NewEvents())
	store.put(sealed(1))
	old, young := startNamenode(t, "127.0.0.1:0"), startNamenode(t, "127.0.0.1:0")
	startAgent(t, store, nil, old.address, young.address)
	first, _ := old.accept()
	first.welcome(5, 50)
	first.report()
	second, _ := young.accept()
	second.welcome(6, 60)
	second.report()
	first.send(deleteMessage(5, 70, sealed(1)))
	first.gone()
	require.True(t, store.has(testID(1)))
}

func recoverMessage(epoch, txid uint64) *controlpb.NamenodeMessage {
	id := testID(1)
	return &controlpb.NamenodeMessage{Epoch: epoch, Txid: txid,
		Body: &controlpb.NamenodeMessage_RecoverChunk{RecoverChunk: &controlpb.RecoverChunk{
			ChunkId: id[:], Generation: 4, MinimumGeneration: 2, Length: -1,
			Replicas: []*controlpb.Replica{{NodeId: "node-1", Address: "a:1"}, {NodeId: "node-2", Address: "b:1"}}}}}
}

func copyMessage(epoch, txid uint64) *controlpb.NamenodeMessage {
	id := testID(1)
	return &controlpb.NamenodeMessage{Epoch: epoch, Txid: txid,
		Body: &controlpb.NamenodeMessage_CopyReplica{CopyReplica: &controlpb.CopyReplica{
			ChunkId: id[:], Generation: 4, Length: 99,
			Sources: []*controlpb.Replica{{NodeId: "node-2", Address: "b:1"}}}}}
}

func tellMessage(epoch, txid uint64, replicas ...chunk.Replica) *controlpb.NamenodeMessage {
	question := &controlpb.TellReplicas{}
	for _, r := range replicas {
		question.Replicas = append(question.Replicas, replicaToProto(r))
	}
	return &controlpb.NamenodeMessage{Epoch: epoch, Txid: txid, Body: &controlpb.NamenodeMessage_TellReplicas{
		TellReplicas: question}}
}

func verifyMessage(epoch, txid uint64, r chunk.Replica) *controlpb.NamenodeMessage {
	return &controlpb.NamenodeMessage{Epoch: epoch, Txid: txid,
		Body: &controlpb.NamenodeMessage_VerifyReplica{VerifyReplica: &controlpb.VerifyReplica{
			ChunkId: r.ID[:], Generation: uint64(r.Generation)}}}
}

type fakeWork struct {
	mu       sync.Mutex
	recovers []datanode.RecoverChunk
	copies   []datanode.CopyReplica
	hold     chan struct{}
	// holdCopies has copies wait for hold too.
	holdCopies bool
	result     *datanode.RecoverResult // nil: two nodes
	err        error
}

func (w *fakeWork) Recover(ctx context.Context, r datanode.RecoverChunk) (datanode.RecoverResult, error) {
	w.mu.Lock()
	w.recovers = append(w.recovers, r)
	w.mu.Unlock()
	select {
	case <-w.hold:
	case <-ctx.Done():
		return datanode.RecoverResult{}, ctx.Err()
	}
	if w.result != nil {
		return *w.result, w.err
	}
	return datanode.RecoverResult{Length: 77, NodeIDs: []string{"node-1", "node-2"}}, w.err
}

func (w *fakeWork) CopyReplica(_ context.Context, r datanode.CopyReplica) ([]string, error) {
	w.mu.Lock()
	w.copies = append(w.copies, r)
	w.mu.Unlock()
	if w.holdCopies {
		<-w.hold
	}
	return []string{"node-9"}, w.err
}

func (w *fakeWork) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.recovers)
}

func (w *fakeWork) copied() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.copies)
}

func TestRecoveryAndCopy(t *testing.T) {
	work := &fakeWork{hold: make(chan struct{})}
	n := startNamenode(t, "127.0.0.1:0")
	startAgent(t, newFakeStore(NewEvents()), func(o *Options) { o.Recoverer, o.Copier = work, work }, n.address)
	s, _ := n.accept()
	s.welcome(1, 1)
	s.send(recoverMessage(1, 2))
	eventually(t, "the recovery runs", func() bool { return work.count() == 1 })
	s.send(recoverMessage(1, 3)) // repeated while the first one runs
	s.send(copyMessage(1, 3))
	copied := s.await(func(m *controlpb.DatanodeMessage) bool { return m.GetCopyResult() != nil }).GetCopyResult()
	require.Empty(t, copied.Error)
	require.Equal(t, []string{"node-9"}, copied.BadSources, "a bad source is told also when another one served")
	require.Equal(t, 1, work.count(), "an order that runs is not carried out twice")
	close(work.hold)
	answer := s.await(func(m *controlpb.DatanodeMessage) bool { return m.GetRecoverResult() != nil })
	result := answer.GetRecoverResult()
	require.EqualValues(t, 77, result.Length)
	require.EqualValues(t, 4, result.Generation)
	require.Equal(t, []string{"node-1", "node-2"}, result.NodeIds)
	require.Empty(t, result.Error)
	require.Equal(t, datanode.RecoverChunk{Chunk: testID(1), Generation: 4, MinimumGeneration: 2, Length: -1,
		Replicas: []chunk.Location{{NodeID: "node-1", Address: "a:1"}, {NodeID: "node-2", Address: "b:1"}}},
		work.recovers[0])
	require.Equal(t, datanode.CopyReplica{Chunk: testID(1), Generation: 4, Length: 99,
		Sources: []chunk.Location{{NodeID: "node-2", Address: "b:1"}}}, work.copies[0])
}

// That nobody holds a replica is an answer, but only with no length.
func TestRecoveryThatFindsNobody(t *testing.T) {
	for length, want := range map[int64]string{0: "", 5: "recovery ended with length 5 on 0 nodes"} {
		work := &fakeWork{hold: make(chan struct{}), result: &datanode.RecoverResult{Length: length}}
		close(work.hold)
		n := startNamenode(t, "127.0.0.1:0")
		startAgent(t, newFakeStore(NewEvents()), func(o *Options) { o.Recoverer = work }, n.address)
		s, _ := n.accept()
		s.welcome(1, 1)
		s.send(recoverMessage(1, 2))
		answer := s.await(func(m *controlpb.DatanodeMessage) bool { return m.GetRecoverResult() != nil })
		result := answer.GetRecoverResult()
		require.Empty(t, result.NodeIds)
		require.Zero(t, result.Length)
		if want == "" {
			require.Empty(t, result.Error)
		} else {
			require.Contains(t, result.Error, want)
		}
	}
}

func TestFailedOrdersAreAnswered(t *testing.T) {
	for _, test := range []struct {
		name string
		work *fakeWork
		want string
	}{{"it fails", &fakeWork{err: errors.New("no source is good")}, "no source is good"},
		{"nobody can", nil, "cannot"}} {
		t.Run(test.name, func(t *testing.T) {
			n := startNamenode(t, "127.0.0.1:0")
			startAgent(t, newFakeStore(NewEvents()), func(o *Options) {
				if test.work != nil {
					test.work.hold = make(chan struct{})
					close(test.work.hold)
					o.Recoverer, o.Copier = test.work, test.work
				}
			}, n.address)
			s, _ := n.accept()
			s.welcome(1, 1)
			s.send(copyMessage(1, 2))
			copied := s.await(func(m *controlpb.DatanodeMessage) bool { return m.GetCopyResult() != nil })
			require.Contains(t, copied.GetCopyResult().Error, test.want)
			s.send(recoverMessage(1, 2))
			recovered := s.await(func(m *controlpb.DatanodeMessage) bool { return m.GetRecoverResult() != nil })
			require.Contains(t, recovered.GetRecoverResult().Error, test.want)
		})
	}
}

// What the store finds is the answer.
func TestVerification(t *testing.T) {
	for name, test := range map[string]struct {
		found error
		bad   bool
	}{
		"good":       {nil, false},
		"corrupt":    {fault.New(fault.CorruptData, "verify replica", "block 3 is not what was written"), true},
		"unreadable": {fault.New(fault.Disk, "verify replica", "input/output error"), true},
		"gone":       {fault.New(fault.NotFound, "verify replica", "no such replica"), false},
		"busy":       {fault.New(fault.Busy, "verify replica", "it is cut again and again"), false},
	} {
		t.Run(name, func(t *testing.T) {
			store := newFakeStore(NewEvents())
			store.mu.verified = test.found
			n := startNamenode(t, "127.0.0.1:0")
			startAgent(t, store, nil, n.address)
			s, _ := n.accept()
			s.welcome(1, 1)
			r := sealed(1)
			s.send(verifyMessage(1, 2, r))
			answer := s.await(func(m *controlpb.DatanodeMessage) bool { return m.GetVerifyResult() != nil })
			result := answer.GetVerifyResult()
			require.Equal(t, r.ID[:], result.ChunkId)
			require.EqualValues(t, r.Generation, result.Generation)
			require.Equal(t, test.bad, result.Bad)
			if test.found == nil {
				require.Empty(t, result.Error)
			} else {
				require.Contains(t, result.Error, test.found.Error())
			}
		})
	}
}

// A disk that hangs holds up what concerns its own replicas.
func TestADiskThatHangsHoldsUpNoOther(t *testing.T) {
	store := newFakeStore(NewEvents())
	held := make(chan struct{})
	store.hangs = map[chunk.ID]chan struct{}{testID(1): held}
	for n := 1; n <= 4; n++ {
		store.put(sealed(n))
	}
	n := startNamenode(t, "127.0.0.1:0")
	startAgent(t, store, nil, n.address)
	t.Cleanup(func() { close(held) }) // before the agent closes
	s, _ := n.accept()
	s.welcome(1, 1)
	s.report()
	s.send(deleteMessage(1, 2, sealed(1), sealed(2)))
	s.send(tellMessage(1, 2, sealed(1)))
	s.send(tellMessage(1, 2, sealed(3)))
	s.send(verifyMessage(1, 2, sealed(1)))
	s.send(verifyMessage(1, 2, sealed(4)))
	deleted, told, verified := false, false, false
	s.await(func(m *controlpb.DatanodeMessage) bool {
		for _, r := range m.GetDelta().GetRemoved() {
			deleted = deleted || idOf(t, r) == testID(2)
		}
		for _, r := range m.GetDelta().GetStored() {
			told = told || idOf(t, r) == testID(3)
		}
		verified = verified || m.GetVerifyResult() != nil
		return deleted && told && verified
	})
	require.True(t, store.has(testID(1)))
}

// A question does not overtake a deletion: its answer would have a replica count that is about to go.
func TestQuestionsWaitForDeletionsBeforeThem(t *testing.T) {
	store := newFakeStore(NewEvents())
	held := make(chan struct{})
	store.hangs, store.oneVolume = map[chunk.ID]chan struct{}{testID(9): held}, true
	for _, n := range []int{1, 4, 9} {
		store.put(sealed(n))
	}
	n := startNamenode(t, "127.0.0.1:0")
	startAgent(t, store, nil, n.address)
	release := sync.OnceFunc(func() { close(held) })
	t.Cleanup(release) // before the agent closes
	s, _ := n.accept()
	s.welcome(1, 1)
	s.report()
	s.send(deleteMessage(1, 2, sealed(9), sealed(1)))
	for range replicaOrdersMax + 1 { // more than can wait, so that the last ones are dropped
		s.send(tellMessage(1, 2, sealed(1)))
	}
	s.send(verifyMessage(1, 2, sealed(4))) // what does not wait for the deletion is over by its answer
	asked := func(r *controlpb.ReplicaReport) bool { return idOf(t, r) == testID(1) }
	early := false
	look := func(m *controlpb.DatanodeMessage) {
		told := append(m.GetDelta().GetStored(), m.GetReport().GetReplicas()...)
		early = early || slices.ContainsFunc(told, asked)
	}
	s.await(func(m *controlpb.DatanodeMessage) bool {
		look(m)
		return m.GetVerifyResult() != nil
	})
	release()
	s.await(func(m *controlpb.DatanodeMessage) bool {
		look(m)
		return slices.ContainsFunc(m.GetDelta().GetRemoved(), asked)
	})
	require.False(t, early, "the answer came before the deletion")
}

// A namenode that takes over gives the orders anew that its predecessor gave, and is answered when they end.
func TestWhoeverGivesAnOrderThatRunsIsAnswered(t *testing.T) {
	work := &fakeWork{hold: make(chan struct{}), holdCopies: true, err: errors.New("no source is good")}
	old, young := startNamenode(t, "127.0.0.1:0"), startNamenode(t, "127.0.0.1:0")
	agent := startAgent(t, newFakeStore(NewEvents()), func(o *Options) { o.Recoverer, o.Copier = work, work },
		old.address, young.address)
	first, _ := old.accept()
	first.welcome(1, 1)
	first.send(recoverMessage(1, 2))
	first.send(copyMessage(1, 2))
	eventually(t, "the orders run", func() bool { return work.count() == 1 && work.copied() == 1 })
	second, _ := young.accept()
	second.welcome(2, 3)
	again := copyMessage(2, 4)
	again.GetCopyReplica().Sources[0].NodeId = "node-3" // another order of sources is the same copy
	second.send(again)
	second.send(recoverMessage(2, 4))
	eventually(t, "both are known to have asked", func() bool {
		agent.workers.mu.Lock()
		defer agent.workers.mu.Unlock()
		both := 0
		for _, asked := range agent.workers.mu.running {
			both += len(asked.by) / 2
		}
		return both == 2
	})
	close(work.hold)
	recovered, copied := false, false
	second.await(func(m *controlpb.DatanodeMessage) bool {
		recovered = recovered || m.GetRecoverResult().GetError() != ""
		copied = copied || m.GetCopyResult().GetError() != ""
		return recovered && copied
	})
	require.Equal(t, 1, work.count(), "no order is carried out twice")
	require.Equal(t, 1, work.copied())
}

// What holders said that were asked is no answer to whoever asks others too: that nobody has the chunk, for example.
func TestARecoveryThatDiffersGetsNoAnswerOfAnother(t *testing.T) {
	l := newLanes[orderTask](t.Context(), nil, 0, 1, nil)
	workers := &workers{}
	workers.mu.running = make(map[runningOrder]*asked)
	one, two := &link{}, &link{}
	order := datanode.RecoverChunk{Chunk: testID(1), Generation: 4, Replicas: []chunk.Location{{NodeID: "node-1"}}}
	running := runningOrder{l, orderKey{order.Chunk, order.Generation}}
	require.True(t, workers.claim(running, order, one))
	more := order
	more.Replicas = append(more.Replicas[:1:1], chunk.Location{NodeID: "node-2"})
	require.False(t, workers.claim(running, more, two))
	require.Equal(t, []*link{one}, workers.mu.running[running].by)
	require.False(t, workers.claim(running, order, two))
	require.False(t, workers.claim(running, order, two))
	require.Equal(t, []*link{one, two}, workers.mu.running[running].by)
}

// Closing while a recovery hangs ends it.
func TestCloseEndsRunningOrders(t *testing.T) {
	work := &fakeWork{hold: make(chan struct{})}
	n := startNamenode(t, "127.0.0.1:0")
	startAgent(t, newFakeStore(NewEvents()), func(o *Options) { o.Recoverer = work }, n.address)
	s, _ := n.accept()
	s.welcome(1, 1)
	s.send(recoverMessage(1, 2))
	eventually(t, "the recovery runs", func() bool { return work.count() == 1 })
}
