package client

import (
	"fmt"
	"slices"
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
)

// SlowNode is a datanode that held up a pipeline and was replaced for it.
type SlowNode struct {
	NodeID         string
	Address        string
	BytesPerSecond float64 // of the pipeline that it held up
}

func (n SlowNode) reason() string { return fmt.Sprintf("slow: %.1f MB/s", n.BytesPerSecond/1e6) }

// addSlow remembers a node once.
func addSlow(list []SlowNode, n SlowNode) []SlowNode {
	if slices.ContainsFunc(list, func(m SlowNode) bool { return m.NodeID == n.NodeID }) || len(list) >= slowNodesMax {
		return list
	}
	return append(list, n)
}

// hopMeter measures where the time of a session goes while data always waits.
// The share of hop i is the larger of its own disk's time and the time of the
// link into it, which is what the hop before it (for the first hop: this client)
// waited beyond what hop i took, and beyond its own disk.
type hopMeter struct {
	began  time.Time
	bytes  int64
	acks   int
	trip   time.Duration   // sum of the round trips
	shares []time.Duration // by hop, sums
	links  time.Duration   // of the first hop: the part of its share that is its link's
}

// start begins a new measurement.
func (m *hopMeter) start(now time.Time, hops int) {
	shares := m.shares
	if len(shares) != hops {
		shares = make([]time.Duration, hops)
	}
	clear(shares)
	*m = hopMeter{began: now, shares: shares}
}

// take counts one ack. known is false if a hop does not tell its times.
func (m *hopMeter) take(trip time.Duration, bytes int64, hops []wire.HopStatus) (known bool) {
	m.acks++
	m.bytes += bytes
	m.trip += trip
	before, own := trip, time.Duration(0) // of the hop before: its time in all, and its disk's
	for i, hop := range hops {
		if hop.TotalMicros == 0 {
			return false
		}
		total := time.Duration(hop.TotalMicros) * time.Microsecond
		// A hop acks when both its disk and the hops behind it are done: what its
		// own disk explains is not the link's.
		link, disk := before-max(total, own), time.Duration(hop.Micros)*time.Microsecond
		m.shares[i] += max(link, disk, 0)
		if i == 0 && link > disk {
			m.links += link
		}
		before, own = total, disk
	}
	return true
}

// due tells whether there is enough to judge.
func (m *hopMeter) due(now time.Time) bool {
	took := now.Sub(m.began)
	return m.acks >= slowAcks && took >= slowWindow || m.acks >= slowAcks/2 && took >= 2*slowWindow
}

// slow finds the hop that holds up the others; -1: none does. byLink: it is the
// first hop, and the way to it takes the time.
func (m *hopMeter) slow(now time.Time, limit int64) (hop int, rate float64, byLink bool) {
	rate = float64(m.bytes) / now.Sub(m.began).Seconds()
	if rate >= float64(limit) || len(m.shares) < 2 {
		return -1, rate, false
	}
	worst := 0
	for i, share := range m.shares {
		if share > m.shares[worst] {
			worst = i
		}
	}
	others := slices.Delete(slices.Clone(m.shares), worst, worst+1)
	slices.Sort(others)
	median := others[(len(others)-1)/2]
	share := m.shares[worst]
	if share < slowFactor*median || share < time.Duration(m.acks)*slowShareLeast || share < m.trip/2 {
		return -1, rate, false
	}
	return worst, rate, worst == 0 && m.links > share/2
}

// judgeLocked looks at an ack without errors; an error says that a hop is to be
// replaced because it is slow. Called with mu held, after the ack was taken.
func (s *session) judgeLocked(now time.Time, trip time.Duration, bytes int64, hops []wire.HopStatus) *pipelineError {
	limit := s.client.options.SlowBytesPerSecond
	m := &s.mu.meter
	if limit < 0 || !s.target.judged || trip <= 0 || len(hops) != len(s.target.hops) {
		return nil
	}
	if m.began.IsZero() || len(s.mu.inflight) == 0 {
		m.start(now, len(hops)) // the writer has nothing more to send, or only begins
		return nil
	}
	if !m.take(trip, bytes, hops) {
		m.start(now, len(hops))
		return nil
	}
	if !m.due(now) {
		return nil
	}
	worst, rate, byLink := m.slow(now, limit)
	m.start(now, len(hops))
	if worst < 0 {
		return nil
	}
	hop := s.target.hops[worst]
	slow := SlowNode{NodeID: hop.NodeID, Address: hop.Address, BytesPerSecond: rate}
	if !s.client.nodes.slow(slow, byLink) {
		return nil
	}
	e := &fault.Error{Kind: fault.Unavailable, Op: "write chunk", Chunk: s.target.id.String(), Node: hop.NodeID, Address: hop.Address, Reason: slow.reason()}
	return &pipelineError{failed: []hopFailure{{hop: hop, err: e, slow: &slow}}, err: e}
}
