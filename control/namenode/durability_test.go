package namenode

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/fault"
)

// within runs f on its own goroutine and returns where its error will be.
func async(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

func result(t *testing.T, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		require.FailNow(t, "no answer")
		return nil
	}
}

func TestReplyWaitsUntilItsRecordIsDurable(t *testing.T) {
	log := newFakeLog()
	cluster := startCluster(t, 0, Options{Log: log})
	for _, path := range []string{"/quiet", "/quiet/old", "/busy"} {
		require.NoError(t, cluster.client.mkdir(path))
	}
	before := log.length()
	log.hold()
	mutation := async(func() error { return cluster.client.mkdir("/busy/new") })
	require.Eventually(t, func() bool { return log.waits() == 1 }, patience, time.Millisecond)
	// A read of durable state does not wait.
	_, err := cluster.client.Stat(contextOf(t), &controlpb.StatRequest{Path: "/quiet/old"})
	require.NoError(t, faultOf(err))
	// One that saw the new directory does.
	read := async(func() error {
		_, err := cluster.client.Stat(contextOf(t), &controlpb.StatRequest{Path: "/busy/new"})
		return faultOf(err)
	})
	steps := cluster.server.Stats().Commands
	require.Eventually(t, func() bool { return cluster.server.Stats().Commands > steps+1 }, patience, time.Millisecond)
	select {
	case err := <-mutation:
		require.FailNow(t, "the reply left before its record was durable", "%v", err)
	case err := <-read:
		require.FailNow(t, "the read left before what it saw was durable", "%v", err)
	default:
	}
	require.Equal(t, before, log.length())
	log.release()
	require.NoError(t, result(t, mutation))
	require.NoError(t, result(t, read))
	require.Greater(t, log.length(), before)
}

// What the log refused never happened, what it kept without saying so did; in
// both cases the caller's retry, with the same sequence, gets the truth.
func TestBrokenLogDropsTheState(t *testing.T) {
	for _, keep := range []int{0, 1} {
		t.Run(fmt.Sprintf("%d batches kept", keep), func(t *testing.T) {
			log := newFakeLog()
			cluster := startCluster(t, 0, Options{Log: log})
			require.NoError(t, cluster.client.mkdir("/before"))
			log.hold()
			request := &controlpb.MkdirRequest{Header: cluster.client.header(), Path: "/unsure"}
			mutation := async(func() error {
				_, err := cluster.client.Mkdir(contextOf(t), request)
				return faultOf(err)
			})
			require.Eventually(t, func() bool { return log.waits() == 1 }, patience, time.Millisecond)
			log.fail(fault.New(fault.Unavailable, "append", "broken"), keep)
			err := result(t, mutation)
			require.ErrorIs(t, err, fault.NotActive)
			require.Equal(t, fault.Retryable, fault.ClassOf(err))

			require.Eventually(t, func() bool { return cluster.server.Active() == nil }, patience, time.Millisecond)
			require.EqualValues(t, 2, cluster.server.Stats().Terms)
			cluster.live(0)
			want := []string{"before"}
			if keep == 1 {
				want = []string{"before", "unsure"}
			}
			require.Equal(t, want, cluster.client.names("/", 0))
			_, err = cluster.client.Mkdir(contextOf(t), request)
			require.NoError(t, faultOf(err), "the retry")
			require.Equal(t, []string{"before", "unsure"}, cluster.client.names("/", 0))
		})
	}
}

func TestConcurrentMutationsShareBatches(t *testing.T) {
	log := newFakeLog()
	cluster := startCluster(t, 3, Options{Log: log})
	require.NoError(t, cluster.client.mkdir("/d"))
	before := cluster.server.Stats()
	const count = 1000
	log.hold()
	var group sync.WaitGroup
	errs := make(chan error, count)
	for i := range count {
		group.Go(func() {
			_, err := cluster.client.Create(contextOf(t),
				&controlpb.CreateRequest{Header: cluster.client.header(), Path: fmt.Sprintf("/d/%04d", i),
					ClientName: "test"})
			errs <- faultOf(err)
		})
	}
	// The commands are stepped while the first batches are in flight.
	require.Eventually(t, func() bool { return cluster.server.Stats().Records >= before.Records+count }, patience,
		time.Millisecond)
	log.release()
	group.Wait()
	for range count {
		require.NoError(t, <-errs)
	}
	after := cluster.server.Stats()
	require.GreaterOrEqual(t, after.Records-before.Records, uint64(count))
	require.Less(t, after.Batches-before.Batches, uint64(count/10))
	require.Len(t, cluster.client.names("/d", 300), count)
}

// While the log takes nothing, no more commands are stepped than two batches
// hold; then the mailbox fills and callers are told at once.
func TestFullMailboxIsBusy(t *testing.T) {
	log := newFakeLog()
	cluster := startCluster(t, 0, Options{Log: log, Mailbox: 4})
	term := cluster.server.current.Load()
	blocked := make(chan struct{})
	entered := make(chan struct{})
	stuck := newCall(blockingContext{Context: t.Context(), entered: entered, release: blocked}, nil)
	term.mailbox <- stuck
	<-entered // the actor goroutine is held inside this call
	var waiting []<-chan error
	for i := range 4 {
		waiting = append(waiting, async(func() error { return cluster.client.mkdir(fmt.Sprintf("/%d", i)) }))
	}
	require.Eventually(t, func() bool { return len(term.mailbox) == 4 }, patience, time.Millisecond)
	err := cluster.client.mkdir("/refused")
	require.ErrorIs(t, err, fault.Busy)
	require.Equal(t, fault.Retryable, fault.ClassOf(err))
	require.NotZero(t, cluster.server.Stats().Busy)
	close(blocked)
	for _, w := range waiting {
		require.NoError(t, result(t, w))
	}
	require.Equal(t, []string{"0", "1", "2", "3"}, cluster.client.names("/", 0))
}

// blockingContext holds whoever asks for its error, and then has ended.
type blockingContext struct {
	context.Context
	entered chan struct{}
	release chan struct{}
}

func (b blockingContext) Err() error {
	select {
	case <-b.entered:
	default:
		close(b.entered)
	}
	<-b.release
	return context.Canceled
}

func TestCallerThatLeftIsSkipped(t *testing.T) {
	log := newFakeLog()
	cluster := startCluster(t, 0, Options{Log: log})
	blocked, entered := make(chan struct{}), make(chan struct{})
	stuck := blockingContext{Context: t.Context(), entered: entered, release: blocked}
	cluster.server.current.Load().mailbox <- newCall(stuck, nil)
	<-entered
	ctx, cancel := context.WithCancel(context.Background())
	left := async(func() error {
		_, err := cluster.client.Mkdir(ctx, &controlpb.MkdirRequest{Header: cluster.client.header(), Path: "/left"})
		return faultOf(err)
	})
	require.Eventually(t, func() bool { return len(cluster.server.current.Load().mailbox) == 1 }, patience,
		time.Millisecond)
	cancel()
	require.Error(t, result(t, left))
	// The server sees the cancellation soon after the client does.
	require.Eventually(t, func() bool { return cluster.server.calls.Load() == 0 }, patience, time.Millisecond)
	close(blocked)
	require.NoError(t, cluster.client.mkdir("/stayed"))
	require.Equal(t, []string{"stayed"}, cluster.client.names("/", 0))
	require.EqualValues(t, 2, cluster.server.Stats().Skipped)
}

// Close answers what is in flight to the log, refuses the rest, and is quick.
func TestCloseAnswersWhatIsInFlight(t *testing.T) {
	log := newFakeLog()
	server := ready(t, startServer(t, Options{Log: log}))
	client := dial(t, server.Addr())
	require.Eventually(t, func() bool { return client.mkdir("/a") == nil }, patience, time.Millisecond)
	log.hold()
	mutation := async(func() error { return client.mkdir("/b") })
	require.Eventually(t, func() bool { return log.waits() == 1 }, patience, time.Millisecond)
	closed := async(func() error { return server.Close(contextOf(t)) })
	require.Eventually(t, func() bool { return server.Active() != nil }, patience, time.Millisecond)
	require.ErrorIs(t, server.Active(), fault.NotActive)
	log.release()
	require.NoError(t, result(t, mutation))
	require.NoError(t, result(t, closed))
	<-server.Done()
	require.NoError(t, server.Err())
}
