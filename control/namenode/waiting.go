package namenode

import "github.com/whispering-woods/ww/internal/invariants"

// waiting holds what may leave only when a txid is durable, in order per txid.
// Its owner is the actor goroutine.
type waiting struct {
	// slots[i] waits for txid durable+1+i.
	slots   [][]func()
	durable uint64
}

// after runs release once txid is durable, at once if it is already.
func (w *waiting) after(txid uint64, release func()) {
	if txid <= w.durable {
		release()
		return
	}
	i := int(txid - w.durable - 1)
	for len(w.slots) <= i {
		w.slots = append(w.slots, nil)
	}
	w.slots[i] = append(w.slots[i], release)
}

// advance releases everything up to txid, oldest first.
func (w *waiting) advance(txid uint64) {
	invariants.Assert(txid >= w.durable, "durable txid went back from %d to %d", w.durable, txid)
	for w.durable < txid {
		w.durable++
		if len(w.slots) == 0 {
			continue
		}
		due := w.slots[0]
		w.slots[0] = nil
		w.slots = w.slots[1:]
		for _, release := range due {
			release()
		}
	}
}

// count is the number of txids that something waits for, at most.
func (w *waiting) count() int { return len(w.slots) }
