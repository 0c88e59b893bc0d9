package load

import "time"

// Bounds of one run. Its memory: for each worker and kind one histogram (1 µs..latencyMax at 3 digits: 27 buckets ·
// 1,024 · 8 B ≈ 230 KiB), so 64 workers with 5 kinds use 72 MiB; and 2 timelines of 16 KiB per kind.
const (
	// WorkersMax bounds Plan.Workers.
	WorkersMax = 1024

	rateMax = 10_000_000
	runMax  = 24 * time.Hour

	// Latencies are kept in steps of latencyUnit with 3 significant digits; what
	// took longer than latencyMax counts as latencyMax.
	latencyUnit   = time.Microsecond
	latencyMax    = 10 * time.Minute
	latencyDigits = 3

	// A timeline has at most intervalsMax steps; what happens later is in the totals only.
	intervalsMax    = 2048
	intervalsWanted = 120
	intervalLeast   = 50 * time.Millisecond
	intervalDefault = 250 * time.Millisecond

	// After the end of an open loop that cannot keep up, what was meant to begin
	// before still does, for as long again and overtime; the rest is missed.
	overtime = 5 * time.Second

	// After a failed operation a worker waits errorPause, so that a dead cluster is not asked a million times;
	// after errorsMax failures in a row the run ends.
	errorPause = 10 * time.Millisecond
	errorsMax  = 100
	// errorKindsMax bounds the kinds of error that are counted apart.
	errorKindsMax = 64
)
