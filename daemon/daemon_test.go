package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/daemon/config"
	"github.com/whispering-woods/ww/internal/fault"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// gnet's import starts a pool that nothing can stop.
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"),
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*goWorker).run.func1"))
}

func mini(directory string, datanodes int) config.Mini {
	c := config.Default().Mini
	c.Dir, c.Listen, c.Datanodes, c.ChunkSize, c.Reserve = directory, "127.0.0.1:0", datanodes, 64<<10, 0
	return c
}

func ready(t *testing.T, d *Daemon) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, d.WaitReady(ctx))
}

func stop(t *testing.T, d *Daemon) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	require.NoError(t, d.Close(ctx))
}

// startNamespace starts a log server and a namenode that keep no ports and end
// with the test; change sets what the test needs.
func startNamespace(t *testing.T, change func(*config.Namenode)) *Daemon {
	t.Helper()
	l := config.Default().Logserver
	l.Dir, l.Listen, l.RaftListen = t.TempDir(), "127.0.0.1:0", ""
	log, err := StartLogServer(t.Context(), l, nil)
	require.NoError(t, err)
	t.Cleanup(func() { stop(t, log) })
	n := config.Default().Namenode
	n.Listen, n.LogServers = "127.0.0.1:0", []string{log.Address("grpc")}
	change(&n)
	namenode, err := StartNamenode(t.Context(), n, nil)
	require.NoError(t, err)
	t.Cleanup(func() { stop(t, namenode) })
	ready(t, namenode)
	return namenode
}

// startEmptyDatanode starts a datanode on one new disk, which it returns; change
// sets what the test needs.
func startEmptyDatanode(t *testing.T, namenode *Daemon,
	change ...func(*config.Datanode)) (daemon *Daemon, disk string) {
	t.Helper()
	c := config.Default().Datanode
	disk = t.TempDir()
	c.Listen, c.Disks, c.Reserve, c.Namenodes = "127.0.0.1:0", []string{disk}, 0, []string{namenode.Address("grpc")}
	for _, set := range change {
		set(&c)
	}
	daemon, err := StartDatanode(t.Context(), c, nil)
	require.NoError(t, err)
	t.Cleanup(func() { stop(t, daemon) })
	ready(t, daemon)
	return daemon, disk
}

// dialNamenode gives a client that ends with the test.
func dialNamenode(t *testing.T, namenode *Daemon) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), client.Options{Namenodes: []string{namenode.Address("grpc")}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// dial reads the client file, as a user would.
func dial(t *testing.T, directory string) *client.Client {
	t.Helper()
	c, err := config.Load(config.Source{File: ClientFilePath(directory)})
	require.NoError(t, err)
	cl, err := client.Dial(t.Context(), client.Options{Namenodes: c.Client.Namenodes})
	require.NoError(t, err)
	return cl
}

func write(t *testing.T, c *client.Client, path, content string) {
	t.Helper()
	w, err := c.Create(t.Context(), path, client.CreateOptions{VisibleOnComplete: true})
	require.NoError(t, err)
	_, err = w.Write([]byte(content))
	require.NoError(t, err)
	require.NoError(t, w.Close())
}

func read(t *testing.T, c *client.Client, path string) string {
	t.Helper()
	text, err := readFile(t.Context(), c, path)
	require.NoError(t, err)
	return text
}

func readFile(ctx context.Context, c *client.Client, path string) (string, error) {
	r, err := c.Open(ctx, path)
	if err != nil {
		return "", err
	}
	b := make([]byte, 1000)
	n, err := r.Read(b)
	return string(b[:n]), errors.Join(err, r.Close())
}

func TestMiniSurvivesRestarts(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "made", "on demand")
	for round, content := range []string{"first", "second", "third"} {
		daemon, err := StartMini(t.Context(), mini(directory, 2), nil)
		require.NoError(t, err)
		ready(t, daemon)
		c := dial(t, directory)
		for before := range round {
			require.NotEmpty(t, read(t, c, "/"+[]string{"first", "second", "third"}[before]))
		}
		write(t, c, "/"+content, content)
		require.Equal(t, content, read(t, c, "/"+content))
		info, err := c.Stat(t.Context(), "/"+content)
		require.NoError(t, err)
		require.Equal(t, 2, info.Replication, "the smaller of 3 and the number of datanodes")
		require.NoError(t, c.Close())
		stop(t, daemon)
		stop(t, daemon) // a second Close does nothing
	}
}

func TestMiniStartsAllDatanodesItEverHad(t *testing.T) {
	directory := t.TempDir()
	daemon, err := StartMini(t.Context(), mini(directory, 3), nil)
	require.NoError(t, err)
	ready(t, daemon)
	stop(t, daemon)
	require.NoError(t, os.MkdirAll(filepath.Join(directory, "dn-not-one"), 0o755))
	daemon, err = StartMini(t.Context(), mini(directory, 1), nil)
	require.NoError(t, err)
	ready(t, daemon)
	c := dial(t, directory)
	status, err := c.ClusterStatus(t.Context())
	require.NoError(t, err)
	require.Len(t, status.Nodes, 3)
	require.Equal(t, 3, status.DefaultReplication, "of those that run")
	require.NoError(t, c.Close())
	stop(t, daemon)
}

func TestMiniRefusesADirectoryInUse(t *testing.T) {
	directory := t.TempDir()
	daemon, err := StartMini(t.Context(), mini(directory, 1), nil)
	require.NoError(t, err)
	ready(t, daemon)
	before, err := os.ReadFile(ClientFilePath(directory))
	require.NoError(t, err)
	_, err = StartMini(t.Context(), mini(directory, 1), nil)
	require.ErrorIs(t, err, fault.Busy)
	require.ErrorContains(t, err, directory)
	after, err := os.ReadFile(ClientFilePath(directory))
	require.NoError(t, err)
	require.Equal(t, before, after, "the second one touches nothing")
	stop(t, daemon)
}

func TestMiniRefusesAPortInUse(t *testing.T) {
	d, err := StartMini(t.Context(), mini(t.TempDir(), 1), nil)
	require.NoError(t, err)
	c := mini(t.TempDir(), 1)
	c.Listen = d.Address("grpc")
	_, err = StartMini(t.Context(), c, nil)
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorContains(t, err, c.Listen)
	stop(t, d)
}

func TestAnInvalidSectionStartsNothing(t *testing.T) {
	_, err := StartMini(t.Context(), config.Mini{}, nil)
	require.ErrorIs(t, err, fault.Invalid)
	_, err = StartLogServer(t.Context(), config.Logserver{}, nil)
	require.ErrorIs(t, err, fault.Invalid)
	_, err = StartNamenode(t.Context(), config.Namenode{}, nil)
	require.ErrorIs(t, err, fault.Invalid)
	_, err = StartDatanode(t.Context(), config.Datanode{}, nil)
	require.ErrorIs(t, err, fault.Invalid)
}

// A signal may come while a store is read or a log replayed.
func TestAStartThatIsInterruptedLeavesNothingBehind(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	l := config.Default().Logserver
	l.Dir, l.Listen, l.RaftListen = t.TempDir(), "127.0.0.1:0", ""
	n := config.Default().Namenode
	n.Listen, n.LogServers = "127.0.0.1:0", []string{"127.0.0.1:1"}
	data := config.Default().Datanode
	data.Listen, data.Disks, data.Reserve, data.Namenodes = "127.0.0.1:0", []string{t.TempDir()}, 0,
		[]string{"127.0.0.1:1"}
	for range 2 { // nothing that the first try holds is in the way of the second
		d, err := StartLogServer(ended, l, nil)
		require.ErrorIs(t, err, context.Canceled)
		require.Nil(t, d)
		d, err = StartNamenode(ended, n, nil)
		require.ErrorIs(t, err, context.Canceled)
		require.Nil(t, d)
		d, err = StartDatanode(ended, data, nil)
		require.ErrorIs(t, err, context.Canceled)
		require.Nil(t, d)
	}
}

// Without a namenode a record file cannot be sealed. That must not take the time
// that the datanode's other parts need to end in order.
func TestADatanodeStopsInTimeWithoutANamenode(t *testing.T) {
	namenode := startNamespace(t, func(n *config.Namenode) { n.Replication = 1 })
	datanode, _ := startEmptyDatanode(t, namenode)
	c := dialNamenode(t, namenode)
	w, err := c.Create(t.Context(), "/f", client.CreateOptions{})
	require.NoError(t, err)
	require.NoError(t, w.Close())
	a, err := c.OpenRecords(t.Context(), "/f", client.RecordOptions{})
	require.NoError(t, err)
	_, err = a.Append(t.Context(), []byte("a record"))
	require.NoError(t, err)
	stop(t, namenode)
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second) // of ww datanode
	defer cancel()
	require.NoError(t, datanode.Close(ctx))
	t.Logf("it took %v", time.Since(began))
	require.NoError(t, a.Close()) // the record was acknowledged
}

func TestWaitingForADaemonEnds(t *testing.T) {
	c := config.Default().Datanode
	c.Listen, c.Disks, c.Reserve, c.Namenodes = "127.0.0.1:0", []string{t.TempDir()}, 0, []string{"127.0.0.1:1"}
	d, err := StartDatanode(t.Context(), c, nil)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.Error(t, d.WaitReady(ctx), "no namenode answers")
	waited := make(chan error, 1)
	go func() { waited <- d.WaitReady(t.Context()) }()
	stop(t, d)
	require.ErrorIs(t, <-waited, fault.Closed)
}

// Record files are sealed while all datanodes still stand, on all replicas.
func TestAStoppingMiniSealsRecordFilesWhole(t *testing.T) {
	directory := t.TempDir()
	daemon, err := StartMini(t.Context(), mini(directory, 3), nil)
	require.NoError(t, err)
	ready(t, daemon)
	user := dial(t, directory)
	const files = 12 // each datanode appends to some
	for i := range files {
		a, err := user.OpenRecords(t.Context(), fmt.Sprintf("/f%d", i), client.RecordOptions{Create: true})
		require.NoError(t, err)
		_, err = a.Append(t.Context(), []byte("a record"))
		require.NoError(t, err)
		require.NoError(t, a.Close())
	}
	require.NoError(t, user.Close())
	stop(t, daemon)

	daemon, err = StartMini(t.Context(), mini(directory, 3), nil)
	require.NoError(t, err)
	ready(t, daemon)
	user = dial(t, directory)
	status, err := user.ClusterStatus(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, files, status.Chunks)
	require.Zero(t, status.UnderReplicatedChunks)
	require.Zero(t, status.OpenFiles)
	require.NoError(t, user.Close())
	stop(t, daemon)
}

func TestAStoppingMiniIsQuiet(t *testing.T) {
	var log lockedBuffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	d, err := StartMini(t.Context(), mini(t.TempDir(), 2), logger)
	require.NoError(t, err)
	ready(t, d)
	require.Len(t, d.Addresses(), 4)
	before := log.String()
	stop(t, d)
	require.Equal(t, before, log.String())
}

// lockedBuffer is a buffer for several goroutines.
type lockedBuffer struct {
	mu struct {
		sync.Mutex
		b bytes.Buffer
	}
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.b.String()
}

func TestAdvertisedAddress(t *testing.T) {
	require.Equal(t, "127.0.0.1:5", advertised("", "127.0.0.1:5"))
	require.Equal(t, "host:5", advertised("host:0", "0.0.0.0:5"))
	require.Equal(t, "host:9", advertised("host:9", "0.0.0.0:5"))
}
