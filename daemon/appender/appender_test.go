package appender

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/dataplane"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/record"
)

const patience = 20 * time.Second

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestRecordsOfManyClientsAreSerialised(t *testing.T) {
	cluster := newFakeCluster("/f")
	rig := start(t, cluster, Limits{})
	const writers, each = 8, 200
	var wait sync.WaitGroup
	var all [writers]*session
	for w := range writers {
		all[w] = rig.open("/f", byte(w+1))
		wait.Go(func() {
			for i := range each {
				all[w].send(fmt.Sprintf("%d-%d", w, i), i == each-1 && w == 0)
			}
		})
	}
	wait.Wait()
	content := func() []byte { return cluster.files["/f"].bytes() }
	for writer, client := range all {
		last := int64(-1)
		for i, options := range client.wait(each) {
			require.NoError(t, options.err)
			require.EqualValues(t, i+1, options.sequence)
			require.Greater(t, options.offset, last, "the order of a client's records is kept")
			last = options.offset
			h, err := record.ParseHeader(content()[options.offset:], options.offset)
			require.NoError(t, err)
			require.Equal(t, byte(writer+1), h.Writer[0])
			require.Equal(t, fmt.Sprintf("%d-%d", writer, i),
				string(content()[options.offset+record.HeaderBytes:][:h.Length]))
		}
		client.Close()
	}
	require.Len(t, cluster.files["/f"].records(t), writers*each)
	require.Equal(t, 1, cluster.appends)
	require.Positive(t, cluster.files["/f"].syncs)
	require.Less(t, cluster.files["/f"].flushes, writers*each+1)
}

func TestOneFlushForAllThatWait(t *testing.T) {
	c := newFakeCluster("/f")
	rig := start(t, c, Limits{BatchRecordsMax: 3})
	file := c.files["/f"]
	hold := make(chan struct{})
	file.with(func() { file.hold = hold })
	client := rig.open("/f", 1)
	client.send("first", false)
	<-file.entered
	for i := range 5 {
		client.send(fmt.Sprint(i), false)
	}
	file.with(func() { file.hold = nil })
	close(hold)
	client.wait(6)
	file.with(func() { require.Equal(t, 3, file.flushes, "1 + 3 + 2 records") })
	client.Close()
}

func TestLargeRecordsArePutTogether(t *testing.T) {
	c := newFakeCluster("/f")
	rig := start(t, c, Limits{})
	s := rig.open("/f", 1)
	large := strings.Repeat("abc", 1<<20)
	s.send(large, false)
	s.send("", false)
	require.NoError(t, errors.Join(s.wait(2)[0].err, s.wait(2)[1].err))
	require.Equal(t, []string{"1/1:" + large, "1/2:"}, c.files["/f"].records(t))
	s.Close()
}

// TestAfterAFailureNothingOvertakes: records that were not acknowledged fail,
// with all later ones of their session, and the next session begins on the
// raster.
func TestAfterAFailureNothingOvertakes(t *testing.T) {
	c := newFakeCluster("/f")
	rig := start(t, c, Limits{BatchRecordsMax: 2})
	file := c.files["/f"]
	client, quiet := rig.open("/f", 1), rig.open("/f", 2)
	client.send("kept", false)
	client.wait(1)
	hold := make(chan struct{})
	file.with(func() { file.hold, file.fail, file.torn = hold, fault.New(fault.LeaseLost, "write", "gone"), 90 })
	for i := range 5 {
		client.send(fmt.Sprint(i), false)
	}
	<-file.entered
	file.with(func() { file.hold = nil })
	close(hold)
	for _, o := range client.wait(6)[1:] {
		require.ErrorIs(t, o.err, fault.Unavailable)
		require.Equal(t, fault.Retryable, fault.ClassOf(o.err))
	}
	client.send("too late", false)
	require.Error(t, client.wait(7)[6].err)
	client.Close()

	quiet.send("other", false) // its session lost nothing
	require.NoError(t, quiet.wait(1)[0].err)
	require.EqualValues(t, record.ResyncBytes, quiet.wait(1)[0].offset)
	quiet.Close()
	again := rig.open("/f", 1)
	again.last = 1
	again.send("0", false)
	again.send("1", false)
	require.NoError(t, again.wait(2)[1].err)
	again.Close()
	require.Equal(t, []string{"1/1:kept", "1/2:0", "2/1:other", "1/3:1"}, file.records(t),
		"one that failed is there, whole, and not twice")
	require.Equal(t, 1, file.aborted)
	b := file.bytes()
	require.True(t, bytes.Equal(make([]byte, 100), b[record.ResyncBytes-100:record.ResyncBytes]), "zeros")
}

func TestALeaseLostInSilenceCostsNothing(t *testing.T) {
	c := newFakeCluster("/f")
	rig := start(t, c, Limits{})
	file := c.files["/f"]
	s := rig.open("/f", 1)
	s.send("a", false)
	s.wait(1)
	file.with(func() { file.writer.broken = fault.New(fault.LeaseLost, "renew lease", "gone") })
	s.send("b", false)
	require.NoError(t, s.wait(2)[1].err)
	require.EqualValues(t, record.ResyncBytes, s.wait(2)[1].offset)
	s.Close()
}

func TestIdleFilesAreSealedAndLeaveNoGap(t *testing.T) {
	c := newFakeCluster("/f")
	rig := start(t, c, Limits{IdleAfter: time.Minute})
	file := c.files["/f"]
	client := rig.open("/f", 1)
	sealed := func(n int) {
		require.Eventually(t, func() bool {
			rig.clock.Advance(time.Minute)
			done := false
			file.with(func() { done = file.sealed == n })
			return done
		}, patience, time.Millisecond)
	}
	client.send("a", false)
	client.wait(1)
	sealed(1)
	client.send("b", false)
	require.EqualValues(t, record.HeaderBytes+1, client.wait(2)[1].offset, "no gap behind a clean end")
	sealed(2)
	file.with(func() { file.info.Modified = file.info.Modified.Add(time.Second) }) // somebody else was here
	client.send("c", false)
	require.EqualValues(t, record.ResyncBytes, client.wait(3)[2].offset)
	client.Close()
	sealed(3)
	require.Eventually(t, func() bool {
		rig.mu.Lock()
		defer rig.mu.Unlock()
		return len(rig.mu.files) == 0
	}, patience, time.Millisecond, "nobody has it open")
	require.Equal(t, []string{"1/1:a", "1/2:b", "1/3:c"}, file.records(t))
}

func TestTheHolderOfTheLeaseIsTold(t *testing.T) {
	cluster := newFakeCluster("/f")
	rig := start(t, cluster, Limits{})
	held := &fault.Error{Kind: fault.LeaseHeld, Holder: record.HolderName("other", "other:2")}
	cluster.refuse = held
	open := func(path string) error {
		s, err := rig.Open(t.Context(), dataplane.RecordsOpen{Path: path})
		require.Nil(t, s)
		return err
	}
	var redirect *dataplane.RedirectError
	require.ErrorAs(t, open("/f"), &redirect)
	require.Equal(t, "other", redirect.NodeID)
	require.Equal(t, "other:2", redirect.Address)
	require.ErrorIs(t, redirect, fault.LeaseHeld)
	cluster.refuse = &fault.Error{Kind: fault.LeaseHeld, Holder: record.HolderName("me", "me:0")}
	require.ErrorIs(t, open("/f"), fault.Unavailable, "our own, from before")
	cluster.refuse = &fault.Error{Kind: fault.LeaseHeld, Holder: "host:7"}
	err := open("/f")
	require.ErrorIs(t, err, fault.LeaseHeld)
	require.False(t, errors.As(err, &redirect))
	cluster.refuse = nil
	require.ErrorIs(t, open("/none"), fault.NotFound)
}

// TestARedirectAfterSilence: the lease was given up, and another node has it.
func TestARedirectAfterSilence(t *testing.T) {
	c := newFakeCluster("/f")
	rig := start(t, c, Limits{})
	file := c.files["/f"]
	s := rig.open("/f", 1)
	file.with(func() {
		file.writer.broken = fault.New(fault.LeaseLost, "renew lease", "gone")
		c.refuse = &fault.Error{Kind: fault.LeaseHeld, Holder: record.HolderName("other", "other:2")}
	})
	s.send("a", false)
	var redirect *dataplane.RedirectError
	require.ErrorAs(t, s.wait(1)[0].err, &redirect)
	s.Close()
	require.Empty(t, file.records(t))
}

func TestAPathThatMeansAnotherFile(t *testing.T) {
	c := newFakeCluster("/f")
	rig := start(t, c, Limits{})
	old := c.files["/f"]
	client := rig.open("/f", 1)
	client.send("old", false)
	client.wait(1)
	renewed := c.create("/f")
	again := rig.open("/f", 2)
	again.send("new", false)
	require.NoError(t, again.wait(1)[0].err)
	require.Equal(t, []string{"1/1:old"}, old.records(t))
	require.Equal(t, []string{"2/1:new"}, renewed.records(t))
	require.Equal(t, 1, old.sealed)
	client.Close()
	again.Close()
}

func TestBounds(t *testing.T) {
	c := newFakeCluster("/f", "/g", "/h")
	rig := start(t, c, Limits{FilesMax: 2, QueueBytesMax: record.PayloadBytesMax})
	file := c.files["/f"]
	client, other := rig.open("/f", 1), rig.open("/g", 1)
	_, err := rig.Open(t.Context(), dataplane.RecordsOpen{Path: "/h"})
	require.ErrorIs(t, err, fault.Busy)
	hold := make(chan struct{})
	file.with(func() { file.hold = hold })
	client.send(strings.Repeat("x", record.PayloadBytesMax), false)
	<-file.entered
	other.send("y", false)
	require.ErrorIs(t, other.wait(1)[0].err, fault.Busy)
	other.send("z", false)
	require.ErrorIs(t, other.wait(2)[1].err, fault.Busy, "nothing overtakes")
	file.with(func() { file.hold = nil })
	close(hold)
	require.NoError(t, client.wait(1)[0].err)
	require.Eventually(t, func() bool {
		rig.mu.Lock()
		defer rig.mu.Unlock()
		return rig.mu.queuedBytes == 0
	}, patience, time.Millisecond)
	client.Close()
	other.Close()
	_, err = Limits{QueueBytesMax: 1}.withDefaults()
	require.ErrorIs(t, err, fault.Invalid)
}

func TestCloseEndsWhatIsUnderWayAndSeals(t *testing.T) {
	cluster := newFakeCluster("/f", "/g")
	rig := start(t, cluster, Limits{})
	file := cluster.files["/f"]
	hold := make(chan struct{})
	file.with(func() { file.hold = hold })
	client, idle := rig.open("/f", 1), rig.open("/g", 1)
	client.send("a", false)
	<-file.entered
	client.send("b", false)
	closed := make(chan error)
	go func() { closed <- rig.Close(context.Background()) }()
	require.Eventually(t, func() bool {
		rig.mu.Lock()
		defer rig.mu.Unlock()
		return rig.mu.stopped
	}, patience, time.Millisecond)
	client.send("c", false)
	require.ErrorIs(t, client.wait(1)[0].err, fault.Unavailable)
	_, err := rig.Open(t.Context(), dataplane.RecordsOpen{Path: "/f"})
	require.ErrorIs(t, err, fault.Unavailable)
	file.with(func() { file.hold = nil })
	close(hold)
	require.NoError(t, <-closed)
	require.NoError(t, errors.Join(client.wait(3)[1].err, client.wait(3)[2].err))
	require.Equal(t, []string{"1/1:a", "1/2:b"}, file.records(t))
	require.Equal(t, 1, file.sealed)
	require.Equal(t, 1, cluster.files["/g"].sealed)
	require.True(t, cluster.closed)
	client.Close() // the data server closes them after the appender
	idle.Close()
}

func TestOpenThatTakesTooLong(t *testing.T) {
	c := newFakeCluster("/f")
	rig := start(t, c, Limits{})
	file := c.files["/f"]
	hold := make(chan struct{})
	file.with(func() { file.hold = hold })
	client := rig.open("/f", 1)
	client.send("a", false)
	<-file.entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := rig.Open(ctx, dataplane.RecordsOpen{Path: "/f"})
	require.ErrorIs(t, err, fault.Unavailable)
	file.with(func() { file.hold = nil })
	close(hold)
	client.wait(1)
	client.Close()
}
