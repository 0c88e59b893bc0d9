package namenode

import "github.com/whispering-woods/ww/internal/invariants"

// waiting holds what may be released only when a txid is durable, in order per txid.
// Its owner is the actor goroutine.
type waiting struct {
	// slots[i] waits for txid durable+1+i.
	slots   []slot
	durable uint64
	// release answers a call or queues a message.
	release func(due)
}

// slot is what waits for one txid: mostly the one answer of the call that made it, so that costs no allocation.
type slot struct {
	first due
	more  []due
}

// due is one thing that waits: the answer that a call holds or, without a call, a message to a node.
type due struct {
	call *call
	node string
	body any
}

// after releases d once txid is durable, at once if it is already.
func (w *waiting) after(txid uint64, item due) {
	if txid <= w.durable {
		w.release(item)
		return
	}
	i := int(txid - w.durable - 1)
	for len(w.slots) <= i {
		w.slots = append(w.slots, slot{})
	}
	s := &w.slots[i]
	if s.first == (due{}) {
		s.first = item
		return
	}
	s.more = append(s.more, item)
}

// advance releases everything up to txid, oldest first.
func (w *waiting) advance(txid uint64) {
	invariants.Assert(txid >= w.durable, "durable txid went back from %d to %d", w.durable, txid)
	for w.durable < txid {
		w.durable++
		if len(w.slots) == 0 {
			continue
		}
		s := w.slots[0]
		w.slots[0] = slot{}
		w.slots = w.slots[1:]
		s.each(w.release)
	}
}

// abandon calls f with everything that still waits, oldest first, and forgets it.
func (w *waiting) abandon(f func(due)) {
	for i := range w.slots {
		w.slots[i].each(f)
	}
	w.slots = nil
}

func (s *slot) each(f func(due)) {
	if s.first != (due{}) {
		f(s.first)
	}
	for _, d := range s.more {
		f(d)
	}
}
