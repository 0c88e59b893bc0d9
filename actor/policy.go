package actor

import (
	"slices"
)

// Candidate is a node that a replica may be placed on.
type Candidate struct {
	// Index names the node inside the State.
	Index uint16
	Rack  string
	// FreeBytes and CapacityBytes over its healthy volumes.
	FreeBytes     int64
	CapacityBytes int64
	// Load is the writes and reads it is busy with, those placed on it since its
	// last heartbeat included.
	Load int64
}

// Policy chooses where replicas go. An implementation may keep state (a
// cursor): it is called in command order only. It draws randomness only from
// what it is given.
type Policy interface {
	// Choose picks count of the candidates, or all if there are fewer: positions
	// in the slice, without duplicates, in pipeline order. present holds the
	// racks of replicas that exist already. candidates is not changed.
	Choose(candidates []Candidate, count int, present []string, random *Random) []int
}

// PolicyNames lists the placement policies for configuration and messages.
func PolicyNames() []string { return []string{"weighted", "round-robin", "rack-spread"} }

// newPolicy makes a policy by name; nil if the name is not known. Without a
// name the racks of the candidates decide.
func newPolicy(name string) Policy {
	switch name {
	case "":
		return byRacks{}
	case "weighted":
		return weighted{}
	case "round-robin":
		return &roundRobin{}
	case "rack-spread":
		return rackSpread{}
	}
	return nil
}

// byRacks is rack-spread as soon as racks differ, and weighted while all are
// equal. It looks at the candidates only: where these share one rack, both
// policies give every one of them the same chance.
type byRacks struct{}

func (byRacks) Choose(candidates []Candidate, count int, present []string, random *Random) []int {
	for i := range candidates {
		if candidates[i].Rack != candidates[0].Rack {
			return rackSpread{}.Choose(candidates, count, present, random)
		}
	}
	return weighted{}.Choose(candidates, count, present, random)
}

// score ranks a node: its free share over its load. Integers keep it exact on
// every machine.
func score(c *Candidate) int64 {
	capacity := max(c.CapacityBytes, 1)
	free := min(max(c.FreeBytes, 0), capacity)
	permille := int64(float64(free) / float64(capacity) * 1000)
	return (permille + 1) * 1000 / (c.Load + 1)
}

// weighted draws two candidates and takes the better one (the power of two
// choices): full and busy nodes get less, the best one does not get everything.
type weighted struct{}

func (weighted) Choose(candidates []Candidate, count int, _ []string, random *Random) []int {
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

// roundRobin takes the nodes in the order of their indexes, going on where the
// last choice ended.
type roundRobin struct{ last uint16 }

func (p *roundRobin) Choose(candidates []Candidate, count int, _ []string, _ *Random) []int {
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

// rackSpread takes each next replica from the racks that hold the fewest so
// far, and is weighted among those.
type rackSpread struct{}

func (rackSpread) Choose(candidates []Candidate, count int, present []string, random *Random) []int {
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
