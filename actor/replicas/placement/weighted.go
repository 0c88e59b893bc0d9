package placement

import "github.com/whispering-woods/ww/actor/step"

// score ranks a node: its free share over its load. Integers keep it exact on every machine.
func score(c *Candidate) int64 {
	capacity := max(c.CapacityBytes, 1)
	free := min(max(c.FreeBytes, 0), capacity)
	permille := int64(float64(free) / float64(capacity) * 1000)
	return (permille + 1) * 1000 / (c.Load + 1)
}

// weighted draws two candidates and takes the better one (the power of two
// choices): full and busy nodes get less, the best one does not get everything.
type weighted struct{}

func (weighted) Choose(candidates []Candidate, count int, _ []string, random *step.Random) []int {
	count = min(count, len(candidates))
	left := make([]int, len(candidates))
	for i := range left {
		left[i] = i
	}
	chosen := make([]int, 0, count)
	for len(chosen) < count {
		at := random.Below(len(left))
		if len(left) > 1 {
			other := random.Below(len(left) - 1)
			if other >= at {
				other++
			}
			if score(&candidates[left[other]]) > score(&candidates[left[at]]) {
				at = other
			}
		}
		chosen = append(chosen, left[at])
		left[at] = left[len(left)-1]
		left = left[:len(left)-1]
	}
	return chosen
}
