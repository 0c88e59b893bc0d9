package replicas

import "time"

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
