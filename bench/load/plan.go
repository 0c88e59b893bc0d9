// Package load issues operations at a cluster, or at anything else, and counts what comes back: closed loop (each
// worker begins the next operation when the last has ended) or open loop (operations begin at a fixed rate,
// whatever the system does), with HDR histograms of the latencies.
//
// Open loop knows no coordinated omission: an operation's latency counts from the moment it was meant to begin. If
// all workers are busy then, the wait is part of it, as it is for a user.
//
// Run starts the workers and returns when all have ended; the package owns no
// other goroutine and no state. What an operation does is its caller's business.
package load

import (
	"context"
	"errors"
	"time"

	"github.com/whispering-woods/ww/internal/fault"
)

// Errors that an Operation returns.
var (
	// ErrExhausted ends the worker: nothing is left to do. It is no failure.
	ErrExhausted = errors.New("nothing is left to do")
	// ErrWrongBytes is a failed verification: the system returned bytes that were not stored there.
	ErrWrongBytes = errors.New("bytes differ from those stored")
)

// Done is what one successful operation did.
type Done struct {
	Kind  int   // index into the kinds given to Run
	Bytes int64 // payload moved
}

// Operation does one thing. number counts all operations of a run from 0; worker
// is 0..Workers-1, and only one operation of a worker runs at a time.
type Operation func(ctx context.Context, worker int, number int64) (Done, error)

// Plan says how operations are issued and when the run ends. At least one of
// Duration, Count and Bytes is set; the first that is reached ends the run.
type Plan struct {
	Workers int     // how many operations are under way at most, 1..WorkersMax
	Rate    float64 // the number of operations that begin per second, over all workers; 0: closed loop
	// Warmup: operations that begin in it (that were meant to, in open loop) are done and not counted.
	Warmup   time.Duration
	Duration time.Duration // measured from the end of the warm-up
	Count    int64         // operations counted
	Bytes    int64         // payload bytes counted
}

// Validate reports the first setting that makes no sense: fault.Invalid.
func (p Plan) Validate() error {
	const op = "plan load"
	switch {
	case p.Workers < 1 || p.Workers > WorkersMax:
		return fault.New(fault.Invalid, op, "%d workers: want 1 to %d", p.Workers, WorkersMax)
	case p.Rate < 0 || p.Rate > rateMax:
		return fault.New(fault.Invalid, op, "a rate of %g per second: want 0 (closed loop) to %d",
			p.Rate, int64(rateMax))
	case p.Warmup < 0 || p.Duration < 0 || p.Count < 0 || p.Bytes < 0:
		return fault.New(fault.Invalid, op, "a negative warm-up, duration, count or number of bytes")
	case p.Duration == 0 && p.Count == 0 && p.Bytes == 0:
		return fault.New(fault.Invalid, op, "no end: set a duration, a count or a number of bytes")
	case p.Warmup > runMax || p.Duration > runMax:
		return fault.New(fault.Invalid, op, "a warm-up or duration above %s", runMax)
	}
	return nil
}

// intended is when the operation with a number is meant to begin, counted from
// the start of the run. Only open loop has such times.
func (p Plan) intended(number int64) time.Duration {
	return time.Duration(float64(number) / p.Rate * float64(time.Second))
}

// scheduled is how many operations are meant to begin before a moment.
func (p Plan) scheduled(until time.Duration) int64 {
	n := int64(until.Seconds() * p.Rate)
	for p.intended(n) < until {
		n++
	}
	for n > 0 && p.intended(n-1) >= until {
		n--
	}
	return n
}

// interval is the step of the timelines: short enough to see a hiccup, long enough that they stay small.
func (p Plan) interval() time.Duration {
	if p.Duration == 0 {
		return intervalDefault
	}
	return min(max(p.Duration/intervalsWanted, intervalLeast), runMax/intervalsMax)
}
