package client

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"time"

	"github.com/whispering-woods/ww/client/internal/lifetime"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/record"
)

// RecordReadOptions says how records are read.
type RecordReadOptions struct {
	Follow bool          // makes Next wait for the next record at the end of the file
	Every  time.Duration // how often the end of the file is looked at; default 500 ms
}

// Record is one record of a file.
type Record struct {
	Writer   [16]byte // names the RecordAppender that appended it
	Sequence uint64   // of that writer, from 1, rising
	Offset   int64    // of the record's frame in the file
	Payload  []byte   // valid until the reader's next call
}

// RecordReader reads the records of a file in their order. It skips what failed attempts left behind, and drops the
// second copy of a record that was appended twice. One goroutine at a time.
//
// A reader that follows a file may deliver a record that was visible for a moment, never acknowledged, and lost with
// its datanode; the writer appends it again, if it lives, and that copy is dropped.
type RecordReader struct {
	client  *Client
	life    context.Context
	path    string
	options RecordReadOptions
	scanner *record.Scanner
	window  recordWindow
	// recent are the frames delivered last, in order: at least recentFramesMax of them, if there were so many, and at
	// most twice as many.
	recent []recentFrame
}

// recentFrame is a frame that was delivered.
type recentFrame struct {
	offset int64
	end    int64
	sum    uint64 // as the frame says
}

// ReadRecords opens a file to read its records, from a record's offset (or 0) on; ctx ends the reader's whole life.
// Errors: fault.NotFound, fault.IsDirectory, fault.Invalid.
func (c *Client) ReadRecords(ctx context.Context, path string, offset int64,
	o RecordReadOptions) (*RecordReader, error) {
	const op = "read records"
	if offset < 0 || o.Every < 0 {
		return nil, &fault.Error{Kind: fault.Invalid, Op: op, Path: path, Reason: "negative offset or time"}
	}
	o.Every = cmp.Or(o.Every, recordEveryDefault)
	file, err := c.Open(ctx, path)
	if err != nil {
		return nil, err
	}
	r := &RecordReader{client: c, life: ctx, path: path, options: o}
	r.window.file = file
	r.scanner = record.NewScanner(&r.window, offset, func() (int64, error) { return r.window.limit, nil })
	if r.window.limit, err = file.Size(ctx); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return r, nil
}

// Next returns the next record. At the end of the file: io.EOF, or with Follow it waits. io.EOF is not final: what is
// appended later comes with a later call.
func (r *RecordReader) Next(ctx context.Context) (Record, error) {
	for {
		found, err := r.scanner.Next()
		switch {
		case err == nil:
			r.remember(found)
			return Record{Writer: found.Writer, Sequence: found.Sequence, Offset: found.Offset,
				Payload: found.Payload}, nil
		case !errors.Is(err, io.EOF):
			return Record{}, unwrapSource(err)
		}
		more, err := r.grow(ctx)
		switch {
		case err != nil && (!r.options.Follow || fault.ClassOf(err) != fault.Retryable):
			return Record{}, err
		case more:
			continue
		case !r.options.Follow:
			return Record{}, io.EOF
		}
		if err := clock.Sleep(ctx, r.client.clock, r.options.Every); err != nil {
			return Record{}, lifetime.Ended(ctx, "read records", r.path, nil)
		}
	}
}

// grow looks for more bytes behind those that were scanned.
func (r *RecordReader) grow(ctx context.Context) (bool, error) {
	// The file is opened anew: it may be shorter than it was for a moment.
	file, err := r.client.Open(r.life, r.path)
	if err != nil {
		return false, err
	}
	length, err := file.Size(ctx)
	if err == nil && file.Info().FileID != r.window.file.Info().FileID {
		err = &fault.Error{Kind: fault.NotFound, Op: "read records", Path: r.path,
			Reason: "another file took its place"}
	}
	if err != nil || length == r.window.limit {
		return false, errors.Join(err, file.Close())
	}
	old := r.window.file
	r.window = recordWindow{file: file, limit: length, buffer: r.window.buffer[:0]}
	if err := errors.Join(old.Close(), r.rewind()); err != nil {
		r.window.limit = 0 // look again
		return false, err
	}
	return true, nil
}

// remember notes a frame that is delivered.
func (r *RecordReader) remember(found record.Record) {
	if len(r.recent) >= 2*recentFramesMax {
		r.recent = append(r.recent[:0], r.recent[recentFramesMax:]...)
	}
	r.recent = append(r.recent, recentFrame{found.Offset, r.scanner.Offset(), found.Sum})
}

// rewind goes back behind the last delivered frame that is still in the file. Frames that were visible and not
// acknowledged can be cut off when a datanode fails, and replaced by other frames.
func (r *RecordReader) rewind() error {
	for count := len(r.recent); count > 0; count-- {
		frame := r.recent[count-1]
		var sum [8]byte
		if frame.end <= r.window.limit {
			if _, err := r.window.ReadAt(sum[:], frame.offset); err != nil {
				return unwrapSource(err)
			}
			if binary.LittleEndian.Uint64(sum[:]) == frame.sum {
				return nil
			}
		}
		r.client.logger.Warn("a record that was not acknowledged is gone", "path", r.path, "offset", frame.offset)
		r.recent = r.recent[:count-1]
		r.scanner.ContinueAt(frame.offset)
		if count > 1 {
			r.scanner.ContinueAt(r.recent[count-2].end)
		}
	}
	return nil
}

// Offset is where the next record is looked for; a later reader can start there.
func (r *RecordReader) Offset() int64 { return r.scanner.Offset() }

// Skipped counts the bytes that belonged to no record.
func (r *RecordReader) Skipped() int64 { return r.scanner.Skipped() }

// Duplicates counts the records that were in the file a second time.
func (r *RecordReader) Duplicates() int64 { return r.scanner.Duplicates() }

// Close ends the reader.
func (r *RecordReader) Close() error { return r.window.file.Close() }

// recordWindow reads a file in large pieces for a scanner that asks for small ones.
type recordWindow struct {
	file   *FileReader
	limit  int64 // visible bytes
	start  int64 // of buffer in the file
	buffer []byte
}

// ReadAt reads below limit.
func (w *recordWindow) ReadAt(buffer []byte, offset int64) (int, error) {
	if from := offset - w.start; from >= 0 && from+int64(len(buffer)) <= int64(len(w.buffer)) {
		return copy(buffer, w.buffer[from:]), nil
	}
	if len(buffer) >= recordWindowBytes {
		n, err := w.file.ReadAt(buffer, offset)
		return n, wrapSource(err)
	}
	size := min(recordWindowBytes, w.limit-offset)
	if size < int64(len(buffer)) {
		return 0, io.ErrUnexpectedEOF
	}
	if w.buffer == nil {
		w.buffer = make([]byte, 0, recordWindowBytes)
	}
	w.start, w.buffer = offset, w.buffer[:size]
	n, err := w.file.ReadAt(w.buffer, offset)
	if n < len(w.buffer) {
		w.buffer = w.buffer[:0]
		return 0, wrapSource(err)
	}
	return copy(buffer, w.buffer), nil
}

// sourceError hides the kind of a failed read from the scanner, which regards fault.CorruptData as bytes that are no
// record.
type sourceError struct{ err error }

func (e sourceError) Error() string { return e.err.Error() }

func wrapSource(err error) error {
	if err == nil {
		return nil
	}
	return sourceError{err}
}

func unwrapSource(err error) error {
	var e sourceError
	if errors.As(err, &e) {
		return e.err
	}
	return err
}
