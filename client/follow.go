package client

import (
	"cmp"
	"context"
	"errors"
	"io"
	"time"

	"github.com/whispering-woods/ww/client/internal/lifetime"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

// FollowOptions says how Follow looks at a file.
type FollowOptions struct {
	Every time.Duration // the time between two looks; default 500 ms
	// Restarted is called when the name is another file's by now, or when the file was cut: following begins again at
	// its first byte.
	Restarted func()
	// Trouble is called with the error of a look that will be repeated.
	Trouble func(error)
}

// Follow passes what is added to a file behind offset to sink, each byte once and in order, as soon as its writer has
// flushed it: across chunks, appends, lost datanodes and restarts of the namenode. sink's offset is that of p's first
// byte; p is good only during the call. Follow ends with ctx, with the first error of sink, or when the file is gone
// (fault.NotFound).
func (c *Client) Follow(ctx context.Context, path string, offset int64, options FollowOptions,
	sink func(offset int64, p []byte) error) error {
	what := clean("follow", &path)
	if what.Invalid != nil {
		return what.Invalid
	}
	options.Every = cmp.Or(options.Every, followEveryDefault)
	f := &follower{client: c, path: path, offset: offset, o: options, sink: sink}
	for {
		err := f.look(ctx)
		switch {
		case f.sinkErr != nil:
			return f.sinkErr
		case ctx.Err() != nil:
			return lifetime.Ended(ctx, what.Op, path, nil)
		case err != nil && fault.ClassOf(err) != fault.Retryable:
			return err
		case err != nil && options.Trouble != nil:
			options.Trouble(err)
		}
		if clock.Sleep(ctx, c.clock, options.Every) != nil {
			return lifetime.Ended(ctx, what.Op, path, nil)
		}
	}
}

// follower is one running Follow. What lies before offset was passed to sink.
type follower struct {
	client  *Client
	path    string
	file    uint64 // id; 0: not seen yet
	offset  int64
	o       FollowOptions
	sink    func(int64, []byte) error
	sinkErr error
}

// look passes on what is new. The file is opened by its name each time, so that a file put in its place is seen.
func (f *follower) look(ctx context.Context) error {
	reader, err := f.client.Open(ctx, f.path)
	if err != nil {
		return err
	}
	defer func() { _ = reader.Close() }() // read only
	length, err := reader.Size(ctx)
	if err != nil {
		return err
	}
	info := reader.Info()
	// Of an open file the length known may be too low for a while: a namenode that restarted does not know of all
	// replicas. What was flushed is not lost.
	cut := length < f.offset && !info.Open
	if f.file != 0 && info.FileID != f.file || cut {
		f.offset = 0
		if f.o.Restarted != nil {
			f.o.Restarted()
		}
	}
	f.file = info.FileID
	if length <= f.offset {
		return nil
	}
	buffer := f.client.buffers.Get(int(min(length-f.offset, segmentBytes)))
	defer buffer.Release()
	for f.offset < length {
		p := buffer.Bytes()[:min(length-f.offset, int64(len(buffer.Bytes())))]
		n, err := reader.ReadAt(p, f.offset)
		if n > 0 {
			if f.sinkErr = f.sink(f.offset, p[:n]); f.sinkErr != nil {
				return f.sinkErr
			}
			f.offset += int64(n)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n == 0 {
			return nil
		}
	}
	return nil
}
