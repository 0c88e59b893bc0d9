package agent

import (
	"context"
	"sync"
)

// lanes carry out orders in queues of their own for each volume, so that a disk that hangs holds up only its own. The
// number of volumes bounds that of the goroutines.
type lanes[T any] struct {
	ctx          context.Context // of the goroutines
	group        *sync.WaitGroup
	count, depth int // goroutines, and orders waiting, per volume
	do           func(context.Context, T)
	mu           struct {
		sync.Mutex
		queues map[string]chan T // by volume
	}
}

// newLanes calls do with each order, from goroutines that end with ctx.
func newLanes[T any](ctx context.Context, group *sync.WaitGroup, count, depth int,
	do func(context.Context, T)) *lanes[T] {
	l := &lanes[T]{ctx: ctx, group: group, count: count, depth: depth, do: do}
	l.mu.queues = make(map[string]chan T)
	return l
}

// put queues an order for a volume and never waits; false: too many wait. Only goroutines of the group call it.
func (l *lanes[T]) put(volume string, order T) bool {
	select {
	case l.queue(volume) <- order:
		return true
	default:
		return false
	}
}

func (l *lanes[T]) queue(volume string) chan T {
	l.mu.Lock()
	defer l.mu.Unlock()
	queue := l.mu.queues[volume]
	if queue == nil {
		queue = make(chan T, l.depth)
		l.mu.queues[volume] = queue
		for range l.count {
			l.group.Go(func() { l.work(queue) })
		}
	}
	return queue
}

func (l *lanes[T]) work(orders <-chan T) {
	for {
		select {
		case order := <-orders:
			if l.ctx.Err() != nil { // both were ready
				return
			}
			l.do(l.ctx, order)
		case <-l.ctx.Done():
			return
		}
	}
}
