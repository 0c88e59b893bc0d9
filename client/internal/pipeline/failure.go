package pipeline

import (
	"fmt"
	"slices"
	"strings"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
)

// sessionError says why a write session ended and which hops are to blame.
type sessionError struct {
	// failed names hops that reported an error or did not answer. Empty: the connection broke and nobody is known to be
	// at fault.
	failed []HopFailure
	err    error // *fault.Error
}

func (e *sessionError) Error() string { return e.err.Error() }
func (e *sessionError) Unwrap() error { return e.err }

// HopFailure is what was wrong with one node of a pipeline.
type HopFailure struct {
	Hop  wire.Hop
	Err  *fault.Error
	Slow *SlowNode // not nil: that is all that is wrong with it
}

// SlowNode is a datanode that held up a pipeline and was replaced for it, or left out: then it moved nothing.
type SlowNode struct {
	NodeID         string
	Address        string
	BytesPerSecond float64 // of the pipeline that it held up
	Link           bool    // bytes wait on the way to it; else for its disk
}

func (n SlowNode) reason() string {
	return fmt.Sprintf("slow: %.1f MB/s, bytes wait %s", n.BytesPerSecond/1e6, n.where())
}

func (n SlowNode) where() string {
	if n.Link {
		return "on the way to it"
	}
	return "for its disk"
}

// Reasons lists failures for a message.
func Reasons(failures []HopFailure) string {
	var text strings.Builder
	for i, f := range failures {
		if i > 0 {
			text.WriteString("; ")
		}
		reason := f.Err.Reason
		if reason == "" {
			reason = f.Err.Kind.String()
		}
		fmt.Fprintf(&text, "node %s (%s): %s", f.Hop.NodeID, f.Hop.Address, reason)
	}
	return text.String()
}

// Union joins two lists of node ids.
func Union(a, b []string) []string {
	all := slices.Clone(a)
	for _, id := range b {
		if !slices.Contains(all, id) {
			all = append(all, id)
		}
	}
	return all
}
