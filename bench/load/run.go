package load

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whispering-woods/ww/internal/fault"
)

// Outcome is what a run gave.
type Outcome struct {
	Series   []Series // one per kind, in their order
	Failures Failures
	Elapsed  time.Duration // from the end of the warm-up to the end of the last operation
	// Missed counts operations of an open loop that were meant to begin and never
	// did, because the system was too slow; their wait is in the latencies.
	Missed  int64
	Stopped error // why the run ended before its plan did; nil else
}

// Run issues operations by the plan until its end, or the end of ctx, which is an error. Failed operations are
// counted and do not end the run, unless many fail in a row (Outcome.Stopped).
func Run(ctx context.Context, plan Plan, kinds []string, op Operation) (Outcome, error) {
	if err := plan.Validate(); err != nil {
		return Outcome{}, err
	}
	state := &run{plan: plan, op: op, start: time.Now()}
	if plan.Rate > 0 {
		state.scheduled = state.horizon()
	}
	working, cancel := context.WithCancel(ctx)
	defer cancel()
	state.cancel = cancel
	recorders := make([]*recorder, plan.Workers)
	var workers sync.WaitGroup
	for i := range recorders {
		recorders[i] = newRecorder(plan, kinds)
		workers.Go(func() { state.work(working, i, recorders[i]) })
	}
	workers.Wait()
	if err := ctx.Err(); err != nil {
		return Outcome{}, err
	}
	total := recorders[0]
	for _, o := range recorders[1:] {
		total.merge(o)
	}
	out := Outcome{Series: total.series, Failures: total.failures, Elapsed: time.Duration(state.last.Load())}
	for i := range out.Series {
		out.Series[i].Timeline.Interval = total.interval
	}
	if stopped := state.stopped.Load(); stopped != nil {
		out.Stopped = *stopped
	}
	if plan.Rate > 0 && !state.exhausted.Load() && out.Stopped == nil {
		state.miss(&out)
	}
	return out, nil
}

// run is the shared state of the workers of one Run.
type run struct {
	plan      Plan
	op        Operation
	start     time.Time
	scheduled int64 // open loop: operations that are meant to begin at all

	next      atomic.Int64 // number of the next operation
	counted   atomic.Int64 // closed loop: operations claimed after the warm-up
	bytes     atomic.Int64
	last      atomic.Int64 // ns from the end of the warm-up to the last end of an operation
	failures  atomic.Int64 // in a row
	exhausted atomic.Bool
	stopped   atomic.Pointer[error]
	cancel    context.CancelFunc
}

// horizon is how many operations an open loop schedules.
func (r *run) horizon() int64 {
	warm := int64(0)
	if r.plan.Warmup > 0 {
		warm = r.plan.scheduled(r.plan.Warmup)
	}
	most := int64(1) << 62
	if r.plan.Duration > 0 {
		most = r.plan.scheduled(r.plan.Warmup + r.plan.Duration)
	}
	if r.plan.Count > 0 {
		most = min(most, warm+r.plan.Count)
	}
	return most
}

func (r *run) work(ctx context.Context, worker int, record *recorder) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		number, began, ok := r.begin(ctx, timer)
		if !ok {
			return
		}
		warm := began < r.plan.Warmup
		if !warm && r.plan.Rate == 0 && r.plan.Count > 0 && r.counted.Add(1) > r.plan.Count {
			return
		}
		done, err := r.op(ctx, worker, number)
		ended := time.Since(r.start)
		switch {
		case errors.Is(err, ErrExhausted):
			r.exhausted.Store(true)
			return
		case err != nil && ctx.Err() != nil:
			return
		case err != nil:
			record.failed(err)
			if r.failures.Add(1) >= errorsMax {
				stopped := error(fault.New(fault.Unavailable, "load", "%d operations failed in a row, the last: %v",
					errorsMax, err))
				r.stopped.CompareAndSwap(nil, &stopped)
				r.cancel()
				return
			}
			wait(ctx, timer, errorPause)
			continue
		}
		r.failures.Store(0)
		if warm {
			continue
		}
		after := ended - r.plan.Warmup
		record.done(done, ended-began, after)
		r.bytes.Add(done.Bytes)
		for {
			last := r.last.Load()
			if int64(after) <= last || r.last.CompareAndSwap(last, int64(after)) {
				break
			}
		}
	}
}

// begin waits for the worker's next operation. began is when it begins (closed
// loop) or was meant to begin (open loop), from the start of the run.
func (r *run) begin(ctx context.Context, timer *time.Timer) (number int64, began time.Duration, ok bool) {
	plan := r.plan
	if ctx.Err() != nil || r.exhausted.Load() || plan.Bytes > 0 && r.bytes.Load() >= plan.Bytes {
		return 0, 0, false
	}
	now := time.Since(r.start)
	if plan.Rate == 0 {
		if plan.Duration > 0 && now >= plan.Warmup+plan.Duration {
			return 0, 0, false
		}
		return r.next.Add(1) - 1, now, true
	}
	if plan.Duration > 0 && now >= plan.Warmup+2*plan.Duration+overtime {
		return 0, 0, false
	}
	number = r.next.Add(1) - 1
	if number >= r.scheduled {
		return 0, 0, false
	}
	began = plan.intended(number)
	if now < began && !wait(ctx, timer, began-now) {
		return 0, 0, false
	}
	return number, began, true
}

// miss counts what was meant to begin and did not: each such operation waited until the end of the run at least. It
// counts for the first kind, because it is unknown what it would have been.
func (r *run) miss(out *Outcome) {
	end := r.plan.Warmup + out.Elapsed
	for number := r.next.Load(); number < r.scheduled &&
		(r.plan.Bytes == 0 || r.bytes.Load() < r.plan.Bytes); number++ {
		meant := r.plan.intended(number)
		if meant > end {
			break
		}
		out.Missed++
		out.Series[0].record(end - meant)
	}
}

// wait sleeps; false if ctx ended first.
func wait(ctx context.Context, timer *time.Timer, d time.Duration) bool {
	timer.Reset(d)
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
