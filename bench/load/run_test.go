package load

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/fault"
)

// takes is an operation of a fixed length, on the fake clock of a bubble.
func takes(d time.Duration) Operation {
	return func(ctx context.Context, _ int, _ int64) (Done, error) {
		return Done{Bytes: 100}, pause(ctx, d)
	}
}

func pause(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestClosedLoopBeginsTheNextWhenTheLastHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, err := Run(t.Context(), Plan{Workers: 4, Duration: time.Second}, []string{"op"},
			takes(10*time.Millisecond))
		require.NoError(t, err)
		s := out.Series[0]
		require.EqualValues(t, 400, s.Operations)
		require.EqualValues(t, 40_000, s.Bytes)
		require.Equal(t, time.Second, out.Elapsed)
		require.EqualValues(t, 10_000, s.Latency.ValueAtPercentile(50)/10*10)
		total := int64(0)
		for _, n := range s.Timeline.Operations {
			total += n
		}
		require.EqualValues(t, 400, total)
	})
}

func TestClosedLoopEndsAtItsCountAndAtItsBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, err := Run(t.Context(), Plan{Workers: 3, Count: 50, Warmup: 100 * time.Millisecond}, []string{"op"},
			takes(time.Millisecond))
		require.NoError(t, err)
		require.EqualValues(t, 50, out.Series[0].Operations)

		out, err = Run(t.Context(), Plan{Workers: 1, Bytes: 1000}, []string{"op"}, takes(time.Millisecond))
		require.NoError(t, err)
		require.EqualValues(t, 10, out.Series[0].Operations)
	})
}

// The heart of open loop: a stall of one second delays everything that was meant
// to begin in it, and all of that shows.
func TestOpenLoopCountsFromTheIntendedStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stall := func(ctx context.Context, _ int, number int64) (Done, error) {
			if number == 1000 {
				return Done{}, pause(ctx, time.Second)
			}
			return Done{}, nil
		}
		out, err := Run(t.Context(), Plan{Workers: 1, Rate: 1000, Duration: 10 * time.Second}, []string{"op"}, stall)
		require.NoError(t, err)
		s := out.Series[0]
		require.EqualValues(t, 10_000, s.Operations)
		require.Zero(t, out.Missed)
		// Numbers 1000..1999 waited 1000, 999, … 1 ms: a tenth of all, half of it
		// above 500 ms. A tool that omits them shows one slow operation in 10,000.
		require.InDelta(t, 500_000, s.Latency.ValueAtPercentile(95), 3000)
		require.InDelta(t, 900_000, s.Latency.ValueAtPercentile(99), 3000)
		require.InDelta(t, 0, s.Latency.ValueAtPercentile(89), 1)
	})
}

func TestOpenLoopThatCannotKeepUpEndsAndTellsWhatItMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		out, err := Run(t.Context(), Plan{Workers: 1, Rate: 100, Duration: 10 * time.Second},
			[]string{"op"}, takes(time.Second))
		require.NoError(t, err)
		require.LessOrEqual(t, time.Since(began), 27*time.Second)
		s := out.Series[0]
		require.Positive(t, out.Missed)
		require.EqualValues(t, 1000, s.Operations+out.Missed)
		require.EqualValues(t, 1000, s.Latency.TotalCount(), "what was missed waited too")
		require.Greater(t, s.Latency.ValueAtPercentile(50), int64(10_000_000))
	})
}

func TestWarmUpIsNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slowFirst := func(ctx context.Context, _ int, number int64) (Done, error) {
			if number < 10 {
				return Done{}, pause(ctx, 50*time.Millisecond)
			}
			return Done{}, pause(ctx, time.Millisecond)
		}
		for _, rate := range []float64{0, 500} {
			out, err := Run(t.Context(), Plan{Workers: 1, Rate: rate, Warmup: time.Second, Duration: time.Second},
				[]string{"op"}, slowFirst)
			require.NoError(t, err)
			s := out.Series[0]
			require.LessOrEqual(t, s.Latency.Max(), int64(2000), "rate %g", rate)
			require.InDelta(t, time.Second, out.Elapsed, float64(2*time.Millisecond))
			if rate > 0 {
				require.EqualValues(t, 500, s.Operations)
			}
		}
	})
}

func TestFailuresAreCountedByKindAndDoNotEndTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, err := Run(t.Context(), Plan{Workers: 2, Count: 90}, []string{"op"},
			func(_ context.Context, _ int, number int64) (Done, error) {
				switch number % 3 {
				case 0:
					return Done{}, fault.New(fault.Busy, "write", "full")
				case 1:
					return Done{}, errors.Join(ErrWrongBytes)
				}
				return Done{}, nil
			})
		require.NoError(t, err)
		require.NoError(t, out.Stopped)
		require.EqualValues(t, 60, out.Failures.Count)
		require.EqualValues(t, 30, out.Failures.WrongBytes)
		require.Equal(t, map[string]int64{"busy": 30, "verification": 30}, out.Failures.ByKind)
		require.NotEmpty(t, out.Failures.First)
		require.EqualValues(t, 30, out.Series[0].Operations)
	})
}

func TestARunOfFailuresEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, err := Run(t.Context(), Plan{Workers: 2, Duration: time.Hour}, []string{"op"},
			func(context.Context, int, int64) (Done, error) {
				return Done{}, errors.New("down")
			})
		require.NoError(t, err)
		require.ErrorContains(t, out.Stopped, "down")
		require.LessOrEqual(t, out.Failures.Count, int64(errorsMax+1))
	})
}

func TestExhaustedEndsTheRunWithoutAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var left atomic.Int64
		left.Store(25)
		for _, rate := range []float64{0, 1000} {
			left.Store(25)
			out, err := Run(t.Context(), Plan{Workers: 4, Rate: rate, Duration: time.Hour}, []string{"op"},
				func(ctx context.Context, _ int, _ int64) (Done, error) {
					if left.Add(-1) < 0 {
						return Done{}, ErrExhausted
					}
					return Done{}, pause(ctx, time.Millisecond)
				})
			require.NoError(t, err)
			require.EqualValues(t, 25, out.Series[0].Operations)
			require.Zero(t, out.Failures.Count)
			require.Zero(t, out.Missed)
		}
	})
}

func TestTheEndOfTheContextIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := Run(ctx, Plan{Workers: 2, Duration: time.Hour}, []string{"op"}, takes(time.Millisecond))
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestPlansAreChecked(t *testing.T) {
	for _, p := range []Plan{
		{Duration: 1}, {Workers: WorkersMax + 1, Duration: 1}, {Workers: 1}, {Workers: 1, Duration: 1, Rate: -1},
		{Workers: 1, Duration: -1}, {Workers: 1, Duration: 48 * time.Hour},
	} {
		require.ErrorIs(t, p.Validate(), fault.Invalid, "%+v", p)
	}
	require.NoError(t, Plan{Workers: 1, Count: 1}.Validate())
}

func TestScheduleAndIntendedAgree(t *testing.T) {
	for _, rate := range []float64{1, 3, 7.5, 1000, 33333} {
		p := Plan{Rate: rate}
		for _, until := range []time.Duration{time.Nanosecond, time.Second, 3 * time.Second, 10_000_001} {
			n := p.scheduled(until)
			require.Less(t, p.intended(n-1), until)
			require.GreaterOrEqual(t, p.intended(n), until)
		}
	}
}
