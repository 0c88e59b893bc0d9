package dataplane

import (
	"sync/atomic"

	"github.com/whispering-woods/ww/dataplane/wire"
)

// ackBox brings acks from the goroutine that reads them to the event loop. Acks
// are cumulative, so only the newest is kept: a busy loop takes several at once.
// At most three acks take turns (one being read, one that waits, one being
// delivered), so neither side waits for the other or allocates.
type ackBox struct {
	event   event // to be posted when put says so
	posted  atomic.Bool
	waiting atomic.Pointer[wire.Ack]
	back    atomic.Pointer[wire.Ack] // given back by the loop
	own     *wire.Ack                // the reader's, free
}

// memory is what the reader decodes the next ack into.
func (b *ackBox) memory() *wire.Ack {
	a := b.own
	if b.own = nil; a == nil {
		a = b.back.Swap(nil)
	}
	if a == nil {
		a = new(wire.Ack)
	}
	return a
}

// put hands an ack over; tell: the event must be posted. Times are the longest
// since the loop last looked.
func (b *ackBox) put(a *wire.Ack) (tell bool) {
	if older := b.waiting.Swap(nil); older != nil {
		for i := range min(len(a.Hops), len(older.Hops)) {
			a.Hops[i].Micros = max(a.Hops[i].Micros, older.Hops[i].Micros)
			a.Hops[i].TotalMicros = max(a.Hops[i].TotalMicros, older.Hops[i].TotalMicros)
		}
		b.own = older
	}
	b.waiting.Store(a)
	return !b.posted.Swap(true)
}

// deliver gives the newest ack, if there is one, to f, which keeps nothing of
// it. Loop goroutine.
func (b *ackBox) deliver(f func(*wire.Ack)) {
	b.posted.Store(false) // before the look, so that nothing put later is missed
	if a := b.waiting.Swap(nil); a != nil {
		f(a)
		b.back.Store(a)
	}
}
