package pipeline

import "slices"

// waiter waits for the ack of one packet.
type waiter struct {
	seqno uint64
	woken chan struct{} // holds one element after it has left the list
}

// waiters are those who wait for acks of a session without owning it: callers of Flush and Sync, any number at once.
// The session's lock guards them. A waiter is used again, with its channel, so that waiting for a record allocates
// nothing.
type waiters struct {
	list []*waiter // by seqno
	free []*waiter
}

func (w *waiters) add(seqno uint64) *waiter {
	var added *waiter
	if last := len(w.free) - 1; last >= 0 {
		added, w.free = w.free[last], w.free[:last]
	} else {
		added = &waiter{woken: make(chan struct{}, 1)}
	}
	added.seqno = seqno
	at := len(w.list)
	for at > 0 && w.list[at-1].seqno > seqno { // nearly always the last
		at--
	}
	w.list = slices.Insert(w.list, at, added)
	return added
}

// wake ends the waiting of those whose packets are acknowledged.
func (w *waiters) wake(acked uint64) {
	n := 0
	for n < len(w.list) && w.list[n].seqno <= acked {
		w.list[n].woken <- struct{}{}
		n++
	}
	w.list = slices.Delete(w.list, 0, n)
}

func (w *waiters) wakeAll() {
	for _, waiting := range w.list {
		waiting.woken <- struct{}{}
	}
	clear(w.list)
	w.list = w.list[:0]
}

// drop removes one that waits no more, woken or not, and keeps it for the next.
func (w *waiters) drop(done *waiter) {
	if at := slices.Index(w.list, done); at >= 0 {
		w.list = slices.Delete(w.list, at, at+1)
	}
	select {
	case <-done.woken:
	default:
	}
	w.free = append(w.free, done)
}
