package namenode

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/whispering-woods/ww/actor"
	"github.com/whispering-woods/ww/control/agent"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// testConfig makes nodes die late: a starved test machine is not a dead node.
func testConfig() actor.Config {
	return actor.Config{DefaultChunkSize: chunk.ChecksumBlockBytes, StaleAfter: 10 * time.Second,
		DeadAfter: 20 * time.Second, TickInterval: 20 * time.Millisecond, Version: "test"}
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(string(p[:len(p)-1]))
	return len(p), nil
}

func testLogger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

func contextOf(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// startServer starts a namenode that the test closes, at the latest at its end.
func startServer(t *testing.T, options Options) *Server {
	t.Helper()
	if options.Listen == "" {
		options.Listen = "127.0.0.1:0"
	}
	if options.Actor.TickInterval == 0 {
		options.Actor = testConfig()
	}
	if options.HeartbeatInterval == 0 {
		options.HeartbeatInterval = 50 * time.Millisecond
	}
	if options.Logger == nil {
		options.Logger = testLogger(t)
	}
	s, err := Start(options)
	require.NoError(t, err)
	t.Cleanup(func() { closeServer(t, s) })
	return s
}

func closeServer(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, s.Close(ctx))
}

func ready(t *testing.T, s *Server) *Server {
	t.Helper()
	select {
	case <-s.Ready():
	case <-time.After(patience):
		require.FailNow(t, "the namenode did not become active", "%v", s.Active())
	}
	return s
}

// testClient is a client of the Namenode service with its own id.
type testClient struct {
	controlpb.NamenodeClient
	t  *testing.T
	id [16]byte
	mu struct {
		sync.Mutex
		sequence uint64
	}
}

func dial(t *testing.T, address string) *testClient {
	t.Helper()
	connection, err := rpc.Dial(address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = connection.Close() })
	c := &testClient{NamenodeClient: controlpb.NewNamenodeClient(connection), t: t}
	_, err = rand.Read(c.id[:])
	require.NoError(t, err)
	return c
}

func (c *testClient) header() *controlpb.MutationHeader {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.sequence++
	return &controlpb.MutationHeader{ClientId: c.id[:], Sequence: c.mu.sequence, OldestPending: 1}
}

func (c *testClient) mkdir(path string) error {
	_, err := c.Mkdir(contextOf(c.t), &controlpb.MkdirRequest{Header: c.header(), Path: path})
	return faultOf(err)
}

// names lists a directory page by page.
func (c *testClient) names(path string, limit uint32) []string {
	c.t.Helper()
	var out []string
	for after := ""; ; after = out[len(out)-1] {
		page, err := c.List(contextOf(c.t), &controlpb.ListRequest{Path: path, After: after, Limit: limit})
		require.NoError(c.t, faultOf(err))
		for _, e := range page.Entries {
			out = append(out, e.Name)
		}
		if !page.More {
			return out
		}
	}
}

func faultOf(err error) error { return rpc.FromStatus(err, "call", "") }

// testNode is a datanode without bytes: the real agent over a store in memory.
type testNode struct {
	id     string
	events *agent.Events
	agent  *agent.Agent
	mu     struct {
		sync.Mutex
		identity datanode.Identity
		replicas map[chunk.ID]chunk.Replica
	}
}

func newNode(id string) *testNode {
	n := &testNode{id: id, events: agent.NewEvents()}
	n.mu.identity.NodeID = id
	n.mu.replicas = make(map[chunk.ID]chunk.Replica)
	return n
}

// start connects the node; the test closes it at its end.
func (n *testNode) start(t *testing.T, namenodes ...string) *testNode {
	t.Helper()
	a, err := agent.Start(agent.Options{Namenodes: namenodes, Address: "127.0.0.1:1" + n.id[len(n.id)-1:], Store: n,
		Events: n.events, Version: "test", Logger: testLogger(t)})
	require.NoError(t, err)
	n.agent = a
	t.Cleanup(func() { n.close(t) })
	return n
}

func (n *testNode) close(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, n.agent.Close(ctx))
}

func (n *testNode) Identity() datanode.Identity {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.identity
}

func (n *testNode) Join(cluster string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.identity.ClusterID = cluster
	return nil
}

func (n *testNode) ObserveEpoch(epoch, txid uint64) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if epoch < n.mu.identity.HighestEpoch {
		return fault.New(fault.Fenced, "observe epoch", "%d", epoch)
	}
	n.mu.identity.HighestEpoch, n.mu.identity.HighestTxid = epoch, max(txid, n.mu.identity.HighestTxid)
	return nil
}

func (n *testNode) Volumes() []datanode.VolumeState {
	return []datanode.VolumeState{{ID: n.id + "-volume", Directory: "/" + n.id, CapacityBytes: 1 << 40,
		FreeBytes: 1 << 39, Replicas: uint64(len(n.Replicas())), Healthy: true}}
}

func (n *testNode) Replicas() []chunk.Replica {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]chunk.Replica, 0, len(n.mu.replicas))
	for _, r := range n.mu.replicas {
		out = append(out, r)
	}
	return out
}

func (n *testNode) Announce(id chunk.ID, generation chunk.Generation) {
	n.mu.Lock()
	r, ok := n.mu.replicas[id]
	n.mu.Unlock()
	if ok {
		n.events.Stored(r)
		return
	}
	n.events.Removed(chunk.Replica{ID: id, Generation: generation})
}

func (n *testNode) VolumeOf(chunk.ID) string { return n.id + "-volume" }

func (n *testNode) VerifyReplica(chunk.ID) error { return nil }

func (n *testNode) Delete(id chunk.ID, generation chunk.Generation) error {
	n.mu.Lock()
	r, ok := n.mu.replicas[id]
	if ok && r.Generation == generation {
		delete(n.mu.replicas, id)
	}
	n.mu.Unlock()
	if !ok || r.Generation != generation {
		return fault.New(fault.NotFound, "delete", "not here")
	}
	n.events.Removed(r)
	return nil
}

func (n *testNode) put(r chunk.Replica) {
	n.mu.Lock()
	n.mu.replicas[r.ID] = r
	n.mu.Unlock()
	n.events.Stored(r)
}

func (n *testNode) has(id chunk.ID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, ok := n.mu.replicas[id]
	return ok
}

// cluster is a namenode with datanodes of their own streams.
type cluster struct {
	t      *testing.T
	server *Server
	client *testClient
	nodes  map[string]*testNode
}

func startCluster(t *testing.T, nodes int, o Options) *cluster {
	t.Helper()
	c := &cluster{t: t, server: ready(t, startServer(t, o)), nodes: make(map[string]*testNode)}
	c.client = dial(t, c.server.Addr())
	for i := range nodes {
		n := newNode(fmt.Sprintf("node-%d", i+1))
		c.nodes[n.id] = n.start(t, c.server.Addr())
	}
	c.live(nodes)
	return c
}

// live waits until so many datanodes are live and safe mode is over.
func (c *cluster) live(nodes int) {
	c.t.Helper()
	require.Eventually(c.t, func() bool {
		status, err := c.client.ClusterStatus(contextOf(c.t), &controlpb.ClusterStatusRequest{})
		if err != nil || status.SafeMode {
			return false
		}
		count := 0
		for _, n := range status.Nodes {
			if n.Live {
				count++
			}
		}
		return count == nodes
	}, patience, 5*time.Millisecond, "datanodes live, no safe mode")
}

// write makes a file of one chunk on all nodes that the namenode chose.
func (c *cluster) write(path string, replication uint32, length int64) (*controlpb.FileInfo, chunk.ID) {
	c.t.Helper()
	ctx := contextOf(c.t)
	created, err := c.client.Create(ctx, &controlpb.CreateRequest{Header: c.client.header(), Path: path,
		Replication: replication, VisibleOnComplete: true, ChunkCount: 1, ClientName: "test"})
	require.NoError(c.t, faultOf(err))
	require.Len(c.t, created.Chunks, 1)
	located := created.Chunks[0]
	require.Len(c.t, located.Replicas, int(replication))
	id, err := chunk.IDFrom(located.ChunkId)
	require.NoError(c.t, err)
	commit := &controlpb.ChunkCommit{ChunkId: located.ChunkId, Generation: located.Generation, Length: length}
	for _, r := range located.Replicas {
		c.nodes[r.NodeId].put(chunk.Replica{ID: id, Generation: chunk.Generation(located.Generation), Length: length,
			State: chunk.Sealed})
		commit.NodeIds = append(commit.NodeIds, r.NodeId)
	}
	done, err := c.client.Complete(ctx, &controlpb.CompleteRequest{Header: c.client.header(),
		FileId: created.Info.FileId, Commits: []*controlpb.ChunkCommit{commit}})
	require.NoError(c.t, faultOf(err))
	return done.Info, id
}
