// Package backoff says how long to wait before something that failed is tried
// again. It keeps no state, waits for nothing and runs no goroutine.
package backoff

import (
	"math/rand/v2"
	"time"
)

// Exponential is a wait that doubles with each failure in a row.
type Exponential struct {
	First time.Duration // after the first failure, > 0
	Max   time.Duration // no wait is longer, >= First
}

// After is the wait after that many failures in a row, 1 or more.
func (e Exponential) After(failures int) time.Duration {
	wait := e.First
	for n := 1; n < failures && wait < e.Max; n++ {
		wait *= 2
	}
	return min(wait, e.Max)
}

// Spread gives a random time from half of a wait to one and a half, so that
// those who failed together do not come back together.
func Spread(wait time.Duration) time.Duration { return wait/2 + rand.N(wait+1) }
