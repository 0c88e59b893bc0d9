package dataplane

import "sync/atomic"

// event is something that happened elsewhere and is delivered on the event loop. It is a link of a mailbox, so that
// telling allocates nothing; it must not be posted again before it was delivered.
type event struct {
	next       *event
	connection *connection // flushed after the batch; may be nil
	deliver    func()      // runs on the loop
}

// mailbox is a queue of many producers and one consumer, without locks. Events of one producer come out in order.
type mailbox struct{ head atomic.Pointer[event] }

// push reports whether the box was empty: then the consumer must be woken.
func (b *mailbox) push(e *event) bool {
	for {
		old := b.head.Load()
		e.next = old
		if b.head.CompareAndSwap(old, e) {
			return old == nil
		}
	}
}

func (b *mailbox) empty() bool { return b.head.Load() == nil }

// takeAll empties the box, oldest event first.
func (b *mailbox) takeAll() *event {
	var oldest *event
	for e := b.head.Swap(nil); e != nil; {
		next := e.next
		e.next, oldest, e = oldest, e, next
	}
	return oldest
}
