package client

import (
	"context"
	"slices"
)

// waiter waits for the ack of one packet.
type waiter struct {
	seqno uint64
	woken chan struct{} // holds one element after it has left the list
}

// waiters are those who wait for acks of a session without owning it: callers
// of Flush and Sync, any number at once. The session's lock guards them.
type waiters struct {
	list []*waiter // by seqno
	free []*waiter
}

func (w *waiters) add(seqno uint64) *waiter {
	var one *waiter
	if last := len(w.free) - 1; last >= 0 {
		one, w.free = w.free[last], w.free[:last]
	} else {
		one = &waiter{woken: make(chan struct{}, 1)}
	}
	one.seqno = seqno
	at := len(w.list)
	for at > 0 && w.list[at-1].seqno > seqno { // nearly always the last
		at--
	}
	w.list = slices.Insert(w.list, at, one)
	return one
}

// wake lets those go whose packets are acknowledged.
func (w *waiters) wake(acked uint64) {
	n := 0
	for n < len(w.list) && w.list[n].seqno <= acked {
		w.list[n].woken <- struct{}{}
		n++
	}
	w.list = slices.Delete(w.list, 0, n)
}

func (w *waiters) wakeAll() {
	for _, one := range w.list {
		one.woken <- struct{}{}
	}
	clear(w.list)
	w.list = w.list[:0]
}

// drop takes one back that waits no more, woken or not.
func (w *waiters) drop(one *waiter) {
	if at := slices.Index(w.list, one); at >= 0 {
		w.list = slices.Delete(w.list, at, at+1)
	}
	select {
	case <-one.woken:
	default:
	}
	w.free = append(w.free, one)
}

// acknowledged waits until all hops have acknowledged the packet seqno of this
// session, and tells whether they have; they may not if the session fails or is
// closed, or ctx ends. Any goroutine may call it.
func (s *session) acknowledged(ctx context.Context, seqno uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.acked >= seqno || s.mu.err != nil || s.mu.closed {
		return s.mu.acked >= seqno
	}
	one := s.mu.waiters.add(seqno)
	s.mu.Unlock()
	select {
	case <-one.woken:
	case <-ctx.Done():
	}
	s.mu.Lock()
	s.mu.waiters.drop(one)
	return s.mu.acked >= seqno
}
