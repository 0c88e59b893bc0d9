package placement

import "cmp"

// ReadOrder says whom of two nodes with a replica a reader should ask first: below 0 is a, above 0 is b, 0 either,
// and then chance decides. Whether a node is alive comes first and is no concern of it. It keeps no state.
type ReadOrder func(a, b *Candidate) int

// readOrders has a row for each order: its name in settings. The first is the default.
var readOrders = []named[ReadOrder]{
	{"least-loaded", leastLoaded},
	{"local-first", localReads},
	{"random", func(_, _ *Candidate) int { return 0 }},
}

// ReadOrders lists the read orders for settings and messages.
func ReadOrders() []string { return names(readOrders) }

// NewReadOrder finds a read order by name, the default without one; nil if the name is not known.
func NewReadOrder(name string) ReadOrder { return find(readOrders, cmp.Or(name, readOrders[0].name)) }

func leastLoaded(a, b *Candidate) int { return cmp.Compare(busy(a), busy(b)) }

// localReads asks the node on the reader's own machine first, and the others by their load.
func localReads(a, b *Candidate) int {
	if a.Local != b.Local {
		if a.Local {
			return -1
		}
		return 1
	}
	return leastLoaded(a, b)
}

// busy is the load of a node, four times as much on a machine that is fully pressed.
func busy(c *Candidate) int64 { return (min(c.Load, 1<<40) + 1) * pressedMost / pressed(c) }
