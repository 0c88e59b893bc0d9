package placement

import (
	"slices"

	"github.com/whispering-woods/ww/actor/step"
)

// localFirst puts the first replica on the writer's own machine, if that has a candidate; the others go where byRacks
// puts them. Replicas that exist already had a first one.
type localFirst struct{}

func (localFirst) Choose(candidates []Candidate, count int, present []string, random *step.Random) []int {
	first := -1
	for i := range candidates {
		if c := &candidates[i]; c.Local && (first < 0 || score(c) > score(&candidates[first])) {
			first = i
		}
	}
	if first < 0 || count < 1 || len(present) > 0 {
		return byRacks{}.Choose(candidates, count, present, random)
	}
	others := slices.Delete(slices.Clone(candidates), first, first+1)
	chosen := byRacks{}.Choose(others, count-1, []string{candidates[first].Rack}, random)
	for i, at := range chosen {
		if at >= first {
			chosen[i]++
		}
	}
	return slices.Insert(chosen, 0, first)
}
