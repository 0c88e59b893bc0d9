package actor

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/actor/replicas"
)

// A balance of a thousand nodes looks at a bounded number of them in one step, and says of how many it was, whether all
// of them refuse, or are of no use, or get chunks.
func TestABalanceLooksAtABoundedNumberOfNodes(t *testing.T) {
	const nodes, chunks = 1000, 3000
	wish := replicas.BalanceWish{Threshold: 5, Bandwidth: 1 << 30}
	for name, c := range map[string]struct {
		percent func(i int) float64 // of its capacity that a node's replicas take
		room    int64
		least   int // of work, which there is
	}{
		// All chunks that may leave their nodes are tried on 500 nodes that have no room.
		"all refuse": {func(i int) float64 { return float64(40 + i%2*20) }, 0, 1 << 17},
		// Of use is one node, the replicas of which have no place. The others are above or below the mean, but even.
		"hardly any is of use": {func(i int) float64 {
			if i == 0 {
				return 90
			}
			return 49.5 + float64(i%2)
		}, 0, nodes},
		"all give or get": {func(i int) float64 { return float64(40 + i%2*20) }, 1 << 40, 1 << 15},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, nodes, chunks, false)
			for i := range f.nodes {
				n := &f.nodes[i]
				bytes := float64(max(len(n.replicas), 1)) * 4096
				n.volumes[0].CapacityBytes, n.volumes[0].FreeBytes = int64(bytes*100/c.percent(i)), c.room
			}
			f.load()
			f.own("BecomeActive", &BecomeActive{Epoch: 2})
			f.registerAll()
			f.until(func() bool { return f.reported() == nodes && !f.s.replicas.SafeMode.On() })
			f.untilIdle()
			f.own("Balance", &Balance{Action: BalancePlan, BalanceWish: wish})
			require.GreaterOrEqual(t, f.s.step.Work, c.least, "of the plan")
			f.own("Balance", &Balance{Action: BalanceStart, BalanceWish: wish})
			f.own("Tick", &Tick{})
			require.GreaterOrEqual(t, f.s.step.Work, c.least)
			require.Less(t, f.s.step.Work, 1<<18)
			t.Log(f.s.step.Work)
		})
	}
}
