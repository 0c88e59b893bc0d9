package client

import (
	"math/rand/v2"
	"time"

	"github.com/whispering-woods/ww/internal/backoff"
	"github.com/whispering-woods/ww/internal/fault"
)

// Attempt describes to a RetryPolicy the attempt that just failed.
type Attempt struct {
	Number  int           // 1 for the first
	Elapsed time.Duration // since the first attempt began
	Err     error
}

// RetryPolicy decides whether and when a failed operation is tried again. It holds no state about an operation, so one
// policy serves many goroutines. It is asked only about errors that fault.ClassOf calls retryable.
type RetryPolicy interface {
	// Next returns how long to wait before the next attempt, or false to give up.
	Next(failed Attempt) (wait time.Duration, again bool)
}

// Names of the policies that RetryByName knows.
const (
	RetryExponential = "exponential" // exponential backoff with full jitter
	RetryConstant    = "constant"    // the same wait each time
	RetryNone        = "none"        // one attempt
)

// RetryLimits bounds a policy; zero fields get the defaults named.
type RetryLimits struct {
	Attempts int           // most attempts; default 0: no limit but Elapsed
	Elapsed  time.Duration // no attempt begins later; default 60 s
	Initial  time.Duration // first wait, or the constant one; default 50 ms
	Maximum  time.Duration // longest wait; default 2 s
}

// RetryByName makes the policy of that name; "" is exponential. Error: fault.Invalid for an unknown name.
func RetryByName(name string, limits RetryLimits) (RetryPolicy, error) {
	if limits.Elapsed <= 0 {
		limits.Elapsed = retryElapsedDefault
	}
	if limits.Initial <= 0 {
		limits.Initial = retryInitialDefault
	}
	if limits.Maximum <= 0 {
		limits.Maximum = retryMaximumDefault
	}
	limits.Maximum = max(limits.Maximum, limits.Initial)
	build, ok := retryPolicies[name]
	if !ok {
		return nil, fault.New(fault.Invalid, "choose retry policy", "no policy is called %q (there are %s, %s, %s)",
			name, RetryExponential, RetryConstant, RetryNone)
	}
	return build(limits), nil
}

var retryPolicies = map[string]func(RetryLimits) RetryPolicy{
	"":               func(l RetryLimits) RetryPolicy { return exponential{l} },
	RetryExponential: func(l RetryLimits) RetryPolicy { return exponential{l} },
	RetryConstant:    func(l RetryLimits) RetryPolicy { return constant{l} },
	RetryNone:        func(RetryLimits) RetryPolicy { return never{} },
}

// exponential waits a random time between 0 and initial·2ⁿ, capped ("full jitter": AWS Architecture Blog, Exponential
// Backoff and Jitter).
type exponential struct{ limits RetryLimits }

func (p exponential) Next(failed Attempt) (time.Duration, bool) {
	ceiling := backoff.Exponential{First: p.limits.Initial, Max: p.limits.Maximum}.After(failed.Number)
	return p.limits.allow(failed, rand.N(ceiling)+time.Millisecond)
}

// constant waits the same time after every attempt.
type constant struct{ limits RetryLimits }

func (p constant) Next(failed Attempt) (time.Duration, bool) {
	return p.limits.allow(failed, p.limits.Initial)
}

// never gives up at once.
type never struct{}

func (never) Next(Attempt) (time.Duration, bool) { return 0, false }

// allow applies the limits to a wait.
func (l RetryLimits) allow(failed Attempt, wait time.Duration) (time.Duration, bool) {
	if l.Attempts > 0 && failed.Number >= l.Attempts {
		return 0, false
	}
	if failed.Elapsed+wait > l.Elapsed {
		return 0, false
	}
	return wait, true
}
