package dataplane

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/panjf2000/gnet/v2"

	"github.com/whispering-woods/ww/internal/idle"
)

// event is something that happened elsewhere and is told on the event loop. It
// is a link of a mailbox, so that telling allocates nothing; it must not be
// posted again before it was delivered.
type event struct {
	next       *event
	connection *connection // flushed after the batch; may be nil
	deliver    func()      // runs on the loop
}

// mailbox is a queue of many producers and one consumer, without locks. Events
// of one producer come out in order.
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

// take empties the box, oldest event first.
func (b *mailbox) take() *event {
	var oldest *event
	for e := b.head.Swap(nil); e != nil; {
		next := e.next
		e.next, oldest, e = oldest, e, next
	}
	return oldest
}

// gate lets producers wake event loops while the engine lives. A closed gate
// also means that nobody is waking one right now, so that the loops' descriptors
// can be closed: gnet would write to whatever file has their number next.
type gate struct{ mu sync.RWMutex }

// enter reports whether the engine lives; if so, leave must follow at once.
func (g *gate) enter() bool { return g.mu.TryRLock() }
func (g *gate) leave()      { g.mu.RUnlock() }

// close waits for those inside, who never block, and keeps all others out.
func (g *gate) close() { g.mu.Lock() }

// loop is our side of one gnet event loop: its mailbox and its connections.
type loop struct {
	events gnet.EventLoop
	gate   *gate
	box    mailbox
	wakes  *atomic.Uint64
	awake  atomic.Bool // the loop looks into the box before it waits: no need to wake it

	// Loop goroutine only, or holders of ended.Mutex once the engine is gone.
	connections map[*connection]struct{}
	orphans     map[*replica]struct{} // writers that wait for a place in the disk queue to be closed
	neighbours  idle.Connections[*neighbour]
	touched     []*connection
	soon        int              // jobs that a disk has done as soon as its worker runs, see letRun
	ahead       [aheadBytes]byte // see connection.receiveInPlace

	tickEvent event
	ticking   atomic.Bool // tickEvent is on its way
	busy      atomic.Bool // there may be something for a tick to look at

	ended struct {
		sync.Mutex
		flag atomic.Bool // the engine is gone: posters deliver themselves
	}
}

// post has e delivered on the loop. It never blocks. Callable from anywhere.
func (l *loop) post(e *event) {
	if !l.box.push(e) {
		return // whoever filled the empty box wakes the loop
	}
	if l.awake.Load() {
		return
	}
	l.wakes.Add(1)
	if l.gate.enter() {
		err := l.events.Execute(context.Background(), l)
		l.gate.leave()
		if err == nil {
			return
		}
	}
	if l.ended.flag.Load() {
		l.drainEnded()
	}
}

// Run delivers what is in the box (gnet.Runnable). Loop goroutine only.
func (l *loop) Run(context.Context) error {
	l.drain()
	return nil
}

// yieldsMax is how often a loop lets other goroutines run while it waits for
// jobs that only write a few bytes to the page cache.
const yieldsMax = 2

// letRun waits a little for jobs that will be done at once. The disk worker,
// which such a job has just made ready, runs on this very thread; to wait in
// epoll would have another thread wake up for it, and a descriptor written to
// bring the result back (tuning.md#yields). It blocks on nothing.
func (l *loop) letRun() {
	if l.soon == 0 {
		return
	}
	l.awake.Store(true)
	for i := 0; i < yieldsMax && l.soon > 0; i++ {
		runtime.Gosched()
		l.drain()
	}
	l.awake.Store(false)
	l.drain() // what was posted before that, and woke nobody
}

func (l *loop) drain() {
	for e := l.box.take(); e != nil; {
		next, c, deliver := e.next, e.connection, e.deliver
		e.next = nil // deliver may reuse e
		deliver()
		if c != nil && !c.touched {
			c.touched = true
			l.touched = append(l.touched, c)
		}
		e = next
	}
	for i, c := range l.touched {
		c.touched = false
		c.drive()
		l.touched[i] = nil
	}
	l.touched = l.touched[:0]
}

// end takes over delivery once the engine is gone.
func (l *loop) end() {
	l.ended.flag.Store(true)
	l.drainEnded()
}

// drainEnded delivers, unless somebody else does, or a delivery led back here:
// whoever holds the mutex looks into the box again when it has let go of it.
func (l *loop) drainEnded() {
	for !l.box.empty() && l.ended.TryLock() {
		l.drain()
		l.ended.Unlock()
	}
}
