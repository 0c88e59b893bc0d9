package disk

import (
	"sync"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// worker runs the jobs of its chunks, one at a time, in the order of their
// submission.
//
// When a job asks for a sync, the worker first takes what is queued behind it
// (syncBatchMax at most), so that one fdatasync serves all jobs of a writer in
// that batch. The order of a writer's Done calls is kept: those behind the
// sync wait for it.
type worker struct {
	queue chan task
	group *sync.WaitGroup

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

func newWorker(depth int, group *sync.WaitGroup) *worker {
	return &worker{queue: make(chan task, depth), group: group}
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
	defer w.group.Done()
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

func (w *worker) process(t task) {
	if t.f != nil {
		w.settle()
		t.f()
		return
	}
	if t.job.Seal || t.job.Close {
		w.settle()
		if t.writer.packs(&t.job, true) {
			return
		}
		length, err := t.writer.finish(t.job)
		t.job.done(length, err)
		return
	}
	length, err := t.writer.write(&t.job, false)
	if t.job.Sync && err == nil && !t.writer.syncDue {
		t.writer.syncDue = true
		w.syncing = append(w.syncing, t.writer)
	}
	if t.writer.syncDue {
		w.waiting = append(w.waiting, completion{t.writer, t.job.Done, length, err})
		return
	}
	t.job.done(length, err)
}

// settle does the syncs that are due and completes the jobs that waited for
// them. A job that was written and whose sync fails fails, asked for or not:
// nobody knows whether its bytes are on the disk.
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

// enqueue hands a task to a worker without waiting. Errors: fault.Busy,
// fault.Closed.
func (s *Store) enqueue(w *worker, t task, op string, id chunk.ID) error {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.closed {
		return closedError(op)
	}
	select {
	case w.queue <- t:
		return nil
	default:
		return chunkError(fault.Busy, op, id, "%d jobs are queued on its disk worker", cap(w.queue))
	}
}

// Do runs f on the worker of a chunk, behind the jobs queued there, and does
// not wait for it. A chunk that is not here yet gets its volume now, and a
// Create inside f keeps to it. Errors: fault.Busy when the queue is full,
// fault.Closed; then f never runs.
func (s *Store) Do(id chunk.ID, f func()) error {
	const op = "queue disk work"
	if r := s.lookup(id); r != nil {
		return s.enqueue(r.volume.workerOf(id), task{f: f}, op, id)
	}
	v, err := s.place(id, 0, s.space)
	if err != nil { // f may only want to read; a Create in it gets the error
		v = s.volumes[0]
	}
	s.index.Lock()
	s.index.placing[id] = append(s.index.placing[id], v)
	s.index.Unlock()
	run := func() {
		defer s.unplace(id, v)
		f()
	}
	if err := s.enqueue(v.workerOf(id), task{f: run}, op, id); err != nil {
		s.unplace(id, v)
		return err
	}
	return nil
}

// unplace takes one intention to place a chunk back.
func (s *Store) unplace(id chunk.ID, v *volume) {
	s.index.Lock()
	defer s.index.Unlock()
	intended := s.index.placing[id]
	for i := range intended {
		if intended[i] == v {
			intended = append(intended[:i], intended[i+1:]...)
			break
		}
	}
	if len(intended) == 0 {
		delete(s.index.placing, id)
		return
	}
	s.index.placing[id] = intended
}
