package namenode

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/logserver"
	"github.com/whispering-woods/ww/control/rpc"
)

// BenchmarkRPC measures metadata over real gRPC on one machine: a log server
// that fsyncs, a namenode, three datanodes that only register, and the callers,
// all in this process. "echo" is the floor: a bare gRPC server and client with
// nothing behind it. Set TMPDIR to choose the log's disk.
func BenchmarkRPC(b *testing.B) {
	for _, callers := range []int{16, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			b.Run("echo", func(b *testing.B) { benchmarkEcho(b, callers) })
			cluster := startBench(b)
			b.Run("stat", func(b *testing.B) {
				cluster.run(b, callers, func(ctx context.Context, _ *benchCaller) error {
					_, err := cluster.stub.Stat(ctx, &controlpb.StatRequest{Path: "/directory"})
					return err
				})
			})
			b.Run("client-stat", func(b *testing.B) {
				cluster.run(b, callers, func(ctx context.Context, _ *benchCaller) error {
					_, err := cluster.client.Stat(ctx, "/directory")
					return err
				})
			})
			b.Run("mkdir", func(b *testing.B) {
				cluster.run(b, callers, func(ctx context.Context, caller *benchCaller) error {
					_, err := cluster.stub.Mkdir(ctx,
						&controlpb.MkdirRequest{Path: caller.path(), Header: caller.header()})
					return err
				})
			})
			b.Run("client-mkdir", func(b *testing.B) {
				cluster.run(b, callers, func(ctx context.Context, caller *benchCaller) error {
					return cluster.client.Mkdir(ctx, caller.path(), client.MkdirOptions{})
				})
			})
			b.Run("create", func(b *testing.B) {
				cluster.run(b, callers, func(ctx context.Context, caller *benchCaller) error {
					_, err := cluster.stub.Create(ctx,
						&controlpb.CreateRequest{Path: caller.path(), Header: caller.header(), ChunkCount: 1,
							VisibleOnComplete: true, ClientName: "bench"})
					return err
				})
			})
			b.Run("file", func(b *testing.B) { // two mutations: create with a chunk, complete with its commit
				cluster.run(b, callers, func(ctx context.Context, caller *benchCaller) error {
					created, err := cluster.stub.Create(ctx,
						&controlpb.CreateRequest{Path: caller.path(), Header: caller.header(), ChunkCount: 1,
							VisibleOnComplete: true, ClientName: "bench"})
					if err != nil {
						return err
					}
					commit := &controlpb.ChunkCommit{ChunkId: created.Chunks[0].ChunkId, Generation: 1, Length: 4096}
					for _, r := range created.Chunks[0].Replicas {
						commit.NodeIds = append(commit.NodeIds, r.NodeId)
					}
					_, err = cluster.stub.Complete(ctx,
						&controlpb.CompleteRequest{FileId: created.Info.FileId, Header: caller.header(),
							Commits: []*controlpb.ChunkCommit{commit}})
					return err
				})
			})
		})
	}
}

// benchCluster is what BenchmarkRPC calls.
type benchCluster struct {
	server *Server
	stub   controlpb.NamenodeClient
	client *client.Client
}

// benchCaller is one client with one call at a time.
type benchCaller struct {
	id       []byte
	sequence uint64
	paths    int
}

func (c *benchCaller) header() *controlpb.MutationHeader {
	c.sequence++
	return &controlpb.MutationHeader{ClientId: c.id, Sequence: c.sequence, OldestPending: c.sequence}
}

func (c *benchCaller) path() string {
	c.paths++
	return fmt.Sprintf("/directory/%x-%d", c.id[:6], c.paths)
}

func startBench(b *testing.B) *benchCluster {
	log, err := logserver.Start(logserver.Options{Directory: filepath.Join(b.TempDir(), "log"),
		ListenGRPC: "127.0.0.1:0"})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, log.Close(context.Background())) })
	config := testConfig()
	config.StaleAfter, config.DeadAfter = time.Hour, time.Hour
	s, err := Start(Options{Listen: "127.0.0.1:0", LogServers: []string{log.Addr()}, Actor: config})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, s.Close(context.Background())) })
	<-s.Ready()
	connection, err := rpc.Dial(s.Addr())
	require.NoError(b, err)
	b.Cleanup(func() { connection.Close() })
	cluster := &benchCluster{server: s, stub: controlpb.NewNamenodeClient(connection)}
	cluster.client, err = client.Dial(context.Background(), client.Options{Namenodes: []string{s.Addr()}})
	require.NoError(b, err)
	b.Cleanup(func() { cluster.client.Close() })
	for i := range 3 {
		stream, err := controlpb.NewDatanodeControlClient(connection).Connect(context.Background())
		require.NoError(b, err)
		register := &controlpb.Register{NodeId: fmt.Sprintf("node-%d", i), Address: fmt.Sprintf("127.0.0.1:%d", 9000+i),
			Volumes: []*controlpb.VolumeState{
				{VolumeId: "v", Healthy: true, CapacityBytes: 1 << 50, FreeBytes: 1 << 49}}}
		require.NoError(b, stream.Send(&controlpb.DatanodeMessage{
			Body: &controlpb.DatanodeMessage_Register{Register: register}}))
		_, err = stream.Recv()
		require.NoError(b, err)
	}
	require.NoError(b, cluster.client.Mkdir(context.Background(), "/directory", client.MkdirOptions{}))
	return cluster
}

// run has callers do b.N operations in all.
func (c *benchCluster) run(b *testing.B, callers int, do func(context.Context, *benchCaller) error) {
	before := c.server.Stats()
	eachCaller(b, callers, do)
	after := c.server.Stats()
	if batches := after.Batches - before.Batches; batches > 0 {
		b.ReportMetric(float64(after.Records-before.Records)/float64(batches), "records/batch")
	}
}

func eachCaller(b *testing.B, callers int, do func(context.Context, *benchCaller) error) {
	var next atomic.Int64
	var group sync.WaitGroup
	b.ReportAllocs()
	before := cpuTime(b)
	b.ResetTimer()
	for range callers {
		group.Go(func() {
			id := uuid.New()
			caller := &benchCaller{id: id[:]}
			for next.Add(1) <= int64(b.N) {
				if err := do(context.Background(), caller); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
	b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// cpuTime is what this process has used of all CPUs. It is a better measure
// than the clock on a machine that others share.
func cpuTime(b *testing.B) time.Duration {
	var usage unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// benchmarkEcho is the least that a unary call costs.
func benchmarkEcho(b *testing.B, callers int) {
	listener, err := rpc.Listen("127.0.0.1:0")
	require.NoError(b, err)
	s := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(s, health.NewServer())
	var group sync.WaitGroup
	group.Go(func() { _ = s.Serve(listener) })
	b.Cleanup(func() { s.Stop(); group.Wait() })
	connection, err := grpc.NewClient(listener.Addr().String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(b, err)
	b.Cleanup(func() { connection.Close() })
	stub := grpc_health_v1.NewHealthClient(connection)
	eachCaller(b, callers, func(ctx context.Context, _ *benchCaller) error {
		_, err := stub.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		return err
	})
}
