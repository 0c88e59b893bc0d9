package replicas

import "time"

// pace bounds the bytes per second of copies: what was begun is paid for before the next one begins. In a span of time
// no more begins than the bound allows for it and for paceCredit, and one copy.
type pace struct {
	bound int64         // bytes per second; 0: none
	paid  time.Duration // when what was begun is paid for
}

// ready reports whether another copy may begin.
func (p *pace) ready(now time.Duration) bool { return p.bound == 0 || p.paid <= now }

// take notes that a copy begins.
func (p *pace) take(now time.Duration, bytes int64) {
	if p.bound > 0 {
		p.paid = max(p.paid, now-paceCredit) + time.Duration(float64(bytes)/float64(p.bound)*float64(time.Second))
	}
}

// set changes the bound; what was begun before is paid for.
func (p *pace) set(bytesPerSecond int64) { *p = pace{bound: bytesPerSecond} }

// Arrivals counts copies that have arrived.
type Arrivals struct {
	Chunks, Bytes uint64
}

// meter measures how fast copies arrive.
type meter struct {
	total Arrivals
	spans [meterSpans]struct { // by number, modulo
		number int64
		Arrivals
	}
}

func (m *meter) add(now time.Duration, bytes int64) {
	at := int64(now / meterSpan)
	span := &m.spans[at%meterSpans]
	if span.number != at {
		span.number, span.Arrivals = at, Arrivals{}
	}
	for _, sum := range []*Arrivals{&m.total, &span.Arrivals} {
		sum.Chunks++
		sum.Bytes += uint64(bytes)
	}
}

// rate is what arrived per second, in the last minute or since the first arrival in it.
func (m *meter) rate(now time.Duration) (chunks, bytes float64) {
	first := int64(now / meterSpan)
	last := first - meterSpans
	var sum Arrivals
	for i := range m.spans {
		if span := &m.spans[i]; span.Chunks > 0 && span.number > last {
			sum.Chunks += span.Chunks
			sum.Bytes += span.Bytes
			first = min(first, span.number)
		}
	}
	elapsed := max(now-time.Duration(first)*meterSpan, time.Second).Seconds()
	return float64(sum.Chunks) / elapsed, float64(sum.Bytes) / elapsed
}
