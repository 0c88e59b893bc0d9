package pipeline

import (
	"errors"
	"slices"
	"time"

	"github.com/whispering-woods/ww/client/internal/namenode"
	"github.com/whispering-woods/ww/internal/backoff"
	"github.com/whispering-woods/ww/internal/fault"
)

// recovery is what a stream remembers of its broken pipelines: how often it tried, and whom to do without.
type recovery struct {
	attempts int          // since the last progress; at most RecoveriesMax
	total    int          // at most recoveriesTotalMax
	failures []HopFailure // every hop that failed, once, with its latest reason
	// excluded nodes are not used again for a while, unless there are too few others.
	exclusions []exclusion
	last       error // what happened last, for the final error
	// waitingSince: there are too few nodes since then; zero: there are enough. Attempts meanwhile, waits of them so
	// far, are bounded by the retry policy alone, however they end: one finds too few, the next that one of those still
	// does not answer.
	waits        int
	waitingSince time.Time
	tooFew       error // what is waited for
	counted      bool  // the running attempt is one of attempts
}

// exclusion is a node that failed: not used until then. times it failed, each of which doubles the time.
type exclusion struct {
	nodeID string
	until  time.Time
	times  int
}

// excluded lists the nodes to do without now.
func (r *recovery) excluded(now time.Time) (nodeIDs []string) {
	for _, e := range r.exclusions {
		if e.until.After(now) {
			nodeIDs = append(nodeIDs, e.nodeID)
		}
	}
	return nodeIDs
}

// awaitNodes notes that there are too few nodes, as err says; those that failed may come back.
func (r *recovery) awaitNodes(now time.Time, err error) {
	r.tooFew = err
	for i := range r.exclusions {
		r.exclusions[i].until = time.Time{}
	}
	if r.waitingSince.IsZero() {
		r.waits, r.waitingSince = 0, now
	}
}

// stands notes that there is a pipeline again: nothing is waited for.
func (r *recovery) stands() { r.waitingSince = time.Time{} }

// note remembers the blame of a failure. existing: a hop said that it has the replica already.
func (r *recovery) note(e *sessionError, now time.Time) (existing bool) {
	r.last = e.err
	for _, f := range e.failed {
		if errors.Is(f.Err, fault.Exists) {
			existing = true
			continue // the node is well; the session has to open in another mode
		}
		r.blame(f, now)
	}
	return existing
}

// blame excludes a hop for a while, twice as long each time, and remembers why.
func (r *recovery) blame(failed HopFailure, now time.Time) {
	at := slices.IndexFunc(r.exclusions, func(e exclusion) bool { return e.nodeID == failed.Hop.NodeID })
	if at < 0 {
		at = len(r.exclusions)
		r.exclusions = append(r.exclusions, exclusion{nodeID: failed.Hop.NodeID})
	}
	excluded := &r.exclusions[at]
	excluded.times++
	first := excludedFirst
	if failed.Slow != nil {
		first = excludedSlow
	}
	excluded.until = now.Add(backoff.Exponential{First: first, Max: excludedMost}.After(excluded.times))
	i := slices.IndexFunc(r.failures, func(g HopFailure) bool { return g.Hop.NodeID == failed.Hop.NodeID })
	if i >= 0 {
		r.failures[i] = failed
	} else {
		r.failures = append(r.failures, failed)
	}
}

// begin counts an attempt and returns how long to wait before it; false: there were enough.
func (r *recovery) begin(now time.Time, retry namenode.RetryFunc) (wait time.Duration, allowed bool) {
	if r.counted = r.waitingSince.IsZero() || r.full(); !r.counted {
		r.waits++
		return retry(r.waits, now.Sub(r.waitingSince), r.last)
	}
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
func (r *recovery) uncount() {
	if r.counted {
		r.attempts, r.total = r.attempts-1, r.total-1
	}
}

// exhausted is the one clear error at the end of all attempts.
func (r *recovery) exhausted() *fault.Error {
	givenUp := &fault.Error{Kind: fault.Unavailable, Op: "write", Reason: "no pipeline stood up", Err: r.last,
		Hint: "everything acknowledged so far stays readable while one replica lives"}
	if len(r.failures) > 0 {
		givenUp.Reason += ": " + Reasons(r.failures)
		givenUp.Err = nil
	}
	switch {
	case r.full():
		givenUp.Kind, givenUp.Hint = fault.NoSpace, "remove files, or add datanodes or disks"
	case !r.waitingSince.IsZero():
		givenUp.Err = r.tooFew
		givenUp.Hint = "start the datanodes that are away, or add others (namenode.write_copies_min says how many " +
			"are needed); " + givenUp.Hint
	}
	return givenUp
}

// full reports whether want of room is all that was wrong with the nodes.
func (r *recovery) full() bool {
	return len(r.failures) > 0 && !slices.ContainsFunc(r.failures, func(f HopFailure) bool {
		return !errors.Is(f.Err, fault.NoSpace)
	})
}
