package placement

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/datanode"
)

// unevenNodes are 100 nodes in 10 racks of 8 to 12, of 1, 2, 4 and 8 TB; every tenth is pressed.
func unevenNodes() []Candidate {
	nodes := make([]Candidate, 100)
	for i := range nodes {
		capacity := int64(1e12) << (i * 7 % 4)
		rack := (i + i/50*(i%2)) % 10
		nodes[i] = Candidate{Index: datanode.Index(i + 1), Rack: fmt.Sprint("/r", rack), FreeBytes: capacity,
			CapacityBytes: capacity, Local: i == 42}
		if i%10 == 3 {
			nodes[i].PressurePermille = 900
		}
	}
	return nodes
}

// balance is what a policy reached.
type balance struct {
	filled float64 // share of all bytes that are used when the first node is full
	// At the moment when a tenth of all bytes is used:
	least, most, deviation float64 // used share of a node
	pressed                float64 // used share of pressed nodes, over that of all
	racks                  float64 // chunks in as many racks as they have replicas
}

// reach places chunks of 8 GB, 3 replicas each, until a node has no room. 300 replicas pass between heartbeats; the
// writers are on all nodes in turn.
func reach(policy Policy) (reached balance) {
	const size = 8e9
	nodes, random := unevenNodes(), step.NewRandom([16]byte{9})
	var total, used, spread float64
	for i := range nodes {
		total += float64(nodes[i].CapacityBytes)
	}
	for chunks := 0; ; chunks++ {
		for i := range nodes {
			nodes[i].Local = i == chunks%len(nodes)
			if chunks%100 == 0 {
				nodes[i].Load = 0
			}
		}
		racks := map[string]bool{}
		for _, at := range policy.Choose(nodes, 3, nil, &random) {
			node := &nodes[at]
			if node.FreeBytes < size {
				reached.filled = used / total
				return reached
			}
			node.Load++
			node.FreeBytes -= size
			used += size
			racks[node.Rack] = true
		}
		if len(racks) == 3 {
			spread++
		}
		if used/total < 0.1 {
			reached.measure(nodes)
			reached.racks = spread / float64(chunks+1)
		}
	}
}

func (b *balance) measure(nodes []Candidate) {
	b.least, b.most = 1, 0
	var sum, squares, pressed, pressedCapacity, used, capacity float64
	for i := range nodes {
		node := &nodes[i]
		taken := float64(node.CapacityBytes - node.FreeBytes)
		share := taken / float64(node.CapacityBytes)
		b.least, b.most = min(b.least, share), max(b.most, share)
		sum, squares = sum+share, squares+share*share
		used, capacity = used+taken, capacity+float64(node.CapacityBytes)
		if node.PressurePermille > 0 {
			pressed, pressedCapacity = pressed+taken, pressedCapacity+float64(node.CapacityBytes)
		}
	}
	mean := sum / float64(len(nodes))
	b.deviation = math.Sqrt(max(0, squares/float64(len(nodes))-mean*mean))
	b.pressed = pressed / pressedCapacity / (used / capacity)
}

// TestBalance holds each policy to the balance that docs/operations.md tells of.
func TestBalance(t *testing.T) {
	for name, promised := range map[string]struct{ filled, deviation, racks, pressed float64 }{
		"weighted":    {0.99, 0.039, 0.70, 0.37},
		"rack-spread": {0.99, 0.038, 1, 0.38},
		"local-first": {0.55, 0.058, 1, 0.47},
		"round-robin": {0.26, 0.127, 0.50, 0.76}, // it looks at nothing: what the others have to beat
	} {
		reached := reach(New(name))
		require.Len(t, Names(), 4, "each has its promise")
		t.Logf("%-12s %+.3f", name, reached)
		require.GreaterOrEqual(t, reached.filled, promised.filled, name)
		require.LessOrEqual(t, reached.deviation, promised.deviation, name)
		require.GreaterOrEqual(t, reached.racks, promised.racks, name)
		require.LessOrEqual(t, reached.pressed, promised.pressed, name)
	}
}
