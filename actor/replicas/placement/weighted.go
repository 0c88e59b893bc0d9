package placement

import "github.com/whispering-woods/ww/actor/step"

// score ranks a node: its free share over its load, a quarter of that if the machine is fully pressed. Integers keep
// it exact on every machine.
func score(c *Candidate) int64 {
	capacity := max(c.CapacityBytes, 1)
	free := min(max(c.FreeBytes, 0), capacity)
	permille := int64(float64(free) / float64(capacity) * 1000)
	return (permille + 1) * pressed(c) / (c.Load + 1)
}

// pressedMost is pressed of an idle machine.
const pressedMost = 4000

// pressed weighs a node by the pressure on its machine: a fully pressed one counts for a quarter.
func pressed(c *Candidate) int64 { return pressedMost - 3*min(max(c.PressurePermille, 0), 1000) }

// weighted draws two candidates, each in proportion to its free bytes, and takes the better one (the power of two
// choices): large nodes get more, full, busy and pressed nodes less, and the best one does not get everything.
type weighted struct{}

func (weighted) Choose(candidates []Candidate, count int, _ []string, random *step.Random) []int {
	count = min(count, len(candidates))
	left := newLottery(candidates)
	chosen := make([]int, 0, count)
	for len(chosen) < count {
		at := left.draw(random, -1)
		if len(left.positions) > 1 {
			other := left.draw(random, at)
			if score(&candidates[left.positions[other]]) > score(&candidates[left.positions[at]]) {
				at = other
			}
		}
		chosen = append(chosen, left.take(at))
	}
	return chosen
}

// lottery draws from the candidates at positions.
type lottery struct {
	candidates []Candidate
	positions  []int
	tickets    uint64 // of all at positions
	even       bool   // all candidates have equally many
}

func newLottery(candidates []Candidate) *lottery {
	l := &lottery{candidates: candidates, positions: make([]int, len(candidates)), even: true}
	for i := range l.positions {
		l.positions[i] = i
		l.tickets += tickets(&candidates[i])
		l.even = l.even && tickets(&candidates[i]) == tickets(&candidates[0])
	}
	return l
}

// tickets of a node: one for each free MiB, at least one.
func tickets(c *Candidate) uint64 { return uint64(max(c.FreeBytes, 0))>>20 + 1 }

// draw returns an index in positions, another one than without; -1: any.
func (l *lottery) draw(random *step.Random, without int) int {
	if l.even { // the walk below, in one step
		if without < 0 {
			return random.Below(len(l.positions))
		}
		index := random.Below(len(l.positions) - 1)
		if index >= without {
			index++
		}
		return index
	}
	all := l.tickets
	if without >= 0 {
		all -= l.own(without)
	}
	point, last := random.Uint64()%all, 0
	for i := range l.positions {
		if i == without {
			continue
		}
		if last = i; point < l.own(i) {
			break
		}
		point -= l.own(i)
	}
	return last
}

// own are the tickets of the candidate at an index in positions.
func (l *lottery) own(index int) uint64 { return tickets(&l.candidates[l.positions[index]]) }

// take removes what stands at an index in positions.
func (l *lottery) take(index int) int {
	taken, last := l.positions[index], len(l.positions)-1
	l.tickets -= l.own(index)
	l.positions[index] = l.positions[last]
	l.positions = l.positions[:last]
	return taken
}
