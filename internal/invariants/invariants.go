// Package invariants holds the project's assertions. A failed one is a bug of ours, never the effect of a disk or a
// network: it stops the process. Costly checks hide behind Enabled, which the race detector and the build tag
// "invariants" turn on.
package invariants

import "fmt"

// Assert panics with the formatted message when ok is false.
func Assert(ok bool, format string, args ...any) {
	if !ok {
		panic("invariant broken: " + fmt.Sprintf(format, args...))
	}
}
