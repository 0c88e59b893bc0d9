package health

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/test/fakeclock"
)

func TestFailedNodesAreForgotten(t *testing.T) {
	now := fakeclock.New(time.Unix(1, 0))
	m := NewNodes(now)
	replicas := []wire.Hop{{NodeID: "a", Address: "a:1"}, {NodeID: "b", Address: "b:1"}, {NodeID: "c", Address: "c:1"}}
	m.Failures.Failed("a:1")
	require.Equal(t, []wire.Hop{{NodeID: "b", Address: "b:1"}, {NodeID: "c", Address: "c:1"},
		{NodeID: "a", Address: "a:1"}}, m.OrderForRead(replicas))
	require.Equal(t, "a", replicas[0].NodeID, "the caller's list stays")
	m.Failures.Worked("a:1")
	require.Equal(t, replicas, m.OrderForRead(replicas))
	m.Failures.Failed("b:1")
	now.Advance(nodeBadFor + 1)
	require.Equal(t, replicas, m.OrderForRead(replicas))
	// It fails again when it is tried again: it is left out for longer, but not for ever longer.
	for i := range 2 * nodeBadTimesMax {
		m.Failures.Failed("b:1")
		m.Failures.Failed("b:1") // by another operation at the same time
		wait := nodeBadFor << min(i+1, nodeBadTimesMax)
		now.Advance(wait - 1)
		require.Equal(t, "b", m.OrderForRead(replicas)[2].NodeID)
		now.Advance(2)
		require.Equal(t, replicas, m.OrderForRead(replicas))
	}
	now.Advance(nodeBadFor)
	m.Failures.Failed("b:1")
	now.Advance(nodeBadFor + 1)
	require.Equal(t, replicas, m.OrderForRead(replicas), "what is over for long does not count")
	for i := range 3 * nodesMax {
		m.Failures.Failed(fmt.Sprint(i))
	}
	require.LessOrEqual(t, len(m.Failures.mu.bad), nodesMax)
}

func TestNodesThatFailAreNotWrittenTo(t *testing.T) {
	now := fakeclock.New(time.Unix(1, 0))
	m := NewNodes(now)
	hop := func(id string) wire.Hop { return wire.Hop{NodeID: id, Address: id + ":1"} }
	m.SlowWrites.Placed([]wire.Hop{hop("a"), hop("b"), hop("c"), hop("d")})
	m.SlowWrites.Slow("a")
	m.Failures.Failed("d:1")
	require.Equal(t, []string{"d", "a"}, m.SlowWrites.Avoid(2))
	require.Equal(t, []string{"a"}, m.SlowWrites.AvoidSlow(2), "one that only failed may be back")
	require.Equal(t, []string{"d"}, m.SlowWrites.Avoid(3), "rather a slow node than one that failed")
	require.Equal(t, []string{"a"}, m.SlowWrites.Avoid(4), "a replica is missing for a slow node at most")
	m.Failures.Failed("a:1")
	require.Equal(t, []string{"a", "d"}, m.SlowWrites.Avoid(2), "none is named twice")
	now.Advance(nodeBadFor)
	require.Equal(t, []string{"a"}, m.SlowWrites.Avoid(2))
}

func TestMemoryOfSlowNodes(t *testing.T) {
	now := fakeclock.New(time.Unix(1000, 0))
	m := &NewNodes(now).SlowWrites
	require.Empty(t, m.Avoid(3))
	m.Slow("a")
	m.Slow("b")
	require.Len(t, m.Avoid(3), 1, "two of too few nodes are not avoided at once")
	m.Placed([]wire.Hop{{NodeID: "a"}, {NodeID: "b"}, {NodeID: "c"}, {NodeID: "d"}, {NodeID: "e"}})
	require.Equal(t, []string{"a", "b"}, m.Avoid(3))
	now.Advance(slowFor)
	require.Empty(t, m.Avoid(3))
	// Two first hops that are slow to reach: it is the client's own way.
	require.True(t, m.SlowHead("a"))
	m.Slow("a")
	require.False(t, m.SlowHead("c"))
	require.Empty(t, m.Avoid(3), "the first one was wrongly suspected")
	require.False(t, m.SlowHead("a"))
	now.Advance(ownLinkFor)
	require.True(t, m.SlowHead("c"))
	// One that is fast shows that the link is well, for a while.
	m.FastHead("c")
	require.True(t, m.SlowHead("a"))
	require.True(t, m.SlowHead("b"))
	m.FastHead("b")
	require.True(t, m.SlowHead("b"), "c was fast, too")
	now.Advance(fastFor)
	require.True(t, m.SlowHead("a"))
	require.False(t, m.SlowHead("d"))
}
