package namenode

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/actor"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/editlog"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/test/fakeclock"
)

// take asks for a checkpoint by hand.
func (c *testClient) take() (*controlpb.CheckpointResponse, error) {
	r, err := c.Checkpoint(contextOf(c.t), &controlpb.CheckpointRequest{})
	return r, faultOf(err)
}

// replayed is the state that the log alone makes.
func replayed(t *testing.T, log *fakeLog) *actor.State {
	t.Helper()
	state, err := actor.New(testConfig())
	require.NoError(t, err)
	log.mu.Lock()
	defer log.mu.Unlock()
	for i, r := range log.mu.records {
		require.NoError(t, state.Replay(uint64(i+1), r))
	}
	return state
}

// A checkpoint and the records behind it make, byte for byte, what the log alone
// makes, wherever the checkpoint was taken.
func TestACheckpointAndItsTailMakeWhatTheLogMakes(t *testing.T) {
	log := newFakeLog()
	c := startCluster(t, 3, Options{Log: log})
	for i := range 6 {
		require.NoError(t, c.client.mkdir(fmt.Sprintf("/d%d", i)))
		c.write(fmt.Sprintf("/d%d/file", i), 3, 1234)
		_, err := c.client.take()
		require.NoError(t, err)
	}
	require.NoError(t, c.client.mkdir("/last"))
	closeServer(t, c.server)
	want := replayed(t, log).Checkpoint()
	log.mu.Lock()
	require.Len(t, log.mu.checkpoints, 6)
	kept := log.mu.checkpoints
	log.mu.Unlock()
	for i := range kept {
		log.mu.Lock()
		log.mu.checkpoints = kept[:i+1]
		log.mu.first = kept[i].Txid + 1 // it gets nothing that it should not need
		log.mu.Unlock()
		s, err := Options{Listen: "127.0.0.1:0", Log: log, Actor: testConfig()}.withDefaults()
		require.NoError(t, err)
		server := &Server{options: s, log: log, logger: s.Logger}
		state, from, err := server.replay(t.Context(), editlog.Grant{Epoch: 1, LastTxid: uint64(log.length())})
		require.NoError(t, err)
		require.Equal(t, kept[i].Txid, from.newest.Txid)
		require.True(t, bytes.Equal(want, state.Checkpoint()), "checkpoint %d", i)
	}
}

func TestWhatCausesACheckpoint(t *testing.T) {
	fake := fakeclock.New(time.Unix(1000, 0))
	o, err := Options{Listen: "x", Log: newFakeLog(), Actor: testConfig(), Clock: fake, CheckpointRecords: 100,
		CheckpointBytes: 1000}.withDefaults()
	require.NoError(t, err)
	s := &Server{options: o, logger: o.Logger}
	fresh := func(from loaded) *checkpoints { return newCheckpoints(s, editlog.Grant{}, from, o.Logger) }
	now := fake.Now()

	checkpoints := fresh(loaded{})
	require.Empty(t, checkpoints.due(now, 99, 0))
	require.Equal(t, "records", checkpoints.due(now, 100, 0))
	require.Equal(t, "records", checkpoints.due(now, 100, 800))
	require.Empty(t, checkpoints.due(now, 100, 808), "a large state may have a longer tail")
	require.Equal(t, "records", checkpoints.due(now, 101, 808))
	require.Equal(t, "time", checkpoints.due(now.Add(time.Hour), 1, 0))
	require.Empty(t, checkpoints.due(now.Add(time.Hour), 0, 0), "nothing happened")
	request := func(txid uint64) checkpointRequest {
		return checkpointRequest{txid: txid, accepted: make(chan uint64, 1), answer: make(chan checkpointAnswer, 1)}
	}
	checkpoints.ask(request(0), 7)
	require.Equal(t, "it was asked for", checkpoints.due(now, 7, 0))
	checkpoints.running = true
	require.Empty(t, checkpoints.due(now.Add(time.Hour), 1000, 0), "one at a time")

	checkpoints = fresh(loaded{bytes: 1000})
	require.Equal(t, "bytes", checkpoints.due(now, 1, 0), "the tail of a long replay")
	checkpoints = fresh(loaded{bytes: 1000, newest: editlog.Checkpoint{Txid: 50, Bytes: 8008, Created: now}})
	require.Empty(t, checkpoints.due(now, 51, 0))
	checkpoints.bytes++
	require.Equal(t, "bytes", checkpoints.due(now, 51, 0))
	require.Empty(t, checkpoints.due(now, 50, 0))
	checkpoints = fresh(loaded{damaged: []uint64{60},
		newest: editlog.Checkpoint{Txid: 50, Bytes: 400_000, Created: now}})
	require.Equal(t, "bytes", checkpoints.due(now, 51, 0), "two good ones are wanted soon")
	checkpoints.notBefore = now.Add(time.Minute)
	require.Empty(t, checkpoints.due(now, 51, 0), "a pause after a failure")
	require.NotEmpty(t, checkpoints.due(now.Add(time.Minute), 51, 0))
	r := request(50)
	checkpoints.ask(r, 51)
	require.EqualValues(t, 50, (<-r.answer).checkpoint.Txid, "it is there")
	require.Empty(t, checkpoints.due(now, 51, 0))
	checkpoints.ask(request(51), 51)
	require.NotEmpty(t, checkpoints.due(now, 51, 0))
}

// While an upload hangs everything else goes on, and it stays the only one; a
// request meanwhile is served by the next, since the running one may lack what
// was acknowledged before it.
func TestAnUploadBlocksNobodyAndIsAlone(t *testing.T) {
	log := newFakeLog()
	gate := make(chan error)
	log.mu.uploads = gate
	cluster := startCluster(t, 0, Options{Log: log, CheckpointRecords: 1})
	require.NoError(t, cluster.client.mkdir("/a"))
	require.Eventually(t, func() bool { log.mu.Lock(); defer log.mu.Unlock(); return log.mu.running == 1 }, patience,
		time.Millisecond)
	for i := range 50 {
		require.NoError(t, cluster.client.mkdir(fmt.Sprintf("/a/%d", i)))
	}
	status, err := cluster.client.ClusterStatus(contextOf(t), &controlpb.ClusterStatusRequest{})
	require.NoError(t, err)
	require.True(t, status.Checkpoint.Running)
	require.Zero(t, status.Checkpoint.Txid)
	last := status.Txid
	require.Equal(t, last, status.Checkpoint.RecordsSince)
	asked := make(chan uint64, 1)
	go func() {
		r, _ := cluster.client.take()
		asked <- r.GetTxid()
	}()
	require.Never(t, func() bool { return len(asked) > 0 }, 50*time.Millisecond, 5*time.Millisecond)
	gate <- nil
	gate <- nil
	select {
	case txid := <-asked:
		require.GreaterOrEqual(t, txid, last)
	case <-time.After(patience):
		require.FailNow(t, "no answer")
	}
	log.mu.Lock()
	require.Equal(t, 1, log.mu.most)
	require.Len(t, log.mu.checkpoints, 2)
	log.mu.Unlock()
	require.EqualValues(t, 2, cluster.server.Stats().Checkpoints)
}

// What is not durable is in no checkpoint.
func TestACheckpointWaitsForItsRecords(t *testing.T) {
	log := newFakeLog()
	c := startCluster(t, 0, Options{Log: log})
	require.NoError(t, c.client.mkdir("/a"))
	log.hold()
	mutation := async(func() error { return c.client.mkdir("/b") })
	require.Eventually(t, func() bool { return log.waits() == 1 }, patience, time.Millisecond)
	asked := async(func() error { _, err := c.client.take(); return err })
	require.Never(t, func() bool { log.mu.Lock(); defer log.mu.Unlock(); return log.mu.running > 0 },
		50*time.Millisecond, time.Millisecond)
	log.release()
	require.NoError(t, result(t, mutation))
	require.NoError(t, result(t, asked))
	log.mu.Lock()
	defer log.mu.Unlock()
	require.EqualValues(t, len(log.mu.records), log.mu.checkpoints[0].Txid)
}

func TestAFailedUploadIsToldAndTriedAgain(t *testing.T) {
	log := newFakeLog()
	gate := make(chan error, 2)
	log.mu.uploads = gate
	cluster := startCluster(t, 0, Options{Log: log})
	require.NoError(t, cluster.client.mkdir("/a"))
	gate <- fault.New(fault.NoSpace, "upload", "the disk is full")
	_, err := cluster.client.take()
	require.ErrorIs(t, err, fault.NoSpace)
	status, err := cluster.client.ClusterStatus(contextOf(t), &controlpb.ClusterStatusRequest{})
	require.NoError(t, err)
	require.Contains(t, status.Checkpoint.Error, "the disk is full")
	require.EqualValues(t, 1, cluster.server.Stats().CheckpointsFailed)
	require.NoError(t, cluster.client.mkdir("/b"))
	gate <- nil
	taken, err := cluster.client.take()
	require.NoError(t, err)
	status, err = cluster.client.ClusterStatus(contextOf(t), &controlpb.ClusterStatusRequest{})
	require.NoError(t, err)
	require.Empty(t, status.Checkpoint.Error)
	require.Equal(t, taken.Txid, status.Checkpoint.Txid)
	require.Equal(t, taken.Bytes, status.Checkpoint.Bytes)
	again, err := cluster.client.take()
	require.NoError(t, err, "nothing changed: the same one answers")
	require.Equal(t, taken.Txid, again.Txid)
}

// The end of a term ends its upload, and who waits for it is told.
func TestTheEndOfATenureEndsItsUpload(t *testing.T) {
	log := newFakeLog()
	log.mu.uploads = make(chan error)
	c := startCluster(t, 0, Options{Log: log})
	asked := async(func() error { _, err := c.client.take(); return err })
	require.Eventually(t, func() bool { log.mu.Lock(); defer log.mu.Unlock(); return log.mu.running == 1 }, patience,
		time.Millisecond)
	log.fail(fault.New(fault.Unavailable, "append", "broken"), 0)
	require.ErrorIs(t, result(t, asked), fault.NotActive)
	require.Eventually(t, func() bool { log.mu.Lock(); defer log.mu.Unlock(); return log.mu.running == 0 }, patience,
		time.Millisecond)
	require.Eventually(t, func() bool { return c.server.Active() == nil }, patience, time.Millisecond)
	asked = async(func() error { _, err := c.client.take(); return err })
	require.Eventually(t, func() bool { log.mu.Lock(); defer log.mu.Unlock(); return log.mu.running == 1 }, patience,
		time.Millisecond)
	closeServer(t, c.server)
	require.Error(t, result(t, asked))
}

// A damaged checkpoint is told loudly and the one before it serves; with none
// left and the log cut, the namenode stays down instead of serving less.
func TestDamagedCheckpoints(t *testing.T) {
	log := newFakeLog()
	c := startCluster(t, 0, Options{Log: log})
	for _, path := range []string{"/a", "/b", "/c"} {
		require.NoError(t, c.client.mkdir(path))
		_, err := c.client.take()
		require.NoError(t, err)
	}
	closeServer(t, c.server)
	log.mu.Lock()
	log.mu.first = log.mu.checkpoints[1].Txid + 1
	log.mu.checkpoints = log.mu.checkpoints[1:]
	log.mu.checkpoints[1].damage = true
	log.mu.Unlock()

	server := ready(t, startServer(t, Options{Log: log}))
	require.Equal(t, []string{"a", "b", "c"}, dial(t, server.Addr()).names("/", 0))
	require.EqualValues(t, 1, server.Stats().CheckpointsDamaged)
	require.Eventually(t, func() bool { return server.Stats().Checkpoints == 1 }, patience, time.Millisecond,
		"a good one is taken soon")
	log.mu.Lock()
	require.Equal(t, []uint64{log.mu.checkpoints[1].Txid}, log.mu.unreadable, "the log server must not rely on it")
	log.mu.Unlock()
	closeServer(t, server)

	log.mu.Lock()
	for i := range log.mu.checkpoints {
		log.mu.checkpoints[i].damage = true
	}
	log.mu.Unlock()
	server = startServer(t, Options{Log: log})
	select {
	case <-server.Done():
	case <-time.After(patience):
		require.FailNow(t, "it should stay down")
	}
	require.ErrorIs(t, server.Err(), fault.CorruptData)
	require.ErrorContains(t, server.Err(), "no checkpoint can be read that the log goes on behind")
	require.ErrorContains(t, server.Err(), "load checkpoint")
	require.ErrorIs(t, server.Active(), fault.NotActive)
}

// The same with a real log server and its files.
func TestCheckpointsOfARealLogServer(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "log")
	log := startLog(t, directory, "127.0.0.1:0")
	address := log.Addr()
	cluster := startCluster(t, 3, Options{LogServers: []string{address}})
	for i := range 3 {
		for j := range 300 { // more log entries than lie between two points
			require.NoError(t, cluster.client.mkdir(fmt.Sprintf("/%d-%d", i, j)))
		}
		cluster.write(fmt.Sprintf("/file%d", i), 3, 1234)
		_, err := cluster.client.take()
		require.NoError(t, err)
	}
	require.NoError(t, cluster.client.mkdir("/tail"))
	before := cluster.client.names("/", 0)
	closeServer(t, cluster.server)

	restart := func() *Server { return startServer(t, Options{LogServers: []string{address}}) }
	server := ready(t, restart())
	require.Equal(t, before, dial(t, server.Addr()).names("/", 0))
	closeServer(t, server)
	closeLog(t, log)

	damage := func(which int) {
		files, err := filepath.Glob(filepath.Join(directory, "checkpoints", "*.checkpoint"))
		require.NoError(t, err)
		require.Len(t, files, 2)
		b, err := os.ReadFile(files[which])
		require.NoError(t, err)
		b[len(b)/2] ^= 1
		require.NoError(t, os.WriteFile(files[which], b, 0o644))
	}
	damage(1)
	log = startLog(t, directory, address)
	server = ready(t, startServer(t, Options{LogServers: []string{address}, CheckpointBytes: 1 << 40,
		CheckpointRecords: 1 << 40}))
	require.Equal(t, before, dial(t, server.Addr()).names("/", 0))
	require.EqualValues(t, 1, server.Stats().CheckpointsDamaged)
	closeServer(t, server)
	closeLog(t, log)

	// It took a new one at once? Then damage what is good now.
	files, err := filepath.Glob(filepath.Join(directory, "checkpoints", "*.checkpoint"))
	require.NoError(t, err)
	for _, file := range files {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		b[len(b)-40] ^= 1
		require.NoError(t, os.WriteFile(file, b, 0o644))
	}
	log = startLog(t, directory, address)
	defer func() { closeLog(t, log) }()
	server = restart()
	select {
	case <-server.Done():
	case <-time.After(patience):
		require.FailNow(t, "it should stay down")
	}
	require.ErrorIs(t, server.Err(), fault.CorruptData)
	require.ErrorContains(t, server.Err(), "no checkpoint can be read that the log goes on behind")
	require.False(t, strings.Contains(server.Err().Error(), "\n\n"))
	_, err = dial(t, server.Addr()).List(context.Background(), &controlpb.ListRequest{Path: "/"})
	require.ErrorIs(t, faultOf(err), fault.NotActive)
}
