package client

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/whispering-woods/ww/client/internal/lifetime"
	"github.com/whispering-woods/ww/client/internal/view"
	"github.com/whispering-woods/ww/internal/fault"
)

// FileReader reads one file, as it was named when it was opened: a file that is put in its place later is not seen. Of
// a file that is being written it sees every byte flushed. It never returns a byte that did not match its checksum.
//
// ReadAt may be called from many goroutines; Read, Seek and WriteTo share one position and run one after the other. The
// context that it was opened with ends all calls.
type FileReader struct {
	client *Client
	view   *view.View
	life   context.Context
	cancel context.CancelFunc

	mu       sync.Mutex // guards what follows
	position int64
	ahead    *readahead
	closed   bool
}

var (
	_ io.ReadSeekCloser = (*FileReader)(nil)
	_ io.ReaderAt       = (*FileReader)(nil)
	_ io.WriterTo       = (*FileReader)(nil)
)

// Open opens a file for reading. Errors: fault.NotFound, fault.IsDirectory.
func (c *Client) Open(ctx context.Context, path string) (*FileReader, error) {
	what := clean("open", &path)
	life, cancel := c.life.Scope(ctx)
	v, err := c.views.Open(life, what)
	if err == nil {
		_, err = v.Extend(life, false)
	}
	if err != nil {
		cancel()
		return nil, err
	}
	return &FileReader{client: c, view: v, life: life, cancel: cancel}, nil
}

// Info describes the file as the namenode described it last; of a file being written, Length is what was committed.
func (r *FileReader) Info() FileInfo { return fileInfo(r.view.Path(), r.view.Info()) }

// Size asks for the visible length at this moment: the namenode, and a datanode if the file is being written. Later
// reads see that much at least.
func (r *FileReader) Size(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.life, cancel)()
	return r.view.Extend(ctx, true)
}

// ReadAt reads len(p) bytes from offset on, or up to the end of the file, and then n < len(p) with io.EOF. Other
// errors: fault.CorruptData when every replica of a chunk failed and one of them was corrupt, else fault.Unavailable;
// fault.NotFound when the file was removed meanwhile.
func (r *FileReader) ReadAt(p []byte, offset int64) (n int, err error) {
	if offset < 0 {
		return 0, &fault.Error{Kind: fault.Invalid, Op: "read", Path: r.view.Path(), Reason: "negative offset"}
	}
	if err := r.usable(); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	return r.readAt(r.life, p, offset)
}

func (r *FileReader) usable() error {
	if r.life.Err() == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.usableLocked()
}

func (r *FileReader) usableLocked() error {
	switch {
	case r.closed:
		return &fault.Error{Kind: fault.Closed, Op: "read", Path: r.view.Path(), Reason: "the file is closed"}
	case r.life.Err() != nil:
		return lifetime.Ended(r.life, "read", r.view.Path(), nil)
	}
	return nil
}

// readAt reads within the visible length, chunk after chunk.
func (r *FileReader) readAt(ctx context.Context, buffer []byte, offset int64) (read int, err error) {
	length := r.view.Length()
	if offset+int64(len(buffer)) > length && r.view.Info().GetOpen() {
		if length, err = r.view.Extend(ctx, false); err != nil {
			return 0, err
		}
	}
	if offset >= length {
		return 0, io.EOF
	}
	end := min(offset+int64(len(buffer)), length)
	size := r.view.Info().GetChunkSize()
	for at := offset; at < end; {
		index := at / size
		piece := buffer[at-offset : min(end, (index+1)*size)-offset]
		err := r.view.Read(ctx, int(index), at-index*size, piece)
		if errors.Is(err, view.ErrShrunk) {
			if end = min(end, r.view.Length()); end <= at {
				return int(at - offset), io.EOF
			}
			continue
		}
		if err != nil {
			return int(at - offset), err
		}
		at += int64(len(piece))
	}
	if read = int(end - offset); read < len(buffer) {
		return read, io.EOF
	}
	return read, nil
}

// Read reads from the present position on. Sequential reads are served from what was fetched ahead.
func (r *FileReader) Read(buffer []byte) (read int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.usableLocked(); err != nil {
		return 0, err
	}
	if len(buffer) == 0 {
		return 0, nil
	}
	if r.ahead == nil {
		r.ahead = newReadahead(r, r.client.options.ReadaheadBytes)
	}
	read, err = r.ahead.read(buffer, r.position)
	r.position += int64(read)
	return read, err
}

// WriteTo writes everything from the present position on to w, fetching ahead all the time.
func (r *FileReader) WriteTo(target io.Writer) (written int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.usableLocked(); err != nil {
		return 0, err
	}
	if r.ahead == nil {
		r.ahead = newReadahead(r, r.client.options.ReadaheadBytes)
	}
	for {
		piece, err := r.ahead.next(r.position)
		if len(piece) > 0 {
			n, err := target.Write(piece)
			written += int64(n)
			r.position += int64(n)
			if err == nil && n < len(piece) {
				err = io.ErrShortWrite
			}
			if err != nil {
				return written, err
			}
		}
		if err == io.EOF { //nolint:errorlint // only the bare io.EOF is an end; a wrapped one is a failure
			return written, nil
		}
		if err != nil {
			return written, err
		}
	}
}

// Seek sets the position of the next Read. io.SeekEnd means the visible length at this moment.
func (r *FileReader) Seek(offset int64, whence int) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.usableLocked(); err != nil {
		return 0, err
	}
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += r.position
	case io.SeekEnd:
		length, err := r.view.Extend(r.life, true)
		if err != nil {
			return 0, err
		}
		offset += length
	default:
		return 0, fault.New(fault.Invalid, "seek", "whence %d", whence)
	}
	if offset < 0 {
		return 0, &fault.Error{Kind: fault.Invalid, Op: "seek", Path: r.view.Path(), Reason: "negative position"}
	}
	r.position = offset
	return offset, nil
}

// Close ends reading ahead and makes running calls fail with fault.Closed.
func (r *FileReader) Close() error {
	r.cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.ahead != nil {
		r.ahead.drop()
		r.ahead = nil
	}
	return nil
}
