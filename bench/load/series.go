package load

import (
	"cmp"
	"errors"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"

	"github.com/whispering-woods/ww/internal/fault"
)

// Series is what the operations of one kind gave.
type Series struct {
	Kind       string
	Operations int64 // that succeeded
	Bytes      int64
	// Latency of the operations that succeeded and, in open loop, the wait so far
	// of those that were missed; in units of 1 µs.
	Latency  *hdr.Histogram
	Timeline Timeline // holds the operations and bytes that ended in each interval after the warm-up
}

// Timeline counts per interval.
type Timeline struct {
	Interval   time.Duration
	Operations []int64
	Bytes      []int64
}

// Failures counts operations that did not succeed, over all kinds: what a
// failed operation would have been is not always known.
type Failures struct {
	Count      int64
	WrongBytes int64            // of Count: failed verifications
	ByKind     map[string]int64 // fault kind, "verification" or "other" → count
	First      string           // text of the first one
}

func newHistogram() *hdr.Histogram {
	return hdr.New(1, int64(latencyMax/latencyUnit), latencyDigits)
}

// recorder is what one worker has counted; only that worker touches it.
type recorder struct {
	interval time.Duration
	series   []Series
	failures Failures
}

func newRecorder(p Plan, kinds []string) *recorder {
	r := &recorder{interval: p.interval(), failures: Failures{ByKind: map[string]int64{}}}
	for _, kind := range kinds {
		r.series = append(r.series, Series{Kind: kind, Latency: newHistogram()})
	}
	return r
}

// done counts a success that ended at a time after the warm-up.
func (r *recorder) done(d Done, latency, ended time.Duration) {
	s := &r.series[d.Kind]
	s.Operations++
	s.Bytes += d.Bytes
	s.record(latency)
	s.Timeline.add(int(ended/r.interval), 1, d.Bytes)
}

// record cannot fail: the value is brought into the histogram's range.
func (s *Series) record(latency time.Duration) {
	_ = s.Latency.RecordValue(int64(min(max(latency, 0), latencyMax) / latencyUnit))
}

func (t *Timeline) add(index int, operations, bytes int64) {
	if index >= intervalsMax {
		return
	}
	for len(t.Operations) <= index {
		t.Operations, t.Bytes = append(t.Operations, 0), append(t.Bytes, 0)
	}
	t.Operations[index] += operations
	t.Bytes[index] += bytes
}

// failed counts a failure.
func (r *recorder) failed(err error) {
	failures := &r.failures
	failures.Count++
	failures.First = cmp.Or(failures.First, err.Error())
	name := "other"
	switch kind := fault.KindOf(err); {
	case errors.Is(err, ErrWrongBytes):
		failures.WrongBytes++
		name = "verification"
	case kind != 0:
		name = kind.String()
	}
	if _, known := failures.ByKind[name]; known || len(failures.ByKind) < errorKindsMax {
		failures.ByKind[name]++
	}
}

// merge adds what another worker counted.
func (r *recorder) merge(other *recorder) {
	for i := range r.series {
		s, o := &r.series[i], &other.series[i]
		s.Operations += o.Operations
		s.Bytes += o.Bytes
		s.Latency.Merge(o.Latency)
		for at := range o.Timeline.Operations {
			s.Timeline.add(at, o.Timeline.Operations[at], o.Timeline.Bytes[at])
		}
	}
	f, o := &r.failures, &other.failures
	f.Count += o.Count
	f.WrongBytes += o.WrongBytes
	for name, n := range o.ByKind {
		f.ByKind[name] += n
	}
	f.First = cmp.Or(f.First, o.First)
}
