package pipeline

import (
	"slices"
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
)

// hopMeter measures where the time of a session goes while data always waits: it keeps the last slowSteps steps of
// slowStep, and the one that is running. The share of hop i is the larger of its own disk's time and the time of the
// link into it, which is what the hop before it (for the first hop: this client) waited beyond what hop i took, and
// beyond its own disk.
type hopMeter struct {
	steps [slowSteps + 1]hopStep
	full  int  // ended steps, 0..slowSteps: those before steps[full], which runs
	whole bool // the running step began when the one before it ended
}

// hopStep is what acks and reports said in one step.
type hopStep struct {
	bytes  int64         // acknowledged
	acks   int           // acks and reports
	trip   time.Duration // sum of the round trips, of acked packets and of those that wait
	shares [wire.HopsMax]time.Duration
	links  [wire.HopsMax]time.Duration // the part of the share that is the link's
}

// interrupt forgets everything: nothing waits any more.
func (m *hopMeter) interrupt() {
	m.steps[0], m.full, m.whole = hopStep{}, 0, false
}

// count adds one ack or report. A session with a hop that reports no times cannot be judged.
func (m *hopMeter) count(trip time.Duration, bytes int64, hops []wire.HopStatus) {
	if slices.ContainsFunc(hops, func(h wire.HopStatus) bool { return h.TotalMicros == 0 }) {
		m.interrupt()
		return
	}
	step := &m.steps[m.full]
	step.acks++
	step.bytes += bytes
	step.trip += trip
	before, own := trip, time.Duration(0) // of the hop before: its time in all, and its disk's
	for i, hop := range hops {
		total := time.Duration(hop.TotalMicros) * time.Microsecond
		// A hop acks when both its disk and the hops behind it are done: what its own disk explains is not the link's.
		link, disk := before-max(total, own), time.Duration(hop.Micros)*time.Microsecond
		step.shares[i] += max(link, disk, 0)
		if link > disk {
			step.links[i] += link
		}
		before, own = total, disk
	}
}

// next ends the step that runs, unless it is only a part of one. In a step without any ack or report although packets
// waited, they were on their way to the first hop: it reports about packets that it has.
func (m *hopMeter) next() {
	step := &m.steps[m.full]
	if !m.whole {
		*step, m.whole = hopStep{}, true
		return
	}
	if step.acks == 0 {
		step.trip, step.links[0], step.shares[0] = slowStep, slowStep, slowStep
	}
	if m.full == slowSteps {
		copy(m.steps[:], m.steps[1:])
	} else {
		m.full++
	}
	m.steps[m.full] = hopStep{}
}

// hopFinding is what a meter says about its session.
type hopFinding struct {
	hop    int     // that takes the most time; -1: no ack or report came
	rate   float64 // bytes per second that were acknowledged
	byLink bool    // the way to it takes the time, not its disk
	sure   bool    // it holds up the others by far, and long enough
}

// find looks at the ended steps, of which there has to be one.
func (m *hopMeter) find(hops int) hopFinding {
	var sum hopStep
	samples := 0
	for _, step := range m.steps[:m.full] {
		sum.bytes += step.bytes
		sum.trip += step.trip
		sum.acks += step.acks
		samples += max(step.acks, 1)
		for i := range hops {
			sum.shares[i] += step.shares[i]
			sum.links[i] += step.links[i]
		}
	}
	finding := hopFinding{hop: -1, rate: float64(sum.bytes) / (time.Duration(m.full) * slowStep).Seconds()}
	if sum.acks == 0 {
		return finding // silence alone may be anything: a node that hangs is found by its time limits
	}
	shares := sum.shares[:hops]
	finding.hop = 0
	for i, share := range shares {
		if share > shares[finding.hop] {
			finding.hop = i
		}
	}
	share := shares[finding.hop]
	finding.byLink = sum.links[finding.hop] > share/2
	others := slices.Delete(slices.Clone(shares), finding.hop, finding.hop+1)
	if len(others) == 0 {
		return finding
	}
	slices.Sort(others)
	median := others[(len(others)-1)/2]
	finding.sure = m.full == slowSteps && samples >= slowSamples &&
		share >= slowFactor*median && share >= time.Duration(samples)*slowShareLeast && share >= sum.trip/2
	return finding
}
