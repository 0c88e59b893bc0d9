// Package clock is the seam for time: production code takes a Clock instead of
// calling package time, so that a test or the simulator can decide when it is.
package clock

import (
	"context"
	"time"
)

// Clock tells the time and makes timers. Safe for concurrent use.
type Clock interface {
	// Now is the wall clock with a monotonic reading (package time).
	Now() time.Time
	// NewTimer fires once on C after d.
	NewTimer(d time.Duration) Timer
}

// Timer is a running timer.
type Timer interface {
	C() <-chan time.Time
	// Stop reports whether it kept the timer from firing.
	Stop() bool
	// Reset starts the timer again for d.
	Reset(d time.Duration) bool
}

// Sleep waits for d, or until ctx ends: then it returns the context's error.
func Sleep(ctx context.Context, c Clock, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := c.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Poll calls check every so often, at first at once, until it returns nil. If ctx ends first, it returns what check
// said last.
func Poll(ctx context.Context, c Clock, every time.Duration, check func() error) error {
	for {
		err := check()
		if err == nil || Sleep(ctx, c, every) != nil {
			return err
		}
	}
}

// Real is the system's clock.
type Real struct{}

// Now is time.Now.
func (Real) Now() time.Time { return time.Now() }

// NewTimer is time.NewTimer.
func (Real) NewTimer(d time.Duration) Timer { return realTimer{time.NewTimer(d)} }

type realTimer struct{ t *time.Timer }

func (r realTimer) C() <-chan time.Time        { return r.t.C }
func (r realTimer) Stop() bool                 { return r.t.Stop() }
func (r realTimer) Reset(d time.Duration) bool { return r.t.Reset(d) }
