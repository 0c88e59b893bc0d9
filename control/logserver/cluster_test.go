package logserver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/control/editlog"
	"github.com/whispering-woods/ww/control/logserver/checkpoint"
	"github.com/whispering-woods/ww/control/logserver/walcheck"
	"github.com/whispering-woods/ww/internal/fault"
)

// cluster is a group of servers in this process.
type cluster struct {
	t       *testing.T
	peers   []Peer
	dirs    []string
	servers []*Server // nil = not running
}

// freeAddresses picks ports that nobody uses right now, below the range that
// Linux gives away by itself (32768 and up): a server that is down keeps its own.
func freeAddresses(t *testing.T, n int) []string {
	t.Helper()
	var out []string
	for len(out) < n {
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000)))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		require.NoError(t, err)
		defer listener.Close()
		out = append(out, listener.Addr().String())
	}
	return out
}

func newCluster(t *testing.T, n int) *cluster {
	t.Helper()
	c := &cluster{t: t, servers: make([]*Server, n)}
	addresses := freeAddresses(t, 2*n)
	for i := range n {
		c.peers = append(c.peers, Peer{NodeID: fmt.Sprintf("log%d", i+1), Raft: addresses[2*i], GRPC: addresses[2*i+1]})
		c.dirs = append(c.dirs, t.TempDir())
	}
	for i := range n {
		c.start(i)
	}
	t.Cleanup(func() {
		for i := range n {
			c.stop(i)
		}
	})
	return c
}

func (c *cluster) start(i int) {
	c.t.Helper()
	o := options(c.t, c.dirs[i])
	o.NodeID, o.Peers, o.ListenGRPC = c.peers[i].NodeID, c.peers, c.peers[i].GRPC
	s, err := Start(o)
	require.NoError(c.t, err)
	c.servers[i] = s
}

func (c *cluster) stop(i int) {
	if s := c.servers[i]; s != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.Close(ctx)
		c.servers[i] = nil
	}
}

// crash cuts a server off at once, without handing the lead on, and ends it.
func (c *cluster) crash(i int) {
	c.servers[i].fail(fault.New(fault.Disk, "test", "pulled the plug"))
	require.ErrorIs(c.t, c.servers[i].Ready(), fault.Disk)
	require.NoError(c.t, c.servers[i].Err(), "with peers the process lives on, and says why it does not serve")
	c.stop(i)
}

func (c *cluster) addresses() []string {
	var out []string
	for _, peer := range c.peers {
		out = append(out, peer.GRPC)
	}
	return out
}

// at is the number of the server with an address.
func (c *cluster) at(address string) int {
	for i, peer := range c.peers {
		if peer.GRPC == address {
			return i
		}
	}
	c.t.Fatalf("no server at %s", address)
	return -1
}

// await polls until a server has applied a txid.
func (c *cluster) await(i int, txid uint64) {
	c.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		view := c.servers[i].fsm.view()
		if view.LastTxid >= txid {
			return
		}
		select {
		case <-view.news:
		case <-deadline:
			c.t.Fatalf("server %d knows only of txid %d, not of %d", i, view.LastTxid, txid)
		}
	}
}

func TestLeaderDiesAndNothingAcknowledgedIsLost(t *testing.T) {
	c := newCluster(t, 3)
	l := dial(t, c.addresses()...)
	acked := uint64(0)
	for range 3 {
		w, grant, watch := open(t, l, "nn")
		require.GreaterOrEqual(t, grant.LastTxid, acked)
		requireRecords(t, l, 1, grant.LastTxid)
		leader := c.at(grant.Address)
		next := grant.LastTxid + 1
		crashAt := next + 500
		for {
			if err := w.Append(within(t), next, recordsOf(next, 5)); err != nil {
				break
			}
			next += 5
			if next == crashAt {
				c.crash(leader)
			}
		}
		t.Logf("as it should: %v", watch.failure(t))
		for {
			select {
			case last := <-watch.durable:
				acked = last
				continue
			default:
			}
			break
		}
		require.GreaterOrEqual(t, acked, grant.LastTxid)
		began := time.Now()
		fresh, err := l.AcquireEpoch(within(t), "after")
		require.NoError(t, err)
		t.Logf("a new leader granted an epoch after %s", time.Since(began))
		require.NotEqual(t, grant.Address, fresh.Address)
		require.GreaterOrEqual(t, fresh.LastTxid, acked)

		// The old epoch is dead at the new leader too.
		stale := grant
		stale.Address, stale.LastTxid = fresh.Address, fresh.LastTxid
		late, lateWatch := openAt(t, l, stale)
		require.NoError(t, late.TryAppend(fresh.LastTxid+1, recordsOf(fresh.LastTxid+1, 1)))
		requireKind(t, fault.Fenced, lateWatch.failure(t))

		fill(t, l, fresh.LastTxid+100)
		acked = fresh.LastTxid + 100
		c.start(leader)
		c.await(leader, acked)
	}
	// Every server has every record, and a follower may be tailed.
	for i := range c.servers {
		c.await(i, acked)
	}
	for i := range c.servers {
		c.stop(i)
		next := uint64(1)
		require.NoError(t, walcheck.Dump(c.dirs[i], func(d walcheck.DumpEntry) error {
			if d.Refused != nil || d.Acquire {
				return nil
			}
			require.Equal(t, next, d.FirstTxid)
			for _, got := range d.Records {
				require.Equal(t, record(next), got)
				next++
			}
			return nil
		}))
		require.Greater(t, next, acked)
	}
}

// TestOverruledTailIsCutOff: what a lonely leader wrote and nobody
// acknowledged gives way to what the others agreed on meanwhile.
func TestOverruledTailIsCutOff(t *testing.T) {
	c := newCluster(t, 3)
	l := dial(t, c.addresses()...)
	fill(t, l, 50)
	w, grant, watch := open(t, l, "lonely")
	lonely := c.at(grant.Address)
	// At once: a leader that misses the others for long steps down.
	for i, s := range c.servers {
		if i != lonely {
			s.transport.cut()
		}
	}
	lie := []byte("this must never be read")
	require.NoError(t, w.TryAppend(51, [][]byte{lie, lie, lie}))
	err := watch.failure(t)
	for i := range c.servers {
		if i != lonely {
			c.stop(i)
		}
	}
	require.Equal(t, fault.Retryable, fault.ClassOf(err), "%v", err)
	w.Close()
	report := func() *walcheck.Report {
		c.stop(lonely)
		report, err := walcheck.Verify(c.dirs[lonely])
		require.NoError(t, err)
		return report
	}
	require.EqualValues(t, 53, report().LastTxid, "the lonely leader has them on its disk")
	for i := range c.servers {
		if i != lonely {
			c.start(i)
		}
	}
	fill(t, l, 80)
	c.start(lonely)
	c.await(lonely, 80)
	requireRecords(t, l, 1, 80)
	c.stop(lonely)
	c.start(lonely)
	c.await(lonely, 80)
	require.EqualValues(t, 80, report().LastTxid)
	c.start(lonely)
	require.NoError(t, walcheck.Dump(copyTree(t, c.dirs[lonely]), func(d walcheck.DumpEntry) error {
		for _, got := range d.Records {
			require.NotEqual(t, lie, got)
		}
		return nil
	}))
}

func TestFollowersTellWhoLeads(t *testing.T) {
	c := newCluster(t, 3)
	l := dial(t, c.addresses()...)
	grant, err := l.AcquireEpoch(within(t), "nn")
	require.NoError(t, err)
	fill(t, l, 10)
	leader := c.at(grant.Address)
	for i := range c.servers {
		c.await(i, 10)
		status := l.Status(within(t))[i]
		require.True(t, status.Ready, status.Error)
		require.Equal(t, i == leader, status.Leader)
		require.Equal(t, grant.Address, status.LeaderAddress)
		if i == leader {
			continue
		}
		// A follower serves a following Tail, but no appends and no replay.
		follower, err := editlog.Dial(editlog.Options{Addresses: []string{c.peers[i].GRPC}})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, err = follower.AcquireEpoch(ctx, "nn")
		cancel()
		requireKind(t, fault.Unavailable, err)
		require.NoError(t, follower.Close())
	}
}

// TestRaftPortMeetsStrangers: what does not say the preamble never reaches
// raft's decoder.
func TestRaftPortMeetsStrangers(t *testing.T) {
	c := newCluster(t, 3)
	l := dial(t, c.addresses()...)
	fill(t, l, 10)
	for _, hello := range []string{"GET / HTTP/1.1\r\n\r\n", "\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff", preamble + "\x00\xdf\xff\xff\xff\xff\xff"} {
		conn, err := net.Dial("tcp", c.peers[0].Raft)
		require.NoError(t, err)
		_, err = conn.Write([]byte(hello))
		require.NoError(t, err)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(5*time.Second)))
		if hello[0] != preamble[0] {
			_, err = conn.Read(make([]byte, 1))
			require.Error(t, err)
			var timeout net.Error
			require.False(t, asTimeout(err, &timeout), "the connection must be closed at once")
		}
		require.NoError(t, conn.Close())
	}
	fill(t, l, 20)
	requireRecords(t, l, 1, 20)
}

func asTimeout(err error, target *net.Error) bool {
	e, ok := err.(net.Error)
	*target = e
	return ok && e.Timeout()
}

// TestAServerThatLacksWhatWasCutGetsACheckpoint: a follower that was away while
// the others cut their logs is served the checkpoint in the place of the records,
// keeps up from there, leads when the others are gone, and starts again.
func TestAServerThatLacksWhatWasCutGetsACheckpoint(t *testing.T) {
	c := newCluster(t, 3)
	l := dial(t, c.addresses()...)
	grant, err := l.AcquireEpoch(within(t), "nn")
	require.NoError(t, err)
	leader := c.at(grant.Address)
	lagging := (leader + 1) % 3
	third := (leader + 2) % 3
	appendTo(t, l, grant, 1, 100)
	c.await(third, 100)
	c.stop(third)
	early := copyTree(t, c.dirs[third])
	c.start(third)
	c.await(third, 100)
	c.await(lagging, 100)
	c.stop(lagging)

	for txid := uint64(1000); txid <= 3000; txid += 1000 {
		appendTo(t, l, grant, max(txid-999, 101), txid)
		upload(t, l, grant, txid)
	}
	require.Greater(t, c.servers[leader].firstTxidOf(), uint64(1000))
	appendTo(t, l, grant, 3001, 3100)

	c.start(lagging)
	c.await(lagging, 3100)
	s := c.servers[lagging]
	require.Greater(t, s.firstTxidOf(), uint64(1000), "what was cut does not come back")
	got := s.keeper.files.All()
	require.Len(t, got, 1)
	require.EqualValues(t, 3000, got[0].Head.Txid)
	require.True(t, got[0].Received)

	// It starts again with it, while it is new and alone in the directory.
	c.stop(lagging)
	report, err := walcheck.Verify(c.dirs[lagging])
	require.NoError(t, err)
	require.EqualValues(t, 3100, report.LastTxid)
	c.start(lagging)
	c.await(lagging, 3100)
	// A small snapshot of its own is what raft begins with the next time: the
	// entry in front of its log is then known from the checkpoint only.
	require.NoError(t, c.servers[lagging].group.raft.Snapshot().Error())
	c.stop(lagging)
	c.start(lagging)
	c.await(lagging, 3100)

	// It leads: the third server is so far behind that it needs the checkpoint, too.
	c.stop(third)
	appendTo(t, l, grant, 3101, 3200)
	c.await(lagging, 3200)
	c.crash(leader)
	c.dirs[third] = early
	c.start(third)
	grant, err = l.AcquireEpoch(within(t), "nn2")
	require.NoError(t, err)
	require.EqualValues(t, 3200, grant.LastTxid)
	require.Equal(t, c.peers[lagging].GRPC, grant.Address)
	c.await(third, 3200)
	require.Greater(t, c.servers[third].firstTxidOf(), uint64(1000))
	found, err := download(t, l, grant, 0)
	require.NoError(t, err)
	require.EqualValues(t, 3000, found.Txid)
	requireRecords(t, l, 3001, 3200)
	appendTo(t, l, grant, 3201, 4000)
	upload(t, l, grant, 4000)

	// The one that led before follows.
	c.start(leader)
	c.await(leader, 4000)
}

// TestAFollowerFetchesCheckpointsAndCutsItsLog calls the fetch, which runs every
// few seconds.
func TestAFollowerFetchesCheckpointsAndCutsItsLog(t *testing.T) {
	c := newCluster(t, 3)
	l := dial(t, c.addresses()...)
	grant, err := l.AcquireEpoch(within(t), "nn")
	require.NoError(t, err)
	follower := (c.at(grant.Address) + 1) % 3
	s := c.servers[follower]
	for txid := uint64(1000); txid <= 3000; txid += 1000 {
		appendTo(t, l, grant, txid-999, txid)
		upload(t, l, grant, txid)
		c.await(follower, txid)
		require.NoError(t, s.keeper.fetch(within(t)))
		require.NoError(t, s.keeper.fetch(within(t)), "nothing new")
	}
	require.Len(t, s.keeper.files.All(), checkpoint.KeptCount)
	require.Equal(t, c.servers[c.at(grant.Address)].firstTxidOf(), s.firstTxidOf())
	require.Greater(t, s.firstTxidOf(), uint64(1000))
	require.NoError(t, c.servers[c.at(grant.Address)].keeper.fetch(within(t)), "a leader fetches nothing")
	c.stop(follower)
	report, err := walcheck.Verify(c.dirs[follower])
	require.NoError(t, err)
	require.Equal(t, report.FirstTxid, c.servers[c.at(grant.Address)].firstTxidOf())
	c.start(follower)
	appendTo(t, l, grant, 3001, 3100)
	c.await(follower, 3100)
}
