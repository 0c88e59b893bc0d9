package agent

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// fakeStore is a chunk store in memory.
type fakeStore struct {
	events *Events
	mu     struct {
		sync.Mutex
		identity datanode.Identity
		replicas map[chunk.ID]chunk.Replica
		deleted  []chunk.Replica
		verified error // what VerifyReplica finds
	}
	hangs     map[chunk.ID]chan struct{} // replicas on a disk that hangs until it is closed
	oneVolume bool                       // that of all replicas; else each is on one of its own
}

// touch waits while the disk of a replica hangs.
func (s *fakeStore) touch(id chunk.ID) {
	if held := s.hangs[id]; held != nil {
		<-held
	}
}

func newFakeStore(events *Events) *fakeStore {
	s := &fakeStore{events: events}
	s.mu.identity = datanode.Identity{NodeID: "node-1"}
	s.mu.replicas = make(map[chunk.ID]chunk.Replica)
	return s
}

func (s *fakeStore) Identity() datanode.Identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.identity
}

func (s *fakeStore) Join(cluster string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.identity.ClusterID != "" && s.mu.identity.ClusterID != cluster {
		return fault.New(fault.Invalid, "join", "belongs to %s", s.mu.identity.ClusterID)
	}
	s.mu.identity.ClusterID = cluster
	return nil
}

func (s *fakeStore) ObserveEpoch(epoch, txid uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if epoch < s.mu.identity.HighestEpoch {
		return fault.New(fault.Fenced, "observe epoch", "%d", epoch)
	}
	s.mu.identity.HighestEpoch = epoch
	s.mu.identity.HighestTxid = max(s.mu.identity.HighestTxid, txid)
	return nil
}

func (s *fakeStore) Volumes() []datanode.VolumeState {
	return []datanode.VolumeState{{ID: "volume-1", Directory: "/disk", CapacityBytes: 1 << 30, FreeBytes: 1 << 29,
		Replicas: uint64(len(s.Replicas())), Healthy: true}}
}

// VolumeOf has each chunk on a volume of its own.
func (s *fakeStore) VolumeOf(id chunk.ID) string {
	if s.oneVolume {
		return "volume"
	}
	return id.String()
}

func (s *fakeStore) Replicas() []chunk.Replica {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]chunk.Replica, 0, len(s.mu.replicas))
	for _, r := range s.mu.replicas {
		out = append(out, r)
	}
	return out
}

func (s *fakeStore) put(r chunk.Replica) {
	s.mu.Lock()
	s.mu.replicas[r.ID] = r
	s.mu.Unlock()
	s.events.Stored(r)
}

func (s *fakeStore) Announce(id chunk.ID, generation chunk.Generation) {
	s.touch(id)
	s.mu.Lock()
	replica, ok := s.mu.replicas[id]
	s.mu.Unlock()
	if ok {
		s.events.Stored(replica)
		return
	}
	s.events.Removed(chunk.Replica{ID: id, Generation: generation})
}

func (s *fakeStore) VerifyReplica(id chunk.ID) error {
	s.touch(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.verified
}

func (s *fakeStore) Delete(id chunk.ID, generation chunk.Generation) error {
	s.touch(id)
	s.mu.Lock()
	replica, ok := s.mu.replicas[id]
	switch {
	case !ok:
		s.mu.Unlock()
		return fault.New(fault.NotFound, "delete", "no such replica")
	case replica.Generation != generation:
		s.mu.Unlock()
		return fault.New(fault.StaleGeneration, "delete", "at generation %d", replica.Generation)
	}
	delete(s.mu.replicas, id)
	s.mu.deleted = append(s.mu.deleted, replica)
	s.mu.Unlock()
	s.events.Removed(replica)
	return nil
}

// has tells whether the replica is there.
func (s *fakeStore) has(id chunk.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.mu.replicas[id]
	return ok
}

func testID(n int) chunk.ID {
	return chunk.NewID(uint64(n)+1, [10]byte{9: byte(n), 8: byte(n >> 8), 7: byte(n >> 16)})
}

func sealed(n int) chunk.Replica {
	return chunk.Replica{ID: testID(n), Generation: 1, Length: int64(n), State: chunk.Sealed}
}

// fakeNamenode hands every stream to the test and keeps it open until the test
// ends it.
type fakeNamenode struct {
	controlpb.UnimplementedDatanodeControlServer
	t       *testing.T
	address string
	server  *rpc.Server
	served  chan struct{}
	streams chan *fakeStream
}

type fakeStream struct {
	t        *testing.T
	stream   controlpb.DatanodeControl_ConnectServer
	messages chan *controlpb.DatanodeMessage
	end      chan error
	over     chan struct{} // closed when the agent's side is gone
}

func startNamenode(t *testing.T, address string) *fakeNamenode {
	t.Helper()
	listener, err := rpc.Listen(address)
	require.NoError(t, err)
	n := &fakeNamenode{t: t, address: listener.Addr().String(), server: rpc.NewServer(rpc.ServerOptions{}),
		served: make(chan struct{}), streams: make(chan *fakeStream, 16)}
	controlpb.RegisterDatanodeControlServer(n.server, n)
	go func() {
		defer close(n.served)
		_ = n.server.Serve(listener)
	}()
	t.Cleanup(n.stop)
	return n
}

func (n *fakeNamenode) stop() {
	n.server.Stop()
	<-n.served
}

func (n *fakeNamenode) Connect(stream controlpb.DatanodeControl_ConnectServer) error {
	fake := &fakeStream{t: n.t, stream: stream, messages: make(chan *controlpb.DatanodeMessage, 1<<16),
		end: make(chan error, 1), over: make(chan struct{})}
	go func() {
		defer close(fake.over)
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			fake.messages <- m
		}
	}()
	n.streams <- fake
	select {
	case err := <-fake.end:
		return err
	case <-stream.Context().Done():
		return nil
	}
}

// accept waits for the next stream and its Register.
func (n *fakeNamenode) accept() (*fakeStream, *controlpb.Register) {
	n.t.Helper()
	select {
	case s := <-n.streams:
		m := s.next()
		require.NotNil(n.t, m.GetRegister(), "first message: %v", m)
		return s, m.GetRegister()
	case <-time.After(patience):
		require.FailNow(n.t, "no datanode came")
		return nil, nil
	}
}

func (s *fakeStream) next() *controlpb.DatanodeMessage {
	s.t.Helper()
	select {
	case m := <-s.messages:
		return m
	case <-time.After(patience):
		require.FailNow(s.t, "no message came")
		return nil
	}
}

// await returns the next message that take accepts and drops those before it.
func (s *fakeStream) await(take func(*controlpb.DatanodeMessage) bool) *controlpb.DatanodeMessage {
	s.t.Helper()
	for {
		if m := s.next(); take(m) {
			return m
		}
	}
}

func (s *fakeStream) gone() {
	s.t.Helper()
	select {
	case <-s.over:
	case <-time.After(patience):
		require.FailNow(s.t, "the stream was not cut")
	}
}

func (s *fakeStream) send(m *controlpb.NamenodeMessage) {
	s.t.Helper()
	require.NoError(s.t, s.stream.Send(m))
}

func (s *fakeStream) welcome(epoch, txid uint64) {
	s.t.Helper()
	s.send(welcomeMessage("cluster-1", epoch, txid))
	s.send(&controlpb.NamenodeMessage{Epoch: epoch, Txid: txid,
		Body: &controlpb.NamenodeMessage_SendReport{SendReport: &controlpb.SendReport{}}})
}

func welcomeMessage(cluster string, epoch, txid uint64) *controlpb.NamenodeMessage {
	return &controlpb.NamenodeMessage{Epoch: epoch, Txid: txid, Body: &controlpb.NamenodeMessage_Registered{
		Registered: &controlpb.Registered{ClusterId: cluster, HeartbeatIntervalMs: 20, ReportIntervalMs: 3_600_000}}}
}

func deleteMessage(epoch, txid uint64, replicas ...chunk.Replica) *controlpb.NamenodeMessage {
	order := &controlpb.DeleteReplicas{}
	for _, r := range replicas {
		order.Replicas = append(order.Replicas, replicaToProto(r))
	}
	return &controlpb.NamenodeMessage{Epoch: epoch, Txid: txid,
		Body: &controlpb.NamenodeMessage_DeleteReplicas{DeleteReplicas: order}}
}

// report collects the pages of the next full report, in order.
func (s *fakeStream) report() []*controlpb.ReplicaReport {
	s.t.Helper()
	var out []*controlpb.ReplicaReport
	for page := uint32(0); ; page++ {
		m := s.await(func(m *controlpb.DatanodeMessage) bool {
			require.Nil(s.t, m.GetDelta(), "a change came inside a report")
			return m.GetReport() != nil
		})
		require.Equal(s.t, page, m.GetReport().Page)
		require.LessOrEqual(s.t, len(m.GetReport().Replicas), pageReplicas)
		out = append(out, m.GetReport().Replicas...)
		if m.GetReport().Last {
			return out
		}
	}
}

func startAgent(t *testing.T, store *fakeStore, change func(*Options), namenodes ...string) *Agent {
	t.Helper()
	o := Options{Namenodes: namenodes, Address: "127.0.0.1:7720", Version: "test", Store: store, Events: store.events,
		Clock: clock.Real{}, Logger: slog.New(
			slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if change != nil {
		change(&o)
	}
	a, err := Start(o)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, a.Close(ctx))
	})
	return a
}

// testLog writes log lines to the test; the agent ends before the test does.
type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(string(p[:len(p)-1]))
	return len(p), nil
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, patience, time.Millisecond, what)
}
