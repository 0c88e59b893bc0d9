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
	c := newFakeCluster("/f")
	a := start(t, c, Limits{})
	const writers, each = 8, 200
	var wait sync.WaitGroup
	var all [writers]*session
	for w := range writers {
		all[w] = a.open("/f", byte(w+1))
		wait.Go(func() {
			for i := range each {
				all[w].send(fmt.Sprintf("%d-%d", w, i), i == each-1 && w == 0)
			}
		})
	}
	wait.Wait()
	content := func() []byte { return c.files["/f"].bytes() }
	for w, s := range all {
		last := int64(-1)
		for i, o := range s.wait(each) {
			require.NoError(t, o.err)
			require.EqualValues(t, i+1, o.sequence)
			require.Greater(t, o.offset, last, "the order of a client's records is kept")
			last = o.offset
			h, err := record.ParseHeader(content()[o.offset:], o.offset)
			require.NoError(t, err)
			require.Equal(t, byte(w+1), h.Writer[0])
			require.Equal(t, fmt.Sprintf("%d-%d", w, i), string(content()[o.offset+record.HeaderBytes:][:h.Length]))
		}
		s.Close()
	}
	require.Len(t, c.files["/f"].records(t), writers*each)
	require.Equal(t, 1, c.appends)
	require.Positive(t, c.files["/f"].syncs)
	require.Less(t, c.files["/f"].flushes, writers*each+1)
}

func TestOneFlushForAllThatWait(t *testing.T) {
	c := newFakeCluster("/f")
	a := start(t, c, Limits{BatchRecordsMax: 3})
	f := c.files["/f"]
	hold := make(chan struct{})
	f.with(func() { f.hold = hold })
	s := a.open("/f", 1)
	s.send("first", false)
	<-f.entered
	for i := range 5 {
		s.send(fmt.Sprint(i), false)
	}
	f.with(func() { f.hold = nil })
	close(hold)
	s.wait(6)
	f.with(func() { require.Equal(t, 3, f.flushes, "1 + 3 + 2 records") })
	s.Close()
}

func TestLargeRecordsArePutTogether(t *testing.T) {
	c := newFakeCluster("/f")
	a := start(t, c, Limits{})
	s := a.open("/f", 1)
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
	a := start(t, c, Limits{BatchRecordsMax: 2})
	f := c.files["/f"]
	s, quiet := a.open("/f", 1), a.open("/f", 2)
	s.send("kept", false)
	s.wait(1)
	hold := make(chan struct{})
	f.with(func() { f.hold, f.fail, f.torn = hold, fault.New(fault.LeaseLost, "write", "gone"), 90 })
	for i := range 5 {
		s.send(fmt.Sprint(i), false)
	}
	<-f.entered
	f.with(func() { f.hold = nil })
	close(hold)
	for _, o := range s.wait(6)[1:] {
		require.ErrorIs(t, o.err, fault.Unavailable)
		require.Equal(t, fault.Retryable, fault.ClassOf(o.err))
	}
	s.send("too late", false)
	require.Error(t, s.wait(7)[6].err)
	s.Close()

	quiet.send("other", false) // its session lost nothing
	require.NoError(t, quiet.wait(1)[0].err)
	require.EqualValues(t, record.ResyncBytes, quiet.wait(1)[0].offset)
	quiet.Close()
	again := a.open("/f", 1)
	again.last = 1
	again.send("0", false)
	again.send("1", false)
	require.NoError(t, again.wait(2)[1].err)
	again.Close()
	require.Equal(t, []string{"1/1:kept", "1/2:0", "2/1:other", "1/3:1"}, f.records(t), "one that failed is there, whole, and not twice")
	require.Equal(t, 1, f.aborted)
	b := f.bytes()
	require.True(t, bytes.Equal(make([]byte, 100), b[record.ResyncBytes-100:record.ResyncBytes]), "zeros")
}

func TestALeaseLostInSilenceCostsNothing(t *testing.T) {
	c := newFakeCluster("/f")
	a := start(t, c, Limits{})
	f := c.files["/f"]
	s := a.open("/f", 1)
	s.send("a", false)
	s.wait(1)
	f.with(func() { f.writer.broken = fault.New(fault.LeaseLost, "renew lease", "gone") })
	s.send("b", false)
	require.NoError(t, s.wait(2)[1].err)
	require.EqualValues(t, record.ResyncBytes, s.wait(2)[1].offset)
	s.Close()
}

func TestIdleFilesAreSealedAndLeaveNoGap(t *testing.T) {
	c := newFakeCluster("/f")
	a := start(t, c, Limits{IdleAfter: time.Minute})
	f := c.files["/f"]
	s := a.open("/f", 1)
	sealed := func(n int) {
		require.Eventually(t, func() bool {
			a.clock.Advance(time.Minute)
			done := false
			f.with(func() { done = f.sealed == n })
			return done
		}, patience, time.Millisecond)
	}
	s.send("a", false)
	s.wait(1)
	sealed(1)
	s.send("b", false)
	require.EqualValues(t, record.HeaderBytes+1, s.wait(2)[1].offset, "no gap behind a clean end")
	sealed(2)
	f.with(func() { f.info.Modified = f.info.Modified.Add(time.Second) }) // somebody else was here
	s.send("c", false)
	require.EqualValues(t, record.ResyncBytes, s.wait(3)[2].offset)
	s.Close()
	sealed(3)
	require.Eventually(t, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.mu.files) == 0
	}, patience, time.Millisecond, "nobody has it open")
	require.Equal(t, []string{"1/1:a", "1/2:b", "1/3:c"}, f.records(t))
}

func TestTheHolderOfTheLeaseIsTold(t *testing.T) {
	c := newFakeCluster("/f")
	a := start(t, c, Limits{})
	held := &fault.Error{Kind: fault.LeaseHeld, Holder: record.HolderName("other", "other:2")}
	c.refuse = held
	open := func(path string) error {
		s, err := a.Open(t.Context(), dataplane.RecordsOpen{Path: path})
		require.Nil(t, s)
		return err
	}
	var redirect *dataplane.RedirectError
	require.ErrorAs(t, open("/f"), &redirect)
	require.Equal(t, "other", redirect.NodeID)
	require.Equal(t, "other:2", redirect.Address)
	require.ErrorIs(t, redirect, fault.LeaseHeld)
	c.refuse = &fault.Error{Kind: fault.LeaseHeld, Holder: record.HolderName("me", "me:0")}
	require.ErrorIs(t, open("/f"), fault.Unavailable, "our own, from before")
	c.refuse = &fault.Error{Kind: fault.LeaseHeld, Holder: "host:7"}
	err := open("/f")
	require.ErrorIs(t, err, fault.LeaseHeld)
	require.False(t, errors.As(err, &redirect))
	c.refuse = nil
	require.ErrorIs(t, open("/none"), fault.NotFound)
}

// TestARedirectAfterSilence: the lease was given up, and another node has it.
func TestARedirectAfterSilence(t *testing.T) {
	c := newFakeCluster("/f")
	a := start(t, c, Limits{})
	f := c.files["/f"]
	s := a.open("/f", 1)
	f.with(func() {
		f.writer.broken = fault.New(fault.LeaseLost, "renew lease", "gone")
		c.refuse = &fault.Error{Kind: fault.LeaseHeld, Holder: record.HolderName("other", "other:2")}
	})
	s.send("a", false)
	var redirect *dataplane.RedirectError
	require.ErrorAs(t, s.wait(1)[0].err, &redirect)
	s.Close()
	require.Empty(t, f.records(t))
}

func TestAPathThatMeansAnotherFile(t *testing.T) {
	c := newFakeCluster("/f")
	a := start(t, c, Limits{})
	old := c.files["/f"]
	s := a.open("/f", 1)
	s.send("old", false)
	s.wait(1)
	renewed := c.create("/f")
	again := a.open("/f", 2)
	again.send("new", false)
	require.NoError(t, again.wait(1)[0].err)
	require.Equal(t, []string{"1/1:old"}, old.records(t))
	require.Equal(t, []string{"2/1:new"}, renewed.records(t))
	require.Equal(t, 1, old.sealed)
	s.Close()
	again.Close()
}

func TestBounds(t *testing.T) {
	c := newFakeCluster("/f", "/g", "/h")
	a := start(t, c, Limits{FilesMax: 2, QueueBytesMax: record.PayloadBytesMax})
	f := c.files["/f"]
	s, other := a.open("/f", 1), a.open("/g", 1)
	_, err := a.Open(t.Context(), dataplane.RecordsOpen{Path: "/h"})
	require.ErrorIs(t, err, fault.Busy)
	hold := make(chan struct{})
	f.with(func() { f.hold = hold })
	s.send(strings.Repeat("x", record.PayloadBytesMax), false)
	<-f.entered
	other.send("y", false)
	require.ErrorIs(t, other.wait(1)[0].err, fault.Busy)
	other.send("z", false)
	require.ErrorIs(t, other.wait(2)[1].err, fault.Busy, "nothing overtakes")
	f.with(func() { f.hold = nil })
	close(hold)
	require.NoError(t, s.wait(1)[0].err)
	require.Eventually(t, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.mu.queuedBytes == 0
	}, patience, time.Millisecond)
	s.Close()
	other.Close()
	_, err = Limits{QueueBytesMax: 1}.withDefaults()
	require.ErrorIs(t, err, fault.Invalid)
}

func TestCloseEndsWhatIsUnderWayAndSeals(t *testing.T) {
	c := newFakeCluster("/f", "/g")
	a := start(t, c, Limits{})
	f := c.files["/f"]
	hold := make(chan struct{})
	f.with(func() { f.hold = hold })
	s, idle := a.open("/f", 1), a.open("/g", 1)
	s.send("a", false)
	<-f.entered
	s.send("b", false)
	closed := make(chan error)
	go func() { closed <- a.Close(context.Background()) }()
	require.Eventually(t, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.mu.stopped
	}, patience, time.Millisecond)
	s.send("c", false)
	require.ErrorIs(t, s.wait(1)[0].err, fault.Unavailable)
	_, err := a.Open(t.Context(), dataplane.RecordsOpen{Path: "/f"})
	require.ErrorIs(t, err, fault.Unavailable)
	f.with(func() { f.hold = nil })
	close(hold)
	require.NoError(t, <-closed)
	require.NoError(t, errors.Join(s.wait(3)[1].err, s.wait(3)[2].err))
	require.Equal(t, []string{"1/1:a", "1/2:b"}, f.records(t))
	require.Equal(t, 1, f.sealed)
	require.Equal(t, 1, c.files["/g"].sealed)
	require.True(t, c.closed)
	s.Close() // the data server closes them after the appender
	idle.Close()
}

func TestOpenThatTakesTooLong(t *testing.T) {
	c := newFakeCluster("/f")
	a := start(t, c, Limits{})
	f := c.files["/f"]
	hold := make(chan struct{})
	f.with(func() { f.hold = hold })
	s := a.open("/f", 1)
	s.send("a", false)
	<-f.entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := a.Open(ctx, dataplane.RecordsOpen{Path: "/f"})
	require.ErrorIs(t, err, fault.Unavailable)
	f.with(func() { f.hold = nil })
	close(hold)
	s.wait(1)
	s.Close()
}
