package placement

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/datanode"
)

func TestPolicies(t *testing.T) {
	random := step.NewRandom([16]byte{1})
	candidates := make([]Candidate, 9)
	for i := range candidates {
		candidates[i] = Candidate{Index: datanode.Index(i + 1), Rack: fmt.Sprint("r", i/3), FreeBytes: 50,
			CapacityBytes: 100}
	}
	for _, name := range Names() {
		p := New(name)
		for _, count := range []int{0, 1, 3, 9, 12} {
			chosen := p.Choose(candidates, count, nil, &random)
			require.Len(t, chosen, min(count, len(candidates)), name)
			seen := map[int]bool{}
			for _, c := range chosen {
				require.False(t, seen[c], name)
				seen[c] = true
			}
		}
	}
	require.Nil(t, New("nonsense"))

	// Round robin: everybody in turn.
	p := New("round-robin")
	require.Equal(t, []int{0, 1, 2}, p.Choose(candidates, 3, nil, &random))
	require.Equal(t, []int{3, 4}, p.Choose(candidates, 2, nil, &random))
	require.Equal(t, []int{5, 6, 7, 8, 0}, p.Choose(candidates, 5, nil, &random))

	// Rack spread: one per rack before a second in any, and away from what is
	// there already.
	for range 50 {
		chosen := New("rack-spread").Choose(candidates, 2, []string{"r0"}, &random)
		racks := []string{candidates[chosen[0]].Rack, candidates[chosen[1]].Rack}
		require.ElementsMatch(t, []string{"r1", "r2"}, racks)
	}

	// Without a name: as weighted while racks are equal, else as rack spread.
	same := slices.Clone(candidates)
	for i := range same {
		same[i].Rack = "/default"
	}
	for seed := range byte(50) {
		for _, c := range []struct {
			like       string
			candidates []Candidate
			present    []string
		}{{"weighted", same, nil}, {"weighted", same[:1], []string{"r0"}}, {"rack-spread", candidates, []string{"r0"}},
			{"weighted", nil, nil}} {
			a, b := step.NewRandom([16]byte{seed}), step.NewRandom([16]byte{seed})
			require.Equal(t, New(c.like).Choose(c.candidates, 3, c.present, &a),
				New("").Choose(c.candidates, 3, c.present, &b))
		}
	}

	// Weighted: a full or a busy node gets clearly less.
	candidates[0].FreeBytes, candidates[1].Load = 1, 50
	counts := make([]int, len(candidates))
	for range 9000 {
		for _, c := range New("weighted").Choose(candidates, 1, nil, &random) {
			counts[c]++
		}
	}
	for i, n := range counts {
		if i < 2 {
			require.Less(t, n, 400, "node %d: %v", i, counts)
		} else {
			require.InDelta(t, 1200, n, 200, "node %d: %v", i, counts)
		}
	}
}
