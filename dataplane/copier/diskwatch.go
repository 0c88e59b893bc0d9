package copier

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/whispering-woods/ww/internal/clock"
)

// diskWatch knows for how long a copy has waited for its disk while that did nothing for it. Safe for concurrent use.
type diskWatch struct {
	clock clock.Clock
	// since is when the wait began, or the disk moved last during it, in Unix nanoseconds; 0: it does not wait.
	since atomic.Int64
}

// wait notes that the copy waits for its disk until over is called. One wait at a time.
func (w *diskWatch) wait() (over func()) {
	w.since.Store(w.clock.Now().UnixNano())
	return func() { w.since.Store(0) }
}

// moved notes that the disk has done something for the copy.
func (w *diskWatch) moved() {
	if since := w.since.Load(); since != 0 {
		w.since.CompareAndSwap(since, w.clock.Now().UnixNano())
	}
}

// hangs returns true when the disk has done nothing for a copy that waited for it all the time; false when ended is
// closed before. A process that stood still itself gives the disk another while.
func (w *diskWatch) hangs(limit time.Duration, ended <-chan struct{}) bool {
	wait := limit
	timer := w.clock.NewTimer(wait)
	defer timer.Stop()
	for {
		due := w.clock.Now().Add(wait)
		select {
		case <-ended:
			return false
		case <-timer.C():
		}
		now, since := w.clock.Now(), w.since.Load()
		stood := now.Sub(due) > limit/2
		if wait = limit; since != 0 && !stood {
			if wait = limit - now.Sub(time.Unix(0, since)); wait <= 0 {
				return true
			}
		}
		timer.Reset(wait)
	}
}

// awaitEnd waits for a copy, which runs on a goroutine of its own, until its disk hangs: then that goroutine is left to
// the disk, and does nothing more when it goes on but to throw away what it has copied. Only what was being sealed or
// published may still appear, as after a caller that went away. False: the disk hangs.
func (t *task) awaitEnd(cancel context.CancelFunc, ended <-chan struct{}) bool {
	if t.disk.hangs(t.copier.DiskTimeout, ended) {
		cancel()
		return false
	}
	return true
}
