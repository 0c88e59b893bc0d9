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
	"github.com/whispering-woods/ww/internal/clock"
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

func newCluster(t *testing.T, count int) *cluster {
	t.Helper()
	group := &cluster{t: t, servers: make([]*Server, count)}
	addresses := freeAddresses(t, 2*count)
	for i := range count {
		group.peers = append(group.peers, Peer{NodeID: fmt.Sprintf("log%d", i+1), Raft: addresses[2*i],
			GRPC: addresses[2*i+1]})
		group.dirs = append(group.dirs, t.TempDir())
	}
	for i := range count {
		group.start(i)
	}
	t.Cleanup(func() {
		for i := range count {
			group.stop(i)
		}
	})
	return group
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
	group := newCluster(t, 3)
	log := dial(t, group.addresses()...)
	acked := uint64(0)
	for range 3 {
		w, grant, watch := open(t, log, "nn")
		require.GreaterOrEqual(t, grant.LastTxid, acked)
		requireRecords(t, log, 1, grant.LastTxid)
		leader := group.at(grant.Address)
		next := grant.LastTxid + 1
		crashAt := next + 500
		for {
			if err := w.Append(within(t), next, recordsOf(next, 5)); err != nil {
				break
			}
			next += 5
			if next == crashAt {
				group.crash(leader)
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
		fresh, err := log.AcquireEpoch(within(t), "after")
		require.NoError(t, err)
		t.Logf("a new leader granted an epoch after %s", time.Since(began))
		require.NotEqual(t, grant.Address, fresh.Address)
		require.GreaterOrEqual(t, fresh.LastTxid, acked)

		// The old epoch is dead at the new leader too.
		stale := grant
		stale.Address, stale.LastTxid = fresh.Address, fresh.LastTxid
		late, lateWatch := openAt(t, log, stale)
		require.NoError(t, late.TryAppend(fresh.LastTxid+1, recordsOf(fresh.LastTxid+1, 1)))
		requireKind(t, fault.Fenced, lateWatch.failure(t))

		fill(t, log, fresh.LastTxid+100)
		acked = fresh.LastTxid + 100
		group.start(leader)
		group.await(leader, acked)
	}
	// Every server has every record, and a follower may be tailed.
	for i := range group.servers {
		group.await(i, acked)
	}
	for i := range group.servers {
		group.stop(i)
		next := uint64(1)
		require.NoError(t, walcheck.Dump(group.dirs[i], func(d walcheck.DumpEntry) error {
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
	group := newCluster(t, 3)
	log := dial(t, group.addresses()...)
	fill(t, log, 50)
	writer, grant, watch := open(t, log, "lonely")
	lonely := group.at(grant.Address)
	// At once: a leader that misses the others for long steps down.
	for i, s := range group.servers {
		if i != lonely {
			s.transport.cut()
		}
	}
	lie := []byte("this must never be read")
	require.NoError(t, writer.TryAppend(51, [][]byte{lie, lie, lie}))
	err := watch.failure(t)
	for i := range group.servers {
		if i != lonely {
			group.stop(i)
		}
	}
	require.Equal(t, fault.Retryable, fault.ClassOf(err), "%v", err)
	writer.Close()
	report := func() *walcheck.Report {
		group.stop(lonely)
		report, err := walcheck.Verify(group.dirs[lonely])
		require.NoError(t, err)
		return report
	}
	require.EqualValues(t, 53, report().LastTxid, "the lonely leader has them on its disk")
	for i := range group.servers {
		if i != lonely {
			group.start(i)
		}
	}
	fill(t, log, 80)
	group.start(lonely)
	group.await(lonely, 80)
	requireRecords(t, log, 1, 80)
	group.stop(lonely)
	group.start(lonely)
	group.await(lonely, 80)
	require.EqualValues(t, 80, report().LastTxid)
	group.start(lonely)
	require.NoError(t, walcheck.Dump(copyTree(t, group.dirs[lonely]), func(d walcheck.DumpEntry) error {
		for _, got := range d.Records {
			require.NotEqual(t, lie, got)
		}
		return nil
	}))
}

func TestFollowersTellWhoLeads(t *testing.T) {
	group := newCluster(t, 3)
	l := dial(t, group.addresses()...)
	grant, err := l.AcquireEpoch(within(t), "nn")
	require.NoError(t, err)
	fill(t, l, 10)
	leader := group.at(grant.Address)
	for i := range group.servers {
		group.await(i, 10)
		status := l.Status(within(t))[i]
		require.True(t, status.Ready, status.Error)
		require.Equal(t, i == leader, status.Leader)
		require.Equal(t, grant.Address, status.LeaderAddress)
		if i == leader {
			continue
		}
		// A follower serves a following Tail, but no appends and no replay.
		follower, err := editlog.Dial(editlog.Options{Addresses: []string{group.peers[i].GRPC}})
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
	log := dial(t, c.addresses()...)
	fill(t, log, 10)
	for _, hello := range []string{"GET / HTTP/1.1\r\n\r\n", "\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff",
		preamble + "\x00\xdf\xff\xff\xff\xff\xff"} {
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
	fill(t, log, 20)
	requireRecords(t, log, 1, 20)
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
	group := newCluster(t, 3)
	log := dial(t, group.addresses()...)
	grant, err := log.AcquireEpoch(within(t), "nn")
	require.NoError(t, err)
	leader := group.at(grant.Address)
	lagging := (leader + 1) % 3
	third := (leader + 2) % 3
	appendTo(t, log, grant, 1, 100)
	group.await(third, 100)
	group.stop(third)
	early := copyTree(t, group.dirs[third])
	group.start(third)
	group.await(third, 100)
	group.await(lagging, 100)
	group.stop(lagging)

	for txid := uint64(1000); txid <= 3000; txid += 1000 {
		appendTo(t, log, grant, max(txid-999, 101), txid)
		upload(t, log, grant, txid)
	}
	require.Greater(t, group.servers[leader].firstTxidOf(), uint64(1000))
	appendTo(t, log, grant, 3001, 3100)

	group.start(lagging)
	group.await(lagging, 3100)
	s := group.servers[lagging]
	require.Greater(t, s.firstTxidOf(), uint64(1000), "what was cut does not come back")
	got := s.keeper.files.All()
	require.Len(t, got, 1)
	require.EqualValues(t, 3000, got[0].Head.Txid)
	require.True(t, got[0].Received)

	// It starts again with it, while it is new and alone in the directory.
	group.stop(lagging)
	report, err := walcheck.Verify(group.dirs[lagging])
	require.NoError(t, err)
	require.EqualValues(t, 3100, report.LastTxid)
	group.start(lagging)
	group.await(lagging, 3100)
	// A small snapshot of its own is what raft begins with the next time: the
	// entry in front of its log is then known from the checkpoint only.
	require.NoError(t, group.servers[lagging].group.raft.Snapshot().Error())
	group.stop(lagging)
	group.start(lagging)
	group.await(lagging, 3100)

	// It leads: the third server is so far behind that it needs the checkpoint, too.
	group.stop(third)
	appendTo(t, log, grant, 3101, 3200)
	group.await(lagging, 3200)
	group.crash(leader)
	group.dirs[third] = early
	group.start(third)
	grant, err = log.AcquireEpoch(within(t), "nn2")
	require.NoError(t, err)
	require.EqualValues(t, 3200, grant.LastTxid)
	require.Equal(t, group.peers[lagging].GRPC, grant.Address)
	group.await(third, 3200)
	require.Greater(t, group.servers[third].firstTxidOf(), uint64(1000))
	found, err := download(t, log, grant, 0)
	require.NoError(t, err)
	require.EqualValues(t, 3000, found.Txid)
	requireRecords(t, log, 3001, 3200)
	appendTo(t, log, grant, 3201, 4000)
	upload(t, log, grant, 4000)

	// The one that led before follows.
	group.start(leader)
	group.await(leader, 4000)
}

// term appends records up to a txid and uploads a checkpoint of it, at whichever server leads: on a busy machine the
// lead changes, and then a new epoch goes on behind what the log has. A server that is to follow hands the lead on.
func (c *cluster) term(ctx context.Context, log *editlog.Log, follower int, grant *editlog.Grant, last uint64) {
	c.t.Helper()
	require.NoError(c.t, clock.Poll(ctx, clock.Real{}, time.Millisecond, func() (err error) {
		if grant.Epoch == 0 {
			if *grant, err = log.AcquireEpoch(ctx, "nn"); err != nil {
				return err
			}
		}
		defer func() {
			if err != nil {
				c.t.Logf("another term: %v", err)
				grant.Epoch = 0
			}
		}()
		if c.at(grant.Address) == follower {
			_ = c.servers[follower].group.raft.LeadershipTransfer().Error() // the next look tells
			return errors.New("the follower leads")
		}
		if grant.LastTxid < last {
			if err := tryAppend(c.t, log, *grant, grant.LastTxid+1, last); err != nil {
				return err
			}
			grant.LastTxid = last
		}
		if _, err = tryUpload(c.t, log, *grant, last); errors.Is(err, fault.Exists) {
			err = nil
		}
		return err
	}))
}

// TestAFollowerFetchesCheckpointsAndCutsItsLog calls the fetch, which runs every few seconds.
func TestAFollowerFetchesCheckpointsAndCutsItsLog(t *testing.T) {
	group := newCluster(t, 3)
	log := dial(t, group.addresses()...)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	grant, err := log.AcquireEpoch(ctx, "nn")
	require.NoError(t, err)
	first := grant.Epoch
	follower := (group.at(grant.Address) + 1) % 3
	s := group.servers[follower]
	for txid := uint64(1000); txid <= 3000; txid += 1000 {
		require.NoError(t, clock.Poll(ctx, clock.Real{}, time.Millisecond, func() error {
			group.term(ctx, log, follower, &grant, txid)
			group.await(follower, txid)
			err := errors.Join(s.keeper.fetch(ctx), s.keeper.fetch(ctx)) // the second time there is nothing new
			if has := s.keeper.files.All(); err == nil && (len(has) == 0 || has[0].Head.Txid < txid) {
				grant.Epoch = 0
				err = errors.New("another one leads")
			}
			return err
		}))
	}
	require.Len(t, s.keeper.files.All(), checkpoint.KeptCount)
	cut := s.firstTxidOf()
	require.Greater(t, cut, uint64(1000))
	leader := group.servers[group.at(grant.Address)]
	if grant.Epoch == first { // else it may lack a checkpoint of before it led
		require.Equal(t, leader.firstTxidOf(), cut)
		require.NoError(t, leader.keeper.fetch(ctx), "a leader fetches nothing")
	}
	group.stop(follower)
	report, err := walcheck.Verify(group.dirs[follower])
	require.NoError(t, err)
	require.Equal(t, cut, report.FirstTxid)
	group.start(follower)
	group.term(ctx, log, follower, &grant, 3100)
	group.await(follower, 3100)
}
