package namenode

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
	"github.com/whispering-woods/ww/test/fakeclock"
)

func TestRestartServesTheSame(t *testing.T) {
	log := newFakeLog()
	cluster := startCluster(t, 1, Options{Log: log})
	for _, name := range []string{"/c", "/a", "/b", "/a/x"} {
		require.NoError(t, cluster.client.mkdir(name))
	}
	status, err := cluster.client.ClusterStatus(contextOf(t), &controlpb.ClusterStatusRequest{})
	require.NoError(t, err)
	request := &controlpb.CreateRequest{Header: cluster.client.header(), Path: "/a/file", Replication: 1,
		ClientName: "test"}
	first, err := cluster.client.Create(contextOf(t), request)
	require.NoError(t, faultOf(err))
	again, err := cluster.client.Create(contextOf(t), request)
	require.NoError(t, faultOf(err), "a retry gets the first answer")
	require.Equal(t, first.Info.FileId, again.Info.FileId)
	require.Equal(t, []string{"a", "b", "c"}, cluster.client.names("/", 2))
	closeServer(t, cluster.server)

	s := ready(t, startServer(t, Options{Log: log}))
	client := dial(t, s.Addr())
	require.Equal(t, []string{"a", "b", "c"}, client.names("/", 2))
	require.Equal(t, []string{"file", "x"}, client.names("/a", 1))
	after, err := client.ClusterStatus(contextOf(t), &controlpb.ClusterStatusRequest{})
	require.NoError(t, err)
	require.Equal(t, status.ClusterId, after.ClusterId)
	require.Equal(t, status.Epoch+1, after.Epoch)
	require.Eventually(t, func() bool {
		again, err = client.Create(contextOf(t), request)
		return faultOf(err) == nil
	}, patience, time.Millisecond, "a retry after a restart")
	require.Equal(t, first.Info.FileId, again.Info.FileId)
}

// A second namenode takes over: the first one answers nobody any more, not
// even reads, and stays down.
func TestNamenodeThatLostItsEpochStopsAtOnce(t *testing.T) {
	for _, how := range []string{"at its next mutation", "idle"} {
		t.Run(how, func(t *testing.T) {
			log := newFakeLog()
			cluster := startCluster(t, 0, Options{Log: log})
			require.NoError(t, cluster.client.mkdir("/mine"))
			other := ready(t, startServer(t, Options{Log: log}))
			if how != "idle" {
				err := cluster.client.mkdir("/late")
				require.ErrorIs(t, err, fault.NotActive)
			}
			select {
			case <-cluster.server.Done():
			case <-time.After(patience):
				require.FailNow(t, "the first namenode goes on")
			}
			require.ErrorIs(t, cluster.server.Err(), fault.Fenced)
			_, err := cluster.client.Stat(contextOf(t), &controlpb.StatRequest{Path: "/mine"})
			require.ErrorIs(t, faultOf(err), fault.NotActive)
			require.Equal(t, []string{"mine"}, dial(t, other.Addr()).names("/", 0))
			require.NoError(t, other.Active())
			require.NoError(t, other.Err())
		})
	}
}

func TestNotActiveWhileTheLogIsAway(t *testing.T) {
	log := newFakeLog()
	log.mu.refuse = fault.New(fault.Unavailable, "acquire epoch", "no leader")
	s := startServer(t, Options{Log: log})
	client := dial(t, s.Addr())
	require.Eventually(t, func() bool {
		_, err := client.Stat(contextOf(t), &controlpb.StatRequest{Path: "/"})
		require.ErrorIs(t, faultOf(err), fault.NotActive)
		return fault.KindOf(faultOf(err)) == fault.NotActive
	}, patience, time.Millisecond)
	log.mu.Lock()
	log.mu.refuse = nil
	log.mu.Unlock()
	ready(t, s)
	require.Empty(t, client.names("/", 0))
}

func TestDamagedLogKeepsTheNamenodeDown(t *testing.T) {
	log := newFakeLog()
	log.mu.records = [][]byte{[]byte("this is no edit record")}
	s := startServer(t, Options{Log: log})
	select {
	case <-s.Done():
	case <-time.After(patience):
		require.FailNow(t, "the namenode goes on")
	}
	require.Error(t, s.Err())
	require.Contains(t, s.Err().Error(), "record of txid 1")
	require.ErrorIs(t, s.Active(), fault.NotActive)
	require.Equal(t, 1, log.length(), "nothing was written behind the damage")
}

func TestStartRefusesBadOptions(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no log":             func(o *Options) { o.Log = nil },
		"bad log address":    func(o *Options) { o.Log, o.LogServers = nil, []string{"nowhere"} },
		"bad listen":         func(o *Options) { o.Listen = "nowhere" },
		"huge mailbox":       func(o *Options) { o.Mailbox = mailboxMax + 1 },
		"too many in flight": func(o *Options) { o.BatchesInFlight = limits.BatchesInFlightMax + 1 },
		"slow heartbeats":    func(o *Options) { o.HeartbeatInterval = time.Hour },
		"bad placement":      func(o *Options) { o.Actor.Placement = "nowhere" },
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{Listen: "127.0.0.1:0", Log: newFakeLog()}
			change(&o)
			_, err := Start(o)
			require.ErrorIs(t, err, fault.Invalid)
		})
	}
}

// The log's epochs name the namenode as its operator does, and its process.
func TestTheLogKnowsTheNameOfItsWriter(t *testing.T) {
	for id, begins := range map[string]string{"nn7": "nn7 ", "": ""} {
		log := newFakeLog()
		s := ready(t, startServer(t, Options{Log: log, ID: id, Listen: "127.0.0.1:0"}))
		host, err := os.Hostname()
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("%s%s:%d (127.0.0.1:0)", begins, host, os.Getpid()),
			log.Status(t.Context())[0].Holder)
		require.NoError(t, s.Close(t.Context()))
	}
}

func TestTakenPort(t *testing.T) {
	s := startServer(t, Options{Log: newFakeLog()})
	_, err := Start(Options{Listen: s.Addr(), Log: newFakeLog()})
	require.ErrorIs(t, err, fault.Unavailable)
}

// A namenode that was stopped for a minute does not declare everybody dead.
func TestPauseOfTheProcessDoesNotCount(t *testing.T) {
	fake := fakeclock.New(time.Unix(100, 0))
	pulse := newPulse(fake, 500*time.Millisecond)
	fake.Advance(time.Second)
	wall, mono := pulse.now()
	require.Equal(t, int64(101_000), wall)
	require.Equal(t, time.Second, mono)
	fake.Advance(time.Minute)
	wall, mono = pulse.now()
	require.Equal(t, int64(161_000), wall)
	require.Equal(t, 3*time.Second, mono, "one pause of 2 s at most")
	fake.Advance(time.Second)
	_, mono = pulse.now()
	require.Equal(t, 4*time.Second, mono)
	fake.Advance(-time.Hour) // a wall clock without a monotonic reading
	_, mono = pulse.now()
	require.Equal(t, 4*time.Second, mono)
}

func TestWaitingReleasesInOrder(t *testing.T) {
	var got []int
	waiting := waiting{durable: 10, release: func(d due) { got = append(got, d.body.(int)) }}
	put := func(txid uint64, n int) { waiting.after(txid, due{body: n}) }
	put(13, 4)
	put(11, 2)
	put(10, 1)
	put(11, 3)
	put(0, 0)
	require.Equal(t, []int{1, 0}, got)
	waiting.advance(10)
	waiting.advance(12)
	require.Equal(t, []int{1, 0, 2, 3}, got)
	put(12, 9)
	waiting.advance(20)
	require.Equal(t, []int{1, 0, 2, 3, 9, 4}, got)
	require.Empty(t, waiting.slots)
	put(21, 5)
	waiting.advance(21)
	require.Equal(t, []int{1, 0, 2, 3, 9, 4, 5}, got)
	put(24, 8)
	put(22, 6)
	put(22, 7)
	var abandoned []int
	waiting.abandon(func(d due) { abandoned = append(abandoned, d.body.(int)) })
	require.Equal(t, []int{6, 7, 8}, abandoned)
	require.Empty(t, waiting.slots)
}

func TestBatchesAreBounded(t *testing.T) {
	batches := batches{records: 100, bytes: limits.BatchBytesMin}
	require.Nil(t, batches.next())
	for i := range 100 + 1 {
		batches.add(uint64(i+1), []byte("x"))
	}
	require.Len(t, batches.queue, 2)
	require.Len(t, batches.next().records, 100)
	require.EqualValues(t, 100+1, batches.queue[1].first)
	require.False(t, batches.full())
	big := make([]byte, limits.BatchBytesMin-1)
	batches.add(100+2, big)
	batches.add(100+3, big)
	batches.add(100+4, big)
	require.True(t, batches.full())
	for next := uint64(1); batches.next() != nil; batches.drop() {
		require.Equal(t, next, batches.next().first)
		next += uint64(len(batches.next().records))
	}
	require.False(t, batches.full())
}
