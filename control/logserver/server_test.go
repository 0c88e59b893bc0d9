package logserver

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/control/editlog"
	"github.com/whispering-woods/ww/control/logserver/entry"
	"github.com/whispering-woods/ww/control/logserver/walcheck"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

func TestEntriesAndBatchesFitIntoAMessage(t *testing.T) {
	require.Less(t, entry.BytesMax, rpc.MessageBytesMax)
	require.Less(t, tailMessageBytes+limits.BatchBytesMax+limits.BatchRecordsMax*16, rpc.MessageBytesMax)
}

func TestAppendAckTailRestart(t *testing.T) {
	dir := t.TempDir()
	server, stop := start(t, options(t, dir))
	log := dial(t, server.Addr())
	began := time.Now()
	grant, err := log.AcquireEpoch(within(t), "nn1")
	require.NoError(t, err)
	t.Logf("first epoch after %s", time.Since(began))
	require.Equal(t, editlog.Grant{Epoch: 1, Address: server.Addr()}, grant)
	fill(t, log, 5000)
	requireRecords(t, log, 1, 5000)
	requireRecords(t, log, 3333, 4444)
	requireRecords(t, log, 5000, 5000)
	require.NoError(t, log.Replay(within(t), 5001, 5000, nil))
	requireKind(t, fault.Gap, log.Replay(within(t), 4999, 5001, func(editlog.Batch) error { return nil }))
	requireKind(t, fault.Gap, log.Replay(within(t), 5002, 5003, func(editlog.Batch) error { return nil }))
	status := log.Status(within(t))[0]
	require.True(t, status.Leader && status.Ready)
	require.EqualValues(t, 5000, status.LastTxid)
	require.EqualValues(t, 2, status.Epoch)
	require.Equal(t, "fill", status.Holder)
	require.NoError(t, server.Ready())
	stop()
	require.NoError(t, server.Err())

	report, err := walcheck.Verify(dir)
	require.NoError(t, err)
	require.EqualValues(t, 5000, report.LastTxid)
	require.EqualValues(t, 5000, report.Records)
	require.EqualValues(t, report.MarkIndex, report.LastIndex)
	require.Zero(t, report.TornBytes)

	server, _ = start(t, options(t, dir))
	log = dial(t, server.Addr())
	grant, err = log.AcquireEpoch(within(t), "nn2")
	require.NoError(t, err)
	require.Equal(t, editlog.Grant{Epoch: 3, LastTxid: 5000, Address: server.Addr()}, grant)
	requireRecords(t, log, 1, 5000)
	fill(t, log, 6000)
	requireRecords(t, log, 1, 6000)
}

func TestManyRestartsWithRaftPortThatChanges(t *testing.T) {
	dir := t.TempDir()
	for i := range uint64(4) {
		o := options(t, dir)
		o.SnapshotEntries = 10
		if i%2 == 1 {
			o.ListenRaft = "127.0.0.1:0"
		}
		s, stop := start(t, o)
		l := dial(t, s.Addr())
		fill(t, l, (i+1)*300)
		requireRecords(t, l, 1, (i+1)*300)
		require.NoError(t, s.group.raft.Snapshot().Error()) // the next start begins with it
		stop()
	}
}

func TestALowerEpochIsFenced(t *testing.T) {
	server, _ := start(t, options(t, t.TempDir()))
	log := dial(t, server.Addr())
	old, oldGrant, oldWatch := open(t, log, "old")
	require.NoError(t, old.TryAppend(1, recordsOf(1, 10)))
	oldWatch.until(t, 10)
	next, grant, nextWatch := open(t, log, "new")
	require.Equal(t, oldGrant.Epoch+1, grant.Epoch)
	require.EqualValues(t, 10, grant.LastTxid)
	require.NoError(t, old.TryAppend(11, recordsOf(11, 5)))
	err := oldWatch.failure(t)
	requireKind(t, fault.Fenced, err)
	require.Contains(t, err.Error(), "new")
	requireKind(t, fault.Fenced, old.TryAppend(16, recordsOf(16, 1)))
	require.NoError(t, next.TryAppend(11, recordsOf(11, 5)))
	nextWatch.until(t, 15)
	requireRecords(t, log, 1, 15)

	// An epoch that nobody acquired.
	_, watch := openAt(t, log, editlog.Grant{Epoch: grant.Epoch, LastTxid: 15, Address: server.Addr()})
	_ = watch
	strange, strangeWatch := openAt(t, log, editlog.Grant{Epoch: 99, LastTxid: 15, Address: server.Addr()})
	require.NoError(t, strange.TryAppend(16, recordsOf(16, 1)))
	requireKind(t, fault.Protocol, strangeWatch.failure(t))
}

func TestGapAndDuplicateAreRefused(t *testing.T) {
	s, _ := start(t, options(t, t.TempDir()))
	log := dial(t, s.Addr())
	fill(t, log, 20)
	grant, err := log.AcquireEpoch(within(t), "nn")
	require.NoError(t, err)
	for _, wrong := range []uint64{1, 19, 20, 22, 1000} {
		lie := grant
		lie.LastTxid = wrong - 1
		w, watch := openAt(t, log, lie)
		require.NoError(t, w.TryAppend(wrong, recordsOf(wrong, 2)))
		err := watch.failure(t)
		requireKind(t, fault.Gap, err)
		require.Contains(t, err.Error(), "expects txid 21")
	}
	w, watch := openAt(t, log, grant)
	require.NoError(t, w.TryAppend(21, recordsOf(21, 2)))
	watch.until(t, 22)
	requireRecords(t, log, 1, 22)
}

func TestBadBatchesAreRefused(t *testing.T) {
	s, _ := start(t, options(t, t.TempDir()))
	log := dial(t, s.Addr())
	w, _, watch := open(t, log, "nn")
	requireKind(t, fault.Invalid, w.TryAppend(1, nil))
	requireKind(t, fault.Invalid, w.TryAppend(1, make([][]byte, limits.BatchRecordsMax+1)))
	requireKind(t, fault.Invalid, w.TryAppend(1, [][]byte{make([]byte, limits.BatchBytesMax+1)}))
	requireKind(t, fault.Gap, w.TryAppend(2, recordsOf(2, 1)))
	large := bytes.Repeat([]byte{7}, limits.BatchBytesMax) // the largest one passes
	require.NoError(t, w.TryAppend(1, [][]byte{large}))
	watch.until(t, 1)
	require.NoError(t, w.TryAppend(2, [][]byte{{1}, {}}))
	requireKind(t, fault.Invalid, watch.failure(t))
	require.NoError(t, log.Replay(within(t), 1, 1, func(b editlog.Batch) error {
		require.Equal(t, large, b.Records[0])
		return nil
	}))
	_, err := log.AcquireEpoch(within(t), string(bytes.Repeat([]byte("x"), limits.HolderBytesMax+1)))
	requireKind(t, fault.Invalid, err)
}

func TestTailFollowsNewBatches(t *testing.T) {
	s, stop := start(t, options(t, t.TempDir()))
	log := dial(t, s.Addr())
	fill(t, log, 100)
	ctx, cancel := context.WithCancel(within(t))
	seen := make(chan uint64, 10_000)
	ended := make(chan error, 1)
	go func() {
		next := uint64(50)
		ended <- log.Tail(ctx, next, func(b editlog.Batch) error {
			for _, got := range b.Records {
				if !bytes.Equal(got, record(next)) {
					t.Errorf("txid %d differs", next)
				}
				seen <- next
				next++
			}
			return nil
		})
	}()
	await := func(want uint64) {
		t.Helper()
		for {
			select {
			case got := <-seen:
				if got == want {
					return
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("txid %d did not arrive", want)
			}
		}
	}
	await(100)
	fill(t, log, 2000)
	await(2000)
	cancel()
	requireKind(t, fault.Closed, <-ended)

	// A follower is told when the server stops.
	go func() { ended <- log.Tail(within(t), 1, func(editlog.Batch) error { return nil }) }()
	fill(t, log, 2001)
	stop()
	require.Error(t, <-ended)
}

func TestStartRefusals(t *testing.T) {
	dir := t.TempDir()
	s, stop := start(t, options(t, dir))
	_, err := Start(options(t, dir))
	requireKind(t, fault.Busy, err)
	_, err = walcheck.Verify(dir)
	requireKind(t, fault.Busy, err)
	o := options(t, t.TempDir())
	o.ListenGRPC = s.Addr()
	_, err = Start(o)
	requireKind(t, fault.Unavailable, err)
	stop()
	o = options(t, dir)
	o.NodeID = "other"
	_, err = Start(o)
	requireKind(t, fault.Invalid, err)
	for name, bad := range map[string]func(*Options){
		"no directory": func(o *Options) { o.Directory = "" },
		"small files":  func(o *Options) { o.SegmentBytes = 1 },
		"not a peer": func(o *Options) {
			o.NodeID, o.Peers = "a", []Peer{{NodeID: "b", Raft: "127.0.0.1:1", GRPC: "127.0.0.1:2"}}
		},
		"twice": func(o *Options) {
			o.NodeID, o.Peers = "b", []Peer{{NodeID: "b", Raft: "127.0.0.1:1", GRPC: "127.0.0.1:2"},
				{NodeID: "b", Raft: "127.0.0.1:3", GRPC: "127.0.0.1:4"}}
		},
		"bad address": func(o *Options) {
			o.NodeID, o.Peers = "b",
				[]Peer{{NodeID: "b", Raft: "x", GRPC: "127.0.0.1:2"}}
		},
	} {
		o := options(t, t.TempDir())
		bad(&o)
		_, err := Start(o)
		require.ErrorIs(t, err, fault.Invalid, name)
	}
	_, err = walcheck.Verify(t.TempDir())
	requireKind(t, fault.NotFound, err)
}

func TestDumpGivesEveryEntry(t *testing.T) {
	dir := t.TempDir()
	s, stop := start(t, options(t, dir))
	l := dial(t, s.Addr())
	fill(t, l, 50)
	old := editlog.Grant{Epoch: 1, LastTxid: 70, Address: s.Addr()}
	w, watch := openAt(t, l, old) // a refused batch stays in the log
	require.NoError(t, w.TryAppend(71, recordsOf(71, 1)))
	requireKind(t, fault.Gap, watch.failure(t))
	stop()
	next, acquired, refused := uint64(1), 0, 0
	require.NoError(t, walcheck.Dump(dir, func(dumped walcheck.DumpEntry) error {
		switch {
		case dumped.Refused != nil:
			require.ErrorIs(t, dumped.Refused, fault.Gap)
			refused++
		case dumped.Acquire:
			acquired++
			require.Equal(t, "fill", dumped.Holder)
			require.EqualValues(t, 1, dumped.Epoch)
		default:
			require.Equal(t, next, dumped.FirstTxid)
			next += uint64(len(dumped.Records))
		}
		return nil
	}))
	require.EqualValues(t, 51, next)
	require.Equal(t, 1, acquired)
	require.Equal(t, 1, refused)
}
