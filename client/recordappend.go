package client

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"

	"github.com/whispering-woods/ww/client/internal/lifetime"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/record"
)

// RecordBytesMax is the size of the largest record, in bytes.
const RecordBytesMax = record.PayloadBytesMax

// RecordOptions says how records are appended.
type RecordOptions struct {
	Create bool          // makes the file, with the options of New, if it does not exist
	New    CreateOptions // what a file is created with; Overwrite and VisibleOnComplete do not apply
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
	queue  *recordQueue
	life   context.Context
	cancel context.CancelFunc
	ended  chan struct{} // the goroutine is done
}

// opRecord is the operation in errors.
const opRecord = "append record"

// OpenRecords begins to append records to a file; ctx ends the appender's whole life. It returns once a datanode has
// acquired its lease. Errors: fault.NotFound without Create, fault.IsDirectory, fault.LeaseHeld when a FileWriter has
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
	var flags wire.Flags
	if options.Sync {
		flags = wire.FlagSync
	}
	appender := &RecordAppender{client: c, path: path, ended: make(chan struct{}),
		queue: newRecordQueue(path, flags, options.BufferBytes)}
	if _, err := rand.Read(appender.writer[:]); err != nil {
		return nil, &fault.Error{Kind: fault.Internal, Op: opRecord, Path: path, Err: err}
	}
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
	return nil, appender.queue.failure()
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
		p, room, err := a.queue.add(payload)
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

// Close waits until every record is acknowledged and ends the appender. It returns why that was not possible, if so.
// Closing again returns the same.
func (a *RecordAppender) Close() error {
	a.queue.close()
	<-a.ended
	a.cancel()
	return a.queue.failure()
}

// WriterID names this appender in the frames of its records.
func (a *RecordAppender) WriterID() [16]byte { return a.writer }

// run is the appender's goroutine: one session after another.
func (a *RecordAppender) run(opened chan<- struct{}) {
	defer close(a.ended)
	search := recordSearch{appender: a, since: a.client.clock.Now()}
	for first := true; ; {
		if !first && !a.queue.await(a.life) {
			return
		}
		session, err := search.connect()
		if err == nil {
			if first {
				first = false
				close(opened)
			}
			if err = session.serve(); err == nil {
				return
			}
			if idle, _ := a.queue.idle(); idle && a.life.Err() == nil {
				continue // nothing was lost: a datanode ends a session that does nothing
			}
		}
		if a.life.Err() != nil {
			err = lifetime.Ended(a.life, opRecord, a.path, nil)
		} else {
			err = search.failed(err)
		}
		if err != nil {
			a.queue.fail(err)
			return
		}
	}
}
