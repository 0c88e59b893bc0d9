package placement

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/actor/step"
)

func TestReadOrders(t *testing.T) {
	nodes := []Candidate{
		{Index: 1, Load: 3}, {Index: 2, Load: 1, PressurePermille: 900}, {Index: 3, Load: 9, Local: true},
		{Index: 4, Load: 2},
	}
	for name, expected := range map[string][]int{
		"": {4, 1, 2, 3}, "least-loaded": {4, 1, 2, 3}, "local-first": {3, 4, 1, 2}, "random": {1, 2, 3, 4},
	} {
		order := NewReadOrder(name)
		sorted := slices.Clone(nodes)
		slices.SortStableFunc(sorted, func(a, b Candidate) int { return order(&a, &b) })
		for i, node := range sorted {
			require.EqualValues(t, expected[i], node.Index, "%s: %v", name, sorted)
		}
	}
	require.Nil(t, NewReadOrder("nonsense"))
	require.Equal(t, []string{"least-loaded", "local-first", "random"}, ReadOrders())
}

// The first copy is on the writer's machine, the others in other racks; a replacement has no writer.
func TestLocalFirst(t *testing.T) {
	nodes := unevenNodes()
	random := step.NewRandom([16]byte{3})
	for range 100 {
		chosen := New("local-first").Choose(nodes, 3, nil, &random)
		require.Len(t, chosen, 3)
		require.True(t, nodes[chosen[0]].Local)
		racks := map[string]bool{}
		for _, at := range chosen {
			racks[nodes[at].Rack] = true
		}
		require.Len(t, racks, 3)
	}
	local := 0
	for range 100 {
		if nodes[New("local-first").Choose(nodes, 1, []string{"/r0"}, &random)[0]].Local {
			local++
		}
	}
	require.Less(t, local, 30)
	require.Empty(t, New("local-first").Choose(nodes, 0, nil, &random))
}
