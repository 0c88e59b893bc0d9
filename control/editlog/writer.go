package editlog

import (
	"cmp"
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// WriterOptions configures OpenWriter.
type WriterOptions struct {
	Grant Grant // of the epoch to write under; the first batch starts at Grant.LastTxid+1
	// OnDurable is called with the last txid that is fsynced on a majority, in rising order, from one goroutine of
	// the Writer; it must not block for long and may not call Close.
	OnDurable func(lastTxid uint64)
	// OnFailed is called once, after the last OnDurable, with what ended the
	// Writer; not after Close. It may not call Close.
	OnFailed func(error)
	// InFlightBatches (64, at most 256) and InFlightBytes (16 MiB) bound what is sent and not yet durable; 0 = default.
	InFlightBatches int
	InFlightBytes   int64
}

// Writer appends batches over one stream. Append may be called from one
// goroutine at a time; the other methods from any.
type Writer struct {
	options WriterOptions
	address string
	stream  grpc.BidiStreamingClient[controlpb.AppendBatch, controlpb.AppendAck]
	cancel  context.CancelFunc
	queue   chan *controlpb.AppendBatch // capacity = InFlightBatches: a send never blocks
	done    chan struct{}               // closed when both goroutines ended
	ended   chan struct{}               // closed at the first failure or Close

	mu struct {
		sync.Mutex
		pending []pending // sent or queued, oldest first
		bytes   int64     // of pending
		next    uint64    // expected first txid of the next batch
		err     error     // why it ended; nil while it lives
		closed  bool      // by Close
		room    chan struct{}
	}
}

// pending is a batch that is not durable yet.
type pending struct {
	last  uint64
	bytes int64
}

// OpenWriter opens the append stream to the server that granted the epoch. Nothing is sent yet, so a server that is
// gone shows at the first Append. The caller closes the Writer. Errors: fault.Invalid.
func (l *Log) OpenWriter(options WriterOptions) (*Writer, error) {
	const op = "open log writer"
	leader, err := l.granting(op, options.Grant)
	switch {
	case err != nil:
		return nil, err
	case options.Grant.Epoch == 0:
		return nil, fault.New(fault.Invalid, op, "no epoch was acquired")
	case options.InFlightBatches < 0 || options.InFlightBatches > inFlightBatchesMax:
		return nil, fault.New(fault.Invalid, op, "%d batches in flight; at most %d", options.InFlightBatches,
			inFlightBatchesMax)
	}
	options.InFlightBatches = cmp.Or(options.InFlightBatches, inFlightBatchesDefault)
	options.InFlightBytes = cmp.Or(max(options.InFlightBytes, 0), inFlightBytesDefault)
	if options.OnDurable == nil {
		options.OnDurable = func(uint64) {}
	}
	if options.OnFailed == nil {
		options.OnFailed = func(error) {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := leader.client.Append(ctx)
	if err != nil {
		cancel()
		return nil, rpc.FromStatus(err, op, leader.address)
	}
	writer := &Writer{
		options: options, address: leader.address, stream: stream, cancel: cancel,
		queue: make(chan *controlpb.AppendBatch, options.InFlightBatches),
		done:  make(chan struct{}), ended: make(chan struct{}),
	}
	writer.mu.next = options.Grant.LastTxid + 1
	writer.mu.room = make(chan struct{})
	var group sync.WaitGroup
	group.Go(writer.send)
	group.Go(writer.receive)
	go func() {
		defer close(writer.done)
		group.Wait()
	}()
	return writer, nil
}

// TryAppend queues a batch of framed records with the txids firstTxid, firstTxid+1, …; it never blocks. The Writer
// keeps records until they are durable: the caller must not change them. Errors: fault.Busy when the in-flight
// bound is reached (OnDurable makes room), fault.Invalid for an empty or too large batch, fault.Gap when firstTxid
// is not the next one, and the Writer's own failure.
func (w *Writer) TryAppend(firstTxid uint64, records [][]byte) error {
	const op = "append to log"
	if len(records) == 0 || len(records) > limits.BatchRecordsMax {
		return fault.New(fault.Invalid, op, "a batch of %d records; 1 to %d are allowed", len(records),
			limits.BatchRecordsMax)
	}
	var bytes int64
	for _, record := range records {
		bytes += int64(len(record))
	}
	if bytes > limits.BatchBytesMax {
		return fault.New(fault.Invalid, op, "a batch of %d bytes; at most %d are allowed", bytes, limits.BatchBytesMax)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.mu.err != nil:
		return w.mu.err
	case firstTxid != w.mu.next:
		return fault.New(fault.Gap, op, "batch starts at txid %d, the next one is %d", firstTxid, w.mu.next)
	case len(w.mu.pending) >= w.options.InFlightBatches,
		len(w.mu.pending) > 0 && w.mu.bytes+bytes > w.options.InFlightBytes:
		return fault.New(fault.Busy, op, "%d batches with %d bytes are in flight", len(w.mu.pending), w.mu.bytes)
	}
	w.mu.next += uint64(len(records))
	w.mu.pending = append(w.mu.pending, pending{last: w.mu.next - 1, bytes: bytes})
	w.mu.bytes += bytes
	// Room for it: the queue holds a subset of pending.
	w.queue <- &controlpb.AppendBatch{Epoch: w.options.Grant.Epoch, FirstTxid: firstTxid, Records: records}
	return nil
}

// Append is TryAppend that waits for room until ctx ends.
func (w *Writer) Append(ctx context.Context, firstTxid uint64, records [][]byte) error {
	for {
		w.mu.Lock()
		room := w.mu.room
		w.mu.Unlock()
		err := w.TryAppend(firstTxid, records)
		if !errors.Is(err, fault.Busy) {
			return err
		}
		select {
		case <-room:
		case <-w.ended:
		case <-ctx.Done():
			return &fault.Error{Kind: fault.Busy, Op: "append to log", Reason: "no room in time", Err: ctx.Err()}
		}
	}
}

// Err is what ended the Writer, nil while it lives.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.err
}

// Close ends the stream and waits for the Writer's goroutines. Batches in flight may or may not be in the log.
func (w *Writer) Close() {
	w.mu.Lock()
	w.mu.closed = true
	w.mu.Unlock()
	w.fail(&fault.Error{Kind: fault.Closed, Op: "append to log", Reason: "the writer was closed"})
	<-w.done
}

// fail records the first reason and stops both goroutines.
func (w *Writer) fail(err error) {
	w.mu.Lock()
	first := w.mu.err == nil
	if first {
		w.mu.err = err
	}
	w.mu.Unlock()
	if first {
		close(w.ended)
		w.cancel()
	}
}

// send moves batches from the queue to the stream.
func (w *Writer) send() {
	for {
		select {
		case batch := <-w.queue:
			// A failed Send returns io.EOF; receive gets the reason.
			if err := w.stream.Send(batch); err != nil {
				if !errors.Is(err, io.EOF) {
					w.fail(rpc.FromStatus(err, "append to log", w.address))
				}
				<-w.ended
				return
			}
		case <-w.ended:
			return
		}
	}
}

// receive reads the acknowledgements, in order, and reports the end.
func (w *Writer) receive() {
	for {
		ack, err := w.stream.Recv()
		if err != nil {
			w.fail(rpc.FromStatus(err, "append to log", w.address))
			break
		}
		if err := w.acknowledge(ack.LastTxid); err != nil {
			w.fail(err)
			break
		}
		w.options.OnDurable(ack.LastTxid)
	}
	w.mu.Lock()
	closed, err := w.mu.closed, w.mu.err
	w.mu.Unlock()
	if !closed {
		w.options.OnFailed(err)
	}
}

// acknowledge removes batches up to last from the pending list.
func (w *Writer) acknowledge(last uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for n < len(w.mu.pending) && w.mu.pending[n].last <= last {
		w.mu.bytes -= w.mu.pending[n].bytes
		n++
	}
	if n == 0 || w.mu.pending[n-1].last != last {
		return &fault.Error{Kind: fault.Protocol, Op: "append to log", Address: w.address,
			Reason: "the server acknowledged a txid that ends no batch in flight"}
	}
	w.mu.pending = append(w.mu.pending[:0], w.mu.pending[n:]...)
	close(w.mu.room)
	w.mu.room = make(chan struct{})
	return nil
}
