package placement

import "github.com/whispering-woods/ww/actor/step"

// rackSpread takes each next replica from the racks that hold the fewest so far, and is weighted among those.
type rackSpread struct{}

func (rackSpread) Choose(candidates []Candidate, count int, present []string, random *step.Random) []int {
	count = min(count, len(candidates))
	used := make(map[string]int)
	for _, rack := range present {
		used[rack]++
	}
	taken := make([]bool, len(candidates))
	chosen := make([]int, 0, count)
	for len(chosen) < count {
		fewest := -1
		for i := range candidates {
			if n := used[candidates[i].Rack]; !taken[i] && (fewest < 0 || n < fewest) {
				fewest = n
			}
		}
		var positions []int
		var subset []Candidate
		for i := range candidates {
			if !taken[i] && used[candidates[i].Rack] == fewest {
				positions = append(positions, i)
				subset = append(subset, candidates[i])
			}
		}
		at := positions[weighted{}.Choose(subset, 1, nil, random)[0]]
		taken[at] = true
		used[candidates[at].Rack]++
		chosen = append(chosen, at)
	}
	return chosen
}

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
