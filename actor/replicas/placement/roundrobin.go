package placement

import (
	"slices"

	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/datanode"
)

// roundRobin takes the nodes in the order of their indexes, going on where the last choice ended.
type roundRobin struct{ last datanode.Index }

func (p *roundRobin) Choose(candidates []Candidate, count int, _ []string, _ *step.Random) []int {
	count = min(count, len(candidates))
	order := make([]int, len(candidates))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return int(candidates[a].Index) - int(candidates[b].Index) })
	start := 0
	for start < len(order) && candidates[order[start]].Index <= p.last {
		start++
	}
	chosen := make([]int, 0, count)
	for i := range count {
		chosen = append(chosen, order[(start+i)%len(order)])
	}
	if count > 0 {
		p.last = candidates[chosen[count-1]].Index
	}
	return chosen
}
