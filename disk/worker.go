package disk

import (
	"sync"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// worker runs the jobs of its chunks, one at a time, in the order of their submission.
//
// When a job asks for a sync, the worker first takes what is queued behind it (syncBatchMax at most), so that
// one fdatasync serves all jobs of a writer in that batch. The order of a writer's Done calls is kept: those
// behind the sync wait for it.
type worker struct {
	queue chan task

	// owned by the worker's goroutine
	waiting []completion
	syncing []*Writer // writers with a sync due, each once
	zeros   []byte    // see zeroBytes
}

// task is a job of a writer, or a function.
type task struct {
	writer *Writer
	job    Job
	f      func()
}

// completion is a finished job whose Done waits for its writer's sync.
type completion struct {
	writer *Writer
	done   func(int64, error)
	length int64
	err    error
}

// zeroBytes is a block of zeros that is only read.
func (w *worker) zeroBytes() []byte {
	if w.zeros == nil {
		w.zeros = make([]byte, blockBytes)
	}
	return w.zeros
}

// run works until the queue is closed and empty.
func (w *worker) run() {
	for t := range w.queue {
		w.process(t)
		for n := 1; n < syncBatchMax && len(w.syncing) > 0; n++ {
			t, more := w.poll()
			if !more {
				break
			}
			w.process(t)
		}
		w.settle()
	}
}

func (w *worker) poll() (task, bool) {
	select {
	case t, open := <-w.queue:
		return t, open
	default:
		return task{}, false
	}
}

func (w *worker) process(next task) {
	if next.f != nil {
		w.settle()
		next.f()
		return
	}
	if next.job.Seal || next.job.Close {
		w.settle()
		if next.writer.sealAsRecord(&next.job, true) {
			return
		}
		length, err := next.writer.finish(next.job)
		next.job.done(length, err)
		return
	}
	length, err := next.writer.write(&next.job, false)
	if next.job.Sync && err == nil && !next.writer.syncDue {
		next.writer.syncDue = true
		w.syncing = append(w.syncing, next.writer)
	}
	if next.writer.syncDue {
		w.waiting = append(w.waiting, completion{next.writer, next.job.Done, length, err})
		return
	}
	next.job.done(length, err)
}

// settle does the syncs that are due and completes the jobs that waited for them. A job that was written and
// whose sync fails fails, asked for or not: nobody knows whether its bytes are on the disk.
func (w *worker) settle() {
	for _, writer := range w.syncing {
		writer.syncErr = writer.sync()
		writer.syncDue = false
	}
	for i := range w.waiting {
		c := &w.waiting[i]
		if c.err == nil {
			c.err = c.writer.syncErr
		}
		if c.done != nil {
			c.done(c.length, c.err)
		}
	}
	clear(w.syncing)
	clear(w.waiting)
	w.syncing, w.waiting = w.syncing[:0], w.waiting[:0]
}

// gate stands before the queues of the workers and packers. It is closed with the store.
type gate struct {
	sync.RWMutex // read-held while something is queued
	closed       bool
}

// enqueue queues a task for a worker without waiting. Errors: fault.Busy, fault.Closed.
func (g *gate) enqueue(w *worker, t task, op string, id chunk.ID) error {
	g.RLock()
	defer g.RUnlock()
	if g.closed {
		return closedError(op)
	}
	select {
	case w.queue <- t:
		return nil
	default:
		return chunkError(fault.Busy, op, id, "%d jobs are queued on its disk worker", cap(w.queue))
	}
}
