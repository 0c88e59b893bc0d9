package main

import (
	"bytes"
	"context"
	"io"
	"sync"
	"time"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/cmd/ww/internal/transfer"
)

// flushEvery is how long bytes of a slow standard input may wait before readers see them.
const flushEvery = 200 * time.Millisecond

// appendStream copies standard input to w and flushes while it does, so that tail -f sees the bytes of a slow source.
func (a *app) appendStream(ctx context.Context, w *client.FileWriter, bar *progress, lines bool) (int64, error) {
	f := &flusher{w: w, ctx: ctx, lines: lines}
	ctx, cancel := context.WithCancel(ctx)
	var wait sync.WaitGroup
	wait.Go(func() { f.run(ctx) })
	n, err := transfer.CopyStream(ctx, f, a.stdin, bar.moved)
	cancel()
	wait.Wait()
	return n, err
}

// flusher serialises the writes of a source and the flushes of a clock.
type flusher struct {
	w     *client.FileWriter
	ctx   context.Context // of the copying
	lines bool            // every whole line is flushed at once
	mu    struct {
		sync.Mutex
		dirty bool
	}
}

var _ io.Writer = (*flusher)(nil)

func (f *flusher) Write(text []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.dirty = f.mu.dirty || len(text) > 0
	if !f.lines {
		return f.w.Write(text)
	}
	end := bytes.LastIndexByte(text, '\n') + 1
	if end == 0 {
		return f.w.Write(text)
	}
	written, err := f.w.Write(text[:end])
	if err == nil {
		err = f.w.Flush(f.ctx)
	}
	if err != nil || end == len(text) {
		f.mu.dirty = f.mu.dirty && err != nil
		return written, err
	}
	m, err := f.w.Write(text[end:])
	return written + m, err
}

// run flushes what was written until ctx ends; an error shows at the next Write or at Close.
func (f *flusher) run(ctx context.Context) {
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		f.mu.Lock()
		if f.mu.dirty {
			f.mu.dirty = false
			_ = f.w.Flush(ctx)
		}
		f.mu.Unlock()
	}
}
