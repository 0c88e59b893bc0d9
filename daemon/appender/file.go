package appender

import (
	"errors"
	"time"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/dataplane"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/record"
)

// state is where a file stands; docs/ARCHITECTURE.md draws the changes.
type state string

const (
	closed    state = "closed"    // no lease
	opening   state = "opening"   // taking the lease
	appending state = "appending" // holding the lease, records are written
	failing   state = "failing"   // the writer broke; the lease is let go
	sealing   state = "sealing"   // idle, or stopping: the file is closed
)

// file is one file that clients append to. Its goroutine alone writes.
type file struct {
	appender *Appender
	path     string
	wake     chan struct{} // capacity 1

	// Guarded by the appender's mutex.
	streams int
	queue   []entry
	joining []join

	// Of the goroutine.
	state   state
	writer  writer // in state appending, failing, sealing
	end     int64  // where the next frame begins
	gap     int64  // zeros owed before it
	batch   []entry
	offsets []int64
	scratch []byte
}

// join is a client that waits for the lease.
type join struct {
	fileID uint64 // what the path means to it
	answer chan<- error
}

// cleanEnd is where a file ends that this appender sealed behind whole frames.
type cleanEnd struct {
	fileID   uint64
	length   int64
	modified time.Time
}

// wakeUp makes the goroutine look again.
func (f *file) wakeUp() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// run is the file's goroutine.
func (f *file) run() {
	f.state = closed
	for {
		switch joining, event := f.next(); event {
		case stopped, idle:
			f.seal()
		case forgotten:
			return
		case work:
			err := f.ready(joining)
			for _, j := range joining {
				j.answer <- err
			}
			if err != nil {
				f.refuse(err)
				continue
			}
			f.append()
		}
	}
}

type event int

const (
	work      event = iota // a batch to write, or clients to join
	idle                   // nothing came for long
	stopped                // the appender closes, and the file is open
	forgotten              // no client has the file open, it is out of the map
)

// next waits for something to do; it fills f.batch.
func (f *file) next() ([]join, event) {
	var timer clock.Timer
	var expired <-chan time.Time
	if f.writer != nil {
		timer = f.appender.clock.NewTimer(f.appender.limits.IdleAfter)
		defer timer.Stop()
		expired = timer.C()
	}
	end := work // or why to end, if one more look finds nothing
	for {
		joining, event, found := f.look()
		switch {
		case found:
			return joining, event
		case end != work:
			return nil, end
		}
		select {
		case <-f.wake:
		case <-expired:
			end = idle
		case <-f.appender.stopping:
			end = stopped
		}
	}
}

// look takes what there is to do.
func (f *file) look() (joining []join, _ event, found bool) {
	appender := f.appender
	appender.mu.Lock()
	defer appender.mu.Unlock()
	if len(f.joining) > 0 || len(f.queue) > 0 {
		joining, f.joining = f.joining, nil
		f.takeLocked()
		return joining, work, true
	}
	if f.writer == nil && (f.streams == 0 || appender.mu.stopped) {
		delete(appender.mu.files, f.path)
		return nil, forgotten, true
	}
	return nil, 0, false
}

// takeLocked moves as many records as one flush takes into f.batch.
func (f *file) takeLocked() {
	l := f.appender.limits
	bytes, n := 0, 0
	for n < len(f.queue) && n < l.BatchRecordsMax && (n == 0 || bytes+f.queue[n].record.Size <= l.BatchBytesMax) {
		bytes += f.queue[n].record.Size
		n++
	}
	f.batch = append(f.batch[:0], f.queue[:n]...)
	rest := copy(f.queue, f.queue[n:])
	clear(f.queue[rest:])
	f.queue = f.queue[:rest]
}

// ready makes sure that the writer stands, and on the file that the path means.
func (f *file) ready(joining []join) error {
	if f.writer != nil {
		if _, err := f.writer.Write(nil); err != nil {
			// The lease was lost while nothing was written: nothing failed yet.
			f.fail(err)
		}
	}
	for _, j := range joining {
		if f.writer != nil && j.fileID != f.writer.Info().FileID {
			f.seal() // the path was given to another file
		}
	}
	if f.writer != nil {
		return nil
	}
	return f.open()
}

// open takes the lease and finds where writing goes on.
func (f *file) open() error {
	appender := f.appender
	f.state = opening
	w, err := appender.cluster.append(appender.life, f.path)
	if err != nil {
		f.state = closed
		return appender.redirect(f.path, err)
	}
	f.writer, f.state = w, appending
	info, length := w.Info(), w.Offset()
	appender.mu.Lock()
	known, ok := appender.mu.clean[f.path]
	delete(appender.mu.clean, f.path)
	appender.mu.Unlock()
	f.end = length
	if !ok || known != (cleanEnd{info.FileID, length, info.Modified}) {
		f.end = begin(length)
	}
	f.gap = f.end - length
	appender.logger.Info("record file opened", "path", f.path, "length", length, "offset", f.end)
	return nil
}

// begin is the first raster point at or behind a length that may not be the end of a frame.
func begin(length int64) int64 {
	if length%record.ResyncBytes == 0 {
		return length
	}
	return record.NextStart(length)
}

// redirect turns a lease held by another appender into a redirect.
func (a *Appender) redirect(path string, err error) error {
	var e *fault.Error
	if !errors.As(err, &e) || e.Kind != fault.LeaseHeld {
		return err
	}
	node, address, ok := record.ParseHolder(e.Holder)
	switch {
	case !ok:
		return err
	case node == a.nodeID:
		return retryable(path, err)
	}
	return &dataplane.RedirectError{NodeID: node, Address: address, Err: err}
}

// append writes the batch, flushes it, and answers.
func (f *file) append() {
	if len(f.batch) == 0 {
		return
	}
	if err := f.write(); err != nil {
		f.refuse(retryable(f.path, err))
		f.fail(err)
		return
	}
	f.answer(f.batch, func(i int) (int64, error) { return f.offsets[i], nil })
}

// write frames and flushes the batch; f.offsets tells where each record is.
func (f *file) write() error {
	f.offsets = f.offsets[:0]
	if f.gap > 0 {
		if _, err := f.writer.Write(make([]byte, f.gap)); err != nil {
			return err
		}
		f.gap = 0
	}
	sync := false
	for i := range f.batch {
		waiting := &f.batch[i]
		frame, err := f.frame(waiting)
		if err != nil {
			return err
		}
		if _, err := f.writer.Write(frame); err != nil {
			return err
		}
		f.offsets = append(f.offsets, f.end)
		f.end += int64(len(frame))
		sync = sync || waiting.record.Sync
	}
	if cap(f.scratch) > scratchBytesKept {
		f.scratch = nil
	}
	if sync {
		return f.writer.Sync(f.appender.life)
	}
	return f.writer.Flush(f.appender.life)
}

// frame encodes a record for f.end, into f.scratch.
func (f *file) frame(waiting *entry) ([]byte, error) {
	var payload []byte
	if pieces := waiting.record.Pieces; len(pieces) == 1 {
		payload = pieces[0]
	} else if len(pieces) > 1 {
		payload = waiting.record.AppendPayload(make([]byte, 0, waiting.record.Size))
	}
	var err error
	f.scratch, err = record.AppendFrame(f.scratch[:0],
		record.Header{Writer: waiting.stream.writer, Sequence: waiting.record.Sequence, Offset: f.end}, payload)
	return f.scratch, err
}

// answer tells the records' clients, in order, and forgets the records.
func (f *file) answer(entries []entry, result func(i int) (int64, error)) {
	var bytes int64
	for i := range entries {
		bytes += int64(entries[i].record.Size)
		entries[i].done(result(i))
	}
	clear(entries)
	appender := f.appender
	appender.mu.Lock()
	defer appender.mu.Unlock()
	appender.mu.queuedBytes -= bytes
}

// refuse fails the batch and everything queued: the first record of a stream
// that fails takes all later ones of that stream with it.
func (f *file) refuse(err error) {
	appender := f.appender
	appender.mu.Lock()
	all := append(f.batch, f.queue...)
	f.batch, f.queue = nil, nil
	for i := range all {
		if all[i].stream.broken == nil {
			all[i].stream.broken = err
		}
	}
	appender.mu.Unlock()
	f.answer(all, func(int) (int64, error) { return 0, err })
}

// retryable makes an error of a writer one that the client tries again after:
// whether it can be done is for the next open to say.
func retryable(path string, err error) error {
	if fault.ClassOf(err) == fault.Retryable {
		return err
	}
	return &fault.Error{Kind: fault.Unavailable, Op: op, Path: path, Reason: "the appender lost the file", Err: err}
}

// fail gives up the writer after an error. What it had not flushed may be in the file, whole, torn or not at all.
func (f *file) fail(err error) {
	appender := f.appender
	f.state = failing
	appender.logger.Warn("record file failed", "path", f.path, "offset", f.end, "err", err)
	if err := f.writer.Abort(); err != nil {
		appender.logger.Warn("lease of a record file not given up", "path", f.path, "err", err)
	}
	f.writer, f.state = nil, closed
}

// seal closes the file, which gives its lease up.
func (f *file) seal() {
	appender := f.appender
	if f.writer == nil {
		return
	}
	f.state = sealing
	w, clean := f.writer, f.gap == 0
	err := w.Close()
	f.writer, f.state = nil, closed
	if err != nil {
		appender.logger.Warn("record file not sealed", "path", f.path, "err", err)
		return
	}
	info := w.Info()
	appender.logger.Info("record file sealed", "path", f.path, "length", info.Length)
	if clean {
		appender.remember(f.path, info)
	}
}

// remember notes where a file ends, for the next open.
func (a *Appender) remember(path string, info client.FileInfo) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.mu.clean) >= cleanEndsMax {
		clear(a.mu.clean) // it only saves gaps
	}
	a.mu.clean[path] = cleanEnd{info.FileID, info.Length, info.Modified}
}
