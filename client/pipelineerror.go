package client

import (
	"fmt"
	"strings"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
)

// pipelineError says why a write session ended and which hops are to blame.
type pipelineError struct {
	// failed names hops that reported an error or did not answer. Empty: the
	// connection broke and nobody is known to be at fault.
	failed []hopFailure
	err    error // *fault.Error
}

type hopFailure struct {
	hop  wire.Hop
	err  *fault.Error
	slow *SlowNode // not nil: that is all that is wrong with it
}

func (e *pipelineError) Error() string { return e.err.Error() }
func (e *pipelineError) Unwrap() error { return e.err }

// nodeIDs lists the nodes of a pipeline for a message.
func nodeIDs(hops []wire.Hop) []string {
	ids := make([]string, 0, len(hops))
	for _, h := range hops {
		ids = append(ids, h.NodeID)
	}
	return ids
}

func reasons(failures []hopFailure) string {
	var b strings.Builder
	for i, f := range failures {
		if i > 0 {
			b.WriteString("; ")
		}
		reason := f.err.Reason
		if reason == "" {
			reason = f.err.Kind.String()
		}
		fmt.Fprintf(&b, "node %s (%s): %s", f.hop.NodeID, f.hop.Address, reason)
	}
	return b.String()
}
