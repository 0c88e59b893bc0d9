package dataplane

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
)

// gate lets producers wake event loops while the engine lives. A closed gate also means that nobody is waking one
// right now, so that the loops' descriptors can be closed: gnet would write to whatever file has their number next.
//
// Warning: close locks the mutex for good, since a loop must never be woken once its engine has ended. An Unlock would
// let a late poster write to a descriptor that is somebody else's by then (TestCallsThatComeWhileTheServerCloses).
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
	neighbours  neighbours
	touched     []*connection
	smallWrites int              // small page-cache writes not reported yet
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

// yieldForSmallWrites waits a little for jobs that will be done at once. The disk worker, which such a job has just
// made ready, runs on this very thread; to wait in epoll would have another thread wake up for it, and a descriptor
// written to bring the result back (tuning.md#yields). It blocks on nothing.
//
// Warning: this relies on Go's scheduler. Gosched puts the loop behind the goroutines that this thread has made
// ready, and awake has posters leave the loop alone: it must be reset before the last drain, or what was posted
// between them wakes nobody. Without the yield all is right, but slower; with a loop that forgets to drain,
// sessions stall (TestThePipelineAllocatesNothingPerPacket counts the wake-ups, BenchmarkPipeline shows the time).
func (l *loop) yieldForSmallWrites() {
	if l.smallWrites == 0 {
		return
	}
	l.awake.Store(true)
	for i := 0; i < yieldsMax && l.smallWrites > 0; i++ {
		runtime.Gosched()
		l.drain()
	}
	l.awake.Store(false)
	l.drain() // what was posted before that, and woke nobody
}

// tick runs the timeouts of all connections of the loop.
func (l *loop) tick(now, idleTimeout time.Duration) {
	l.ticking.Store(false)
	for r := range l.orphans {
		r.release()
	}
	for c := range l.connections { // a connection that closes leaves the map, which Go allows
		c.tick(now)
	}
	l.neighbours.expire(now - idleTimeout)
	if len(l.connections) == 0 && len(l.orphans) == 0 && l.neighbours.idle.Len() == 0 {
		l.busy.Store(false)
	}
}

func (l *loop) drain() {
	for e := l.box.takeAll(); e != nil; {
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
// whoever holds the mutex looks into the box again after unlocking it.
func (l *loop) drainEnded() {
	for !l.box.empty() && l.ended.TryLock() {
		l.drain()
		l.ended.Unlock()
	}
}
