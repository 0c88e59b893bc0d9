package client

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"sync"

	"github.com/whispering-woods/ww/client/internal/lifetime"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/record"
)

// RecordBytesMax is the size of the largest record, in bytes.
const RecordBytesMax = record.PayloadBytesMax

// RecordOptions says how records are appended.
type RecordOptions struct {
	// Create makes the file, with the options of New, if it does not exist.
	Create bool
	// New is what a file is created with; Overwrite and VisibleOnComplete do not apply.
	New CreateOptions
	// Sync acknowledges a record only when it is fdatasync'd on every datanode of the pipeline; else it is in their
	// page caches.
	Sync bool
	// BufferBytes bounds the payload that is not acknowledged yet. Default 8 MiB. One record may exceed it.
	BufferBytes int64
}

// RecordAppender appends records to one file that many clients append to at once (GFS §3.3). None of them holds the
// file's lease: a datanode does, and the appender finds it, and its successor when it fails.
//
// A record lands whole, in one piece, and at least once: it may be in the file twice when an acknowledgement got lost,
// and RecordReader drops the second one. The acknowledged records of one RecordAppender are in the file in the order of
// the calls that appended them. Safe for concurrent use.
type RecordAppender struct {
	client *Client
	path   string
	writer record.WriterID
	flags  wire.Flags
	limit  int64

	life   context.Context
	cancel context.CancelFunc
	wake   chan struct{} // capacity 1: something to send, or Close
	ended  chan struct{} // the goroutine is done

	mu struct {
		sync.Mutex
		sequence uint64           // of the last record
		pending  []*PendingRecord // not acknowledged, in order of sequence
		sent     int              // pending[:sent] are sent in this session
		cost     int64            // window cost of pending[:sent]
		bytes    int64            // payload of pending
		acked    uint64           // number of records acknowledged
		room     chan struct{}    // closed and replaced when pending shrinks
		closing  bool
		err      error // why nothing can be appended any more
	}
}

// PendingRecord is a record on its way.
type PendingRecord struct {
	sequence uint64
	size     int    // payload bytes
	packets  []byte // as sent; nil once done
	done     chan struct{}
	offset   int64
	err      error
}

// Done is closed when the record is acknowledged, or failed for good.
func (p *PendingRecord) Done() <-chan struct{} { return p.done }

// Wait returns the offset of the record's frame in the file, for Client.ReadRecords. If ctx ends first the record may
// still be appended.
func (p *PendingRecord) Wait(ctx context.Context) (int64, error) {
	select {
	case <-p.done:
		return p.offset, p.err
	default:
	}
	select {
	case <-p.done:
		return p.offset, p.err
	case <-ctx.Done():
		return 0, lifetime.Ended(ctx, opRecord, "", nil)
	}
}

// opRecord is the operation in errors.
const opRecord = "append record"

// OpenRecords begins to append records to a file; ctx ends the appender's whole life. It returns once a datanode has
// taken the file over. Errors: fault.NotFound without Create, fault.IsDirectory, fault.LeaseHeld when a FileWriter has
// the file open, fault.TooFewNodes.
func (c *Client) OpenRecords(ctx context.Context, path string, options RecordOptions) (*RecordAppender, error) {
	path, err := cleanPath(opRecord, path)
	if err != nil {
		return nil, err
	}
	if options.BufferBytes < 0 {
		return nil, &fault.Error{Kind: fault.Invalid, Op: opRecord, Path: path, Reason: "negative buffer"}
	}
	options.BufferBytes = cmp.Or(options.BufferBytes, recordBufferDefault)
	if options.Create {
		if err := c.touch(ctx, path, options.New); err != nil {
			return nil, err
		}
	}
	appender := &RecordAppender{client: c, path: path, limit: options.BufferBytes, wake: make(chan struct{}, 1),
		ended: make(chan struct{})}
	if _, err := rand.Read(appender.writer[:]); err != nil {
		return nil, &fault.Error{Kind: fault.Internal, Op: opRecord, Path: path, Err: err}
	}
	if options.Sync {
		appender.flags = wire.FlagSync
	}
	appender.mu.room = make(chan struct{})
	appender.life, appender.cancel = c.life.Scope(ctx)
	opened := make(chan struct{})
	if !c.life.Start(func() { appender.run(opened) }) {
		appender.cancel()
		return nil, lifetime.ErrClosed
	}
	select {
	case <-opened:
		return appender, nil
	case <-appender.ended:
	}
	appender.cancel()
	return nil, appender.failed()
}

// touch makes the file if it does not exist.
func (c *Client) touch(ctx context.Context, path string, o CreateOptions) error {
	_, err := c.Stat(ctx, path)
	if !errors.Is(err, fault.NotFound) {
		return err
	}
	o.Overwrite, o.VisibleOnComplete = false, false
	w, err := c.Create(ctx, path, o)
	if errors.Is(err, fault.Exists) {
		return nil // another one was faster
	}
	if err != nil {
		return err
	}
	return w.Close()
}

// Append appends one record and waits until it is acknowledged; it returns the offset of the record's frame in the
// file. Failures of datanodes and namenodes only delay it, as long as the client's retry policy goes on. After any
// error but the end of ctx the appender is of no more use, and what was not acknowledged may or may not be in the file.
func (a *RecordAppender) Append(ctx context.Context, payload []byte) (offset int64, err error) {
	p, err := a.AppendAsync(ctx, payload)
	if err != nil {
		return 0, err
	}
	return p.Wait(ctx)
}

// AppendAsync copies a record and sends it behind those that were appended before. It blocks only while more than
// RecordOptions.BufferBytes are unacknowledged. Errors: fault.Invalid for a record above RecordBytesMax, which harms
// nothing; else as of Append.
func (a *RecordAppender) AppendAsync(ctx context.Context, payload []byte) (*PendingRecord, error) {
	if len(payload) > RecordBytesMax {
		return nil, &fault.Error{Kind: fault.Invalid, Op: opRecord, Path: a.path, Reason: "the record is too long",
			Err: fault.New(fault.Invalid, "", "%d bytes, the limit is %d", len(payload), RecordBytesMax)}
	}
	for {
		p, room, err := a.enqueue(payload)
		if p != nil || err != nil {
			return p, err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return nil, lifetime.Ended(ctx, opRecord, a.path, nil)
		}
	}
}

// enqueue adds a record, or returns a channel to wait on for room.
func (a *RecordAppender) enqueue(payload []byte) (_ *PendingRecord, room <-chan struct{}, _ error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.mu.err != nil:
		return nil, nil, a.mu.err
	case a.mu.closing:
		return nil, nil, &fault.Error{Kind: fault.Closed, Op: opRecord, Path: a.path, Reason: "the appender is closed"}
	case len(a.mu.pending) > 0 && (a.mu.bytes+int64(len(payload)) > a.limit || len(a.mu.pending) >= recordsPendingMax):
		return nil, a.mu.room, nil
	}
	p := &PendingRecord{sequence: a.mu.sequence + 1, size: len(payload), done: make(chan struct{})}
	var err error
	if p.packets, err = wire.AppendRecord(nil, p.sequence, a.flags, payload); err != nil {
		return nil, nil, fault.WithPath(err, a.path)
	}
	a.mu.sequence++
	a.mu.pending = append(a.mu.pending, p)
	a.mu.bytes += int64(p.size)
	a.wakeUp()
	return p, nil, nil
}

func (a *RecordAppender) wakeUp() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Close waits until every record is acknowledged and ends the appender. It returns why that was not possible, if so.
// Closing again returns the same.
func (a *RecordAppender) Close() error {
	a.mu.Lock()
	a.mu.closing = true
	a.mu.Unlock()
	a.wakeUp()
	<-a.ended
	a.cancel()
	return a.failed()
}

func (a *RecordAppender) failed() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mu.err
}

// WriterID names this appender in the frames of its records.
func (a *RecordAppender) WriterID() [16]byte { return a.writer }

// fail ends all records that are not acknowledged.
func (a *RecordAppender) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.err = fault.WithPath(err, a.path)
	for _, p := range a.mu.pending {
		p.err, p.packets = a.mu.err, nil
		close(p.done)
	}
	a.mu.pending, a.mu.sent, a.mu.cost, a.mu.bytes = nil, 0, 0, 0
	a.roomLocked()
}

func (a *RecordAppender) roomLocked() {
	close(a.mu.room)
	a.mu.room = make(chan struct{})
}
