package client

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/clock"
)

// TestWhichHopIsSlow feeds the meter with acks as they look when one disk or one
// link is slow, and when nobody is to blame.
func TestWhichHopIsSlow(t *testing.T) {
	const ms = 1000
	for name, c := range map[string]struct {
		trip   time.Duration
		hops   []wire.HopStatus
		worst  int
		byLink bool
	}{
		"the disk of the middle":  {500 * time.Millisecond, []wire.HopStatus{{Micros: 5 * ms, TotalMicros: 490 * ms}, {Micros: 470 * ms, TotalMicros: 480 * ms}, {Micros: 4 * ms, TotalMicros: 5 * ms}}, 1, false},
		"the link to the tail":    {500 * time.Millisecond, []wire.HopStatus{{Micros: 5 * ms, TotalMicros: 490 * ms}, {Micros: 4 * ms, TotalMicros: 480 * ms}, {Micros: 4 * ms, TotalMicros: 5 * ms}}, 2, false},
		"the disk of the head":    {500 * time.Millisecond, []wire.HopStatus{{Micros: 480 * ms, TotalMicros: 490 * ms}, {Micros: 4 * ms, TotalMicros: 9 * ms}, {Micros: 4 * ms, TotalMicros: 5 * ms}}, 0, false},
		"the link to the head":    {500 * time.Millisecond, []wire.HopStatus{{Micros: 5 * ms, TotalMicros: 12 * ms}, {Micros: 4 * ms, TotalMicros: 9 * ms}, {Micros: 4 * ms, TotalMicros: 5 * ms}}, 0, true},
		"all disks":               {500 * time.Millisecond, []wire.HopStatus{{Micros: 400 * ms, TotalMicros: 490 * ms}, {Micros: 400 * ms, TotalMicros: 480 * ms}, {Micros: 400 * ms, TotalMicros: 420 * ms}}, -1, false},
		"slower, but not by much": {60 * time.Millisecond, []wire.HopStatus{{Micros: 10 * ms, TotalMicros: 50 * ms}, {Micros: 30 * ms, TotalMicros: 40 * ms}, {Micros: 10 * ms, TotalMicros: 12 * ms}}, -1, false},
		"a short time":            {9 * time.Millisecond, []wire.HopStatus{{Micros: 100, TotalMicros: 9 * ms}, {Micros: 8 * ms, TotalMicros: 9 * ms}, {Micros: 100, TotalMicros: 200}}, -1, false},
		"one hop alone":           {500 * time.Millisecond, []wire.HopStatus{{Micros: 480 * ms, TotalMicros: 490 * ms}}, -1, false},
	} {
		var m hopMeter
		start := time.Unix(1000, 0)
		m.start(start, len(c.hops))
		for i := range slowAcks {
			require.False(t, m.due(start.Add(slowWindow)), "after %d acks", i)
			require.True(t, m.take(c.trip, 256<<10, c.hops))
		}
		require.False(t, m.due(start.Add(slowWindow-1)))
		require.True(t, m.due(start.Add(slowWindow)))
		worst, rate, byLink := m.slow(start.Add(slowWindow), slowRateDefault)
		require.Equal(t, c.worst, worst, name)
		require.InDelta(t, 1<<20, rate, 1, name)
		require.Equal(t, c.byLink, byLink, name)
		worst, _, _ = m.slow(start.Add(slowWindow), 1<<20)
		require.Equal(t, -1, worst, "%s: the session is fast enough", name)
	}
	var m hopMeter
	m.start(time.Unix(1000, 0), 2)
	require.False(t, m.take(time.Second, 1, []wire.HopStatus{{Micros: 1, TotalMicros: 5}, {Micros: 9}}), "a hop that does not tell its times")
}

func TestMemoryOfSlowNodes(t *testing.T) {
	now := clock.NewFake(time.Unix(1000, 0))
	m := newNodeMemory(now)
	require.Empty(t, m.avoid(3))
	require.True(t, m.slow(SlowNode{NodeID: "a"}, false))
	require.True(t, m.slow(SlowNode{NodeID: "b"}, false))
	require.Len(t, m.avoid(3), 1, "two of too few nodes are not avoided at once")
	m.placed([]ChunkLocation{{Replicas: []Replica{{NodeID: "a"}, {NodeID: "b"}, {NodeID: "c"}, {NodeID: "d"}, {NodeID: "e"}}}})
	require.Equal(t, []string{"a", "b"}, m.avoid(3))
	now.Advance(slowFor)
	require.Empty(t, m.avoid(3))
	// Two first hops that are slow to reach: it is the client's own way.
	require.True(t, m.slow(SlowNode{NodeID: "a"}, true))
	require.False(t, m.slow(SlowNode{NodeID: "c"}, true))
	require.Empty(t, m.avoid(3))
	require.False(t, m.slow(SlowNode{NodeID: "a"}, true))
	require.True(t, m.slow(SlowNode{NodeID: "a"}, false), "its disk may be blamed")
	now.Advance(ownLinkFor)
	require.True(t, m.slow(SlowNode{NodeID: "c"}, true))
}
