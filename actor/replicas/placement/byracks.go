package placement

import "github.com/whispering-woods/ww/actor/step"

// byRacks is rack-spread as soon as racks differ, and weighted while all are equal. It looks at the candidates
// only: where these share one rack, both policies give every one of them the same chance.
type byRacks struct{}

func (byRacks) Choose(candidates []Candidate, count int, present []string, random *step.Random) []int {
	for i := range candidates {
		if candidates[i].Rack != candidates[0].Rack {
			return rackSpread{}.Choose(candidates, count, present, random)
		}
	}
	return weighted{}.Choose(candidates, count, present, random)
}
