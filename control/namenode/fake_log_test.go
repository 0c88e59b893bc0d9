package namenode

import (
	"bytes"
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/editlog"
	"github.com/whispering-woods/ww/internal/fault"
)

// fakeLog is an edit log in memory whose durability the test controls.
type fakeLog struct {
	appended chan struct{} // capacity 1: a batch came
	mu       struct {
		sync.Mutex
		epoch   uint64
		holder  string
		records [][]byte
		batches int
		held    bool // acknowledge nothing until release
		writer  *fakeWriter
		refuse  error // of AcquireEpoch
		// first is the first txid that is not cut off; checkpoints by rising txid.
		first       uint64
		checkpoints []fakeCheckpoint
		// uploads gates the uploads: each takes one; nil: none waits.
		uploads chan error
		running int // uploads at once
		most    int
		// unreadable is what the last upload said.
		unreadable []uint64
	}
}

// fakeCheckpoint is one that the fake keeps.
type fakeCheckpoint struct {
	editlog.Checkpoint
	content []byte
	damage  bool
}

func (f *fakeLog) UploadCheckpoint(ctx context.Context, o editlog.Upload,
	write func(io.Writer) error) (editlog.Checkpoint, error) {
	grant, txid := o.Grant, o.Txid
	f.mu.Lock()
	f.mu.unreadable = o.Unreadable
	gate, fenced, last := f.mu.uploads, grant.Epoch < f.mu.epoch, uint64(len(f.mu.records))
	f.mu.running++
	f.mu.most = max(f.mu.most, f.mu.running)
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.mu.running--
	}()
	if gate != nil {
		select {
		case err := <-gate:
			if err != nil {
				return editlog.Checkpoint{}, err
			}
		case <-ctx.Done():
			return editlog.Checkpoint{}, ctx.Err()
		}
	}
	var content bytes.Buffer
	if err := write(&content); err != nil {
		return editlog.Checkpoint{}, err
	}
	switch {
	case fenced:
		return editlog.Checkpoint{}, fault.New(fault.Fenced, "upload", "epoch %d is over", grant.Epoch)
	case txid > last:
		return editlog.Checkpoint{}, fault.New(fault.Gap, "upload", "txid %d of %d", txid, last)
	}
	c := fakeCheckpoint{Checkpoint: editlog.Checkpoint{Txid: txid, Epoch: grant.Epoch, Bytes: uint64(content.Len()),
		Created: time.Now()}, content: content.Bytes()}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.checkpoints = append(f.mu.checkpoints, c)
	return c.Checkpoint, nil
}

func (f *fakeLog) DownloadCheckpoint(_ context.Context, _ editlog.Grant, before uint64,
	fn func(editlog.Checkpoint, io.Reader) error) (editlog.Checkpoint, error) {
	f.mu.Lock()
	kept := slices.Clone(f.mu.checkpoints)
	f.mu.Unlock()
	for _, c := range slices.Backward(kept) {
		if before != 0 && c.Txid >= before {
			continue
		}
		content := c.content
		if c.damage {
			content = bytes.Clone(content)
			content[len(content)/2] ^= 1
		}
		return c.Checkpoint, fn(c.Checkpoint, bytes.NewReader(content))
	}
	return editlog.Checkpoint{}, fault.New(fault.NotFound, "download", "none")
}

func newFakeLog() *fakeLog { return &fakeLog{appended: make(chan struct{}, 1)} }

func (f *fakeLog) AcquireEpoch(ctx context.Context, holder string) (editlog.Grant, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.refuse != nil {
		return editlog.Grant{}, f.mu.refuse
	}
	f.mu.epoch++
	f.mu.holder = holder
	return editlog.Grant{Epoch: f.mu.epoch, LastTxid: uint64(len(f.mu.records)), Address: "fake"}, nil
}

func (f *fakeLog) Replay(ctx context.Context, from, to uint64, fn func(editlog.Batch) error) error {
	f.mu.Lock()
	records, first := f.mu.records[:to], f.mu.first
	f.mu.Unlock()
	if from <= to && from < first {
		return fault.New(fault.Gap, "replay", "the log begins at txid %d", first)
	}
	for next := from; next <= to; {
		last := min(next+2, to) // small batches
		if err := fn(editlog.Batch{FirstTxid: next, Records: records[next-1 : last], LastTxid: to}); err != nil {
			return err
		}
		next = last + 1
	}
	return nil
}

func (f *fakeLog) Status(context.Context) []*controlpb.LogStatusResponse {
	f.mu.Lock()
	defer f.mu.Unlock()
	return []*controlpb.LogStatusResponse{{Epoch: f.mu.epoch, Holder: f.mu.holder, Leader: true, Ready: true}}
}

func (f *fakeLog) OpenWriter(o editlog.WriterOptions) (LogWriter, error) {
	w := &fakeWriter{log: f, o: o, next: o.Grant.LastTxid + 1, work: make(chan struct{}, 1), stop: make(chan struct{}),
		done: make(chan struct{})}
	f.mu.Lock()
	f.mu.writer = w
	f.mu.Unlock()
	go w.acknowledge()
	return w, nil
}

// hold keeps batches from becoming durable until release.
func (f *fakeLog) hold() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.held = true
}

func (f *fakeLog) release() {
	f.mu.Lock()
	f.mu.held = false
	w := f.mu.writer
	f.mu.Unlock()
	w.wake()
}

// waits is the number of batches that are not durable.
func (f *fakeLog) waits() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.mu.writer.pending)
}

// fail breaks the append stream; the first keep of the batches in flight are
// in the log all the same.
func (f *fakeLog) fail(err error, keep int) {
	f.mu.Lock()
	w := f.mu.writer
	for _, b := range w.pending[:min(keep, len(w.pending))] {
		f.mu.records = append(f.mu.records, b.records...)
	}
	w.pending = nil
	w.err = err
	f.mu.held = false
	f.mu.Unlock()
	w.o.OnFailed(err)
}

func (f *fakeLog) length() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.mu.records)
}

// fakeWriter's mutable fields are guarded by the log's mutex.
type fakeWriter struct {
	log     *fakeLog
	o       editlog.WriterOptions
	next    uint64
	pending []batch
	err     error
	work    chan struct{}
	stop    chan struct{}
	done    chan struct{}
}

func (w *fakeWriter) TryAppend(first uint64, records [][]byte) error {
	log := w.log
	log.mu.Lock()
	defer log.mu.Unlock()
	switch {
	case w.err != nil:
		return w.err
	case w.o.Grant.Epoch < log.mu.epoch:
		return fault.New(fault.Fenced, "append", "epoch %d is below %d", w.o.Grant.Epoch, log.mu.epoch)
	case first != w.next:
		return fault.New(fault.Gap, "append", "txid %d, want %d", first, w.next)
	case len(w.pending) >= w.o.InFlightBatches:
		return fault.New(fault.Busy, "append", "full")
	}
	w.next += uint64(len(records))
	log.mu.batches++
	w.pending = append(w.pending, batch{first: first, records: records})
	w.wake()
	select {
	case log.appended <- struct{}{}:
	default:
	}
	return nil
}

func (w *fakeWriter) wake() {
	select {
	case w.work <- struct{}{}:
	default:
	}
}

// acknowledge makes batches durable, one after the other, unless they are held.
func (w *fakeWriter) acknowledge() {
	defer close(w.done)
	for {
		select {
		case <-w.work:
		case <-w.stop:
			return
		}
		for {
			w.log.mu.Lock()
			if w.log.mu.held || len(w.pending) == 0 || w.err != nil {
				w.log.mu.Unlock()
				break
			}
			b := w.pending[0]
			w.pending = w.pending[1:]
			w.log.mu.records = append(w.log.mu.records, b.records...)
			w.log.mu.Unlock()
			w.o.OnDurable(b.first + uint64(len(b.records)) - 1)
		}
	}
}

func (w *fakeWriter) Close() {
	close(w.stop)
	<-w.done
}
