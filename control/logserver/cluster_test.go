package logserver

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/control/editlog"
	"github.com/whispering-woods/ww/internal/fault"
)

// cluster is a group of servers in this process.
type cluster struct {
	t       *testing.T
	peers   []Peer
	dirs    []string
	servers []*Server // nil = not running
}

// freeAddresses picks ports that nobody uses right now.
func freeAddresses(t *testing.T, n int) []string {
	t.Helper()
	var out []string
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
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
		if view.lastTxid >= txid {
			return
		}
		select {
		case <-view.news:
		case <-deadline:
			c.t.Fatalf("server %d knows only of txid %d, not of %d", i, view.lastTxid, txid)
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
		require.NoError(t, Dump(c.dirs[i], func(d DumpEntry) error {
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
	for i := range c.servers {
		if i != lonely {
			c.stop(i)
		}
	}
	lie := []byte("this must never be read")
	require.NoError(t, w.TryAppend(51, [][]byte{lie, lie, lie}))
	err := watch.failure(t)
	require.Equal(t, fault.Retryable, fault.ClassOf(err), "%v", err)
	w.Close()
	report := func() *Report {
		c.stop(lonely)
		report, err := Verify(c.dirs[lonely])
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
	require.NoError(t, Dump(copyTree(t, c.dirs[lonely]), func(d DumpEntry) error {
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
