package lateness

import (
	"sync/atomic"
	"time"
)

// BytesPerSecond is what the slowest disk and network that are worth having move: 16 MiB/s.
const BytesPerSecond = 16 << 20

// Of is how late something is that took so long and had to move so many bytes: took ≥ 0, 0..took.
func Of(took time.Duration, bytes int64) time.Duration {
	return max(0, took-time.Duration(float64(max(bytes, 0))/BytesPerSecond*float64(time.Second)))
}

// Sample counts operations, and how late they were in all. What a Meter gives only grows.
type Sample struct {
	Operations uint64
	Late       time.Duration
}

// Since is what came after an earlier sample of the same meter; all of s if that began anew meanwhile.
func (s Sample) Since(before Sample) Sample {
	if s.Operations < before.Operations || s.Late < before.Late {
		return s
	}
	return Sample{s.Operations - before.Operations, s.Late - before.Late}
}

// Mean is how late one operation was; false: there was none.
func (s Sample) Mean() (late time.Duration, known bool) {
	if s.Operations == 0 {
		return 0, false
	}
	return time.Duration(uint64(s.Late) / s.Operations), true
}

// IO is how late the operations of a disk were: its reads, and its syncs, each with the writes before it.
type IO struct{ Reads, Writes Sample }

// Since is Sample.Since for both.
func (d IO) Since(before IO) IO {
	return IO{d.Reads.Since(before.Reads), d.Writes.Since(before.Writes)}
}

// Mean is that of the kind that is later; false: there was nothing to do.
func (d IO) Mean() (late time.Duration, known bool) {
	reads, read := d.Reads.Mean()
	writes, written := d.Writes.Mean()
	return max(reads, writes), read || written
}

// Meter adds up. The zero Meter is at zero. Safe for concurrent use.
type Meter struct {
	operations atomic.Uint64
	late       atomic.Int64
}

// Note adds an operation that was so late: 0..
func (m *Meter) Note(late time.Duration) {
	m.late.Add(int64(late))
	m.operations.Add(1)
}

// Sample is what was noted so far.
func (m *Meter) Sample() Sample {
	return Sample{m.operations.Load(), time.Duration(m.late.Load())}
}
