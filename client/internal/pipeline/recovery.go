package pipeline

import (
	"errors"
	"slices"
	"time"

	"github.com/whispering-woods/ww/internal/backoff"
	"github.com/whispering-woods/ww/internal/fault"
)

// recovery is what a stream remembers of its broken pipelines: how often it tried, and whom to do without.
type recovery struct {
	attempts int // since the last progress; at most RecoveriesMax
	total    int // at most recoveriesTotalMax
	// failures: every hop that failed, once, with its latest reason.
	failures []HopFailure
	// excluded nodes are not used again, unless no other is left.
	excluded []string
	last     error // what happened last, for the final error
}

// note remembers the blame of a failure. existing: a hop said that it has the replica already.
func (r *recovery) note(e *sessionError) (existing bool) {
	r.last = e.err
	for _, f := range e.failed {
		if errors.Is(f.Err, fault.Exists) {
			existing = true
			continue // the node is well; the session has to open in another mode
		}
		r.blame(f)
	}
	return existing
}

// blame excludes a hop and remembers why.
func (r *recovery) blame(f HopFailure) {
	r.excluded = Union(r.excluded, []string{f.Hop.NodeID})
	i := slices.IndexFunc(r.failures, func(g HopFailure) bool { return g.Hop.NodeID == f.Hop.NodeID })
	if i >= 0 {
		r.failures[i] = f
	} else {
		r.failures = append(r.failures, f)
	}
}

// begin counts an attempt and returns how long to wait before it; false: there were enough.
func (r *recovery) begin() (wait time.Duration, allowed bool) {
	r.attempts++
	if r.total++; r.attempts > RecoveriesMax || r.total > recoveriesTotalMax {
		return 0, false
	}
	if r.attempts > 1 {
		wait = backoff.Exponential{First: recoveryWaitFirst, Max: recoveryWaitMost}.After(r.attempts - 1)
	}
	return wait, true
}

// uncount withdraws an attempt that only its caller's context ended: nothing failed.
func (r *recovery) uncount() { r.attempts, r.total = r.attempts-1, r.total-1 }

// exhausted is the one clear error at the end of all attempts.
func (r *recovery) exhausted() *fault.Error {
	e := &fault.Error{Kind: fault.Unavailable, Op: "write", Reason: "no pipeline stood up", Err: r.last,
		Hint: "everything acknowledged so far stays readable while one replica lives"}
	if len(r.failures) > 0 {
		e.Reason += ": " + Reasons(r.failures)
		e.Err = nil
	}
	if r.full() {
		e.Kind, e.Hint = fault.NoSpace, "remove files, or add datanodes or disks"
	}
	return e
}

// full reports whether want of room is all that was wrong with the nodes.
func (r *recovery) full() bool {
	return len(r.failures) > 0 && !slices.ContainsFunc(r.failures, func(f HopFailure) bool {
		return !errors.Is(f.Err, fault.NoSpace)
	})
}
