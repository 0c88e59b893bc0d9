// Package clock is the seam for time: production code takes a Clock instead of
// calling package time, so that a test or the simulator can decide when it is.
package clock

import (
	"context"
	"sync"
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

// Fake is a clock that moves only when told. Its zero value is not usable; see NewFake.
type Fake struct {
	mu struct {
		sync.Mutex
		now    time.Time
		timers map[*fakeTimer]struct{}
	}
}

// NewFake returns a clock that stands at start.
func NewFake(start time.Time) *Fake {
	f := &Fake{}
	f.mu.now = start
	f.mu.timers = make(map[*fakeTimer]struct{})
	return f
}

// Now is the time that the last Advance left.
func (f *Fake) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.now
}

// Advance moves the clock by d and fires every timer that is due.
func (f *Fake) Advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.now = f.mu.now.Add(d)
	for t := range f.mu.timers {
		if !t.at.After(f.mu.now) {
			delete(f.mu.timers, t)
			t.c <- f.mu.now
		}
	}
}

// NewTimer makes a timer that Advance fires.
func (f *Fake) NewTimer(d time.Duration) Timer {
	t := &fakeTimer{clock: f, c: make(chan time.Time, 1)}
	t.Reset(d)
	return t
}

type fakeTimer struct {
	clock *Fake
	at    time.Time
	c     chan time.Time
}

func (t *fakeTimer) C() <-chan time.Time { return t.c }

func (t *fakeTimer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	_, running := t.clock.mu.timers[t]
	delete(t.clock.mu.timers, t)
	return running
}

func (t *fakeTimer) Reset(after time.Duration) bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	_, running := t.clock.mu.timers[t]
	select { // a fired and unread tick belongs to the old run
	case <-t.c:
	default:
	}
	t.at = t.clock.mu.now.Add(after)
	if after <= 0 {
		t.c <- t.clock.mu.now
		return running
	}
	t.clock.mu.timers[t] = struct{}{}
	return running
}
