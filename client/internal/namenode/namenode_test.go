package namenode

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/whispering-woods/ww/client/internal/lifetime"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/clock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOldestPendingIsTheOldestThatCanStillBeRetried(t *testing.T) {
	s := newSequences(uuid.New())
	ctx := t.Context()
	begin := func() uint64 {
		n, err := s.begin(ctx)
		require.NoError(t, err)
		return n
	}
	oldest := func(sequence uint64) uint64 {
		header := &controlpb.MutationHeader{}
		s.fill(header, sequence)
		return header.OldestPending
	}
	a, b, c := begin(), begin(), begin()
	require.Equal(t, []uint64{1, 2, 3}, []uint64{a, b, c})
	require.Equal(t, uint64(1), oldest(c))
	s.end(b)
	require.Equal(t, uint64(1), oldest(c))
	s.end(a)
	require.Equal(t, uint64(3), oldest(c))
	s.end(c)
	d := begin()
	require.Equal(t, uint64(4), oldest(d))
	for range mutationsMax - 1 {
		begin()
	}
	short, cancel := context.WithCancel(ctx)
	cancel()
	_, err := s.begin(short)
	require.ErrorIs(t, err, context.Canceled)
	s.end(d)
	require.Equal(t, uint64(5), oldest(begin()))
}

func TestLeaseRenewalRunsOnlyWhileAFileIsOpen(t *testing.T) {
	life := lifetime.New()
	c, err := New(Options{Addresses: []string{"127.0.0.1:1"}, Life: life, Clock: clock.Real{},
		Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	leases := NewLeases(c, time.Hour, time.Hour)
	running := func() bool { leases.mu.Lock(); defer leases.mu.Unlock(); return leases.mu.stop != nil }
	require.False(t, running())
	leases.Add(1, Holder{Lost: func(error) {}})
	leases.Add(2, Holder{Lost: func(error) {}})
	require.True(t, running())
	leases.Drop(1)
	require.True(t, running())
	leases.Drop(2)
	require.False(t, running())

	// A file added after the renewal began is not yet known to be held.
	informed := map[uint64]bool{}
	leases.Add(3, Holder{Lost: func(error) { informed[3] = true }})
	leases.mu.Lock()
	leases.mu.rounds++
	round := leases.mu.rounds
	leases.mu.Unlock()
	leases.Add(4, Holder{Lost: func(error) { informed[4] = true }})
	leases.compare(nil, round)
	require.Equal(t, map[uint64]bool{3: true}, informed)
	leases.compare([]uint64{4}, round+1)
	require.Len(t, informed, 1)
	require.True(t, life.Close())
	require.NoError(t, c.Close())
}

// The namenode remembers 1,024 results of each client.
func TestMutationsUnderWayAreRemembered(t *testing.T) {
	require.Less(t, 2*mutationsMax, 1024+1)
}
