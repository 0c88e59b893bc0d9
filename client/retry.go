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
	Next(failed Attempt) (wait time.Duration, retry bool)
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
	switch name {
	case "":
		return policy{RetryExponential, limits}, nil
	case RetryExponential, RetryConstant, RetryNone:
		return policy{name, limits}, nil
	}
	return nil, fault.New(fault.Invalid, "choose retry policy", "no policy is called %q (there are %s, %s, %s)",
		name, RetryExponential, RetryConstant, RetryNone)
}

// policy is a RetryPolicy. It is a plain value, so that Options made of the same configuration are equal: a test
// compares them to prove that every setting has an effect, and functions are never equal.
type policy struct {
	name   string
	limits RetryLimits
}

// Next implements RetryPolicy.
func (p policy) Next(failed Attempt) (wait time.Duration, retry bool) {
	switch p.name {
	case RetryNone:
		return 0, false
	case RetryConstant:
		return p.limits.allow(failed, p.limits.Initial)
	}
	// Full jitter: a random time between 0 and Initial·2ⁿ, capped (AWS Architecture Blog, Exponential Backoff and
	// Jitter).
	ceiling := backoff.Exponential{First: p.limits.Initial, Max: p.limits.Maximum}.After(failed.Number)
	return p.limits.allow(failed, rand.N(ceiling)+time.Millisecond)
}

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
