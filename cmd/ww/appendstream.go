package main

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/cmd/ww/internal/transfer"
)

// flushEvery is how long bytes of a slow standard input may wait before
// readers see them.
const flushEvery = 200 * time.Millisecond

// appendStream copies standard input to w and flushes while it does, so that
// tail -f sees the bytes of a slow source.
func (a *app) appendStream(ctx context.Context, w *client.FileWriter, bar *progress) (int64, error) {
	f := &flusher{w: w}
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
	w  *client.FileWriter
	mu struct {
		sync.Mutex
		dirty bool
	}
}

var _ io.Writer = (*flusher)(nil)

func (f *flusher) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.dirty = f.mu.dirty || len(p) > 0
	return f.w.Write(p)
}

// run flushes what was written until ctx ends; an error shows at the next
// Write or at Close.
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
