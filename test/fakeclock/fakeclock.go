// Package fakeclock is a clock for tests that stands until it is told to move.
package fakeclock

import (
	"sync"
	"time"

	"github.com/whispering-woods/ww/internal/clock"
)

var _ clock.Clock = (*Clock)(nil)

// Clock is a clock that moves only when told. Its zero value is not usable; see New.
type Clock struct {
	mu struct {
		sync.Mutex
		now    time.Time
		timers map[*timer]struct{}
	}
}

// New returns a clock that stands at start.
func New(start time.Time) *Clock {
	c := &Clock{}
	c.mu.now = start
	c.mu.timers = make(map[*timer]struct{})
	return c
}

// Now is the time that the last Advance left.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.now
}

// Advance moves the clock by d and fires every timer that is due.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.now = c.mu.now.Add(d)
	for t := range c.mu.timers {
		if !t.at.After(c.mu.now) {
			delete(c.mu.timers, t)
			t.ticks <- c.mu.now
		}
	}
}

// NewTimer makes a timer that Advance fires.
func (c *Clock) NewTimer(d time.Duration) clock.Timer {
	t := &timer{clock: c, ticks: make(chan time.Time, 1)}
	t.Reset(d)
	return t
}

// Hurried is a Clock that whoever makes a timer moves on to its end at once.
type Hurried struct {
	*Clock
	Most    time.Duration // longer timers move nothing; 0: there are none such
	OnTimer func()        // runs before; may be nil
}

// NewTimer makes a timer that has fired, unless it is too long.
func (h *Hurried) NewTimer(d time.Duration) clock.Timer {
	t := h.Clock.NewTimer(d)
	if h.OnTimer != nil {
		h.OnTimer()
	}
	if h.Most == 0 || d <= h.Most {
		h.Advance(d)
	}
	return t
}

type timer struct {
	clock *Clock
	at    time.Time
	ticks chan time.Time
}

func (t *timer) C() <-chan time.Time { return t.ticks }

func (t *timer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	_, running := t.clock.mu.timers[t]
	delete(t.clock.mu.timers, t)
	return running
}

func (t *timer) Reset(after time.Duration) bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	_, running := t.clock.mu.timers[t]
	select { // a fired and unread tick belongs to the old run
	case <-t.ticks:
	default:
	}
	t.at = t.clock.mu.now.Add(after)
	if after <= 0 {
		t.ticks <- t.clock.mu.now
		return running
	}
	t.clock.mu.timers[t] = struct{}{}
	return running
}
