package client_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
)

// sharedRecords has goroutines write the records of content through one writer, each flushed or synced by its own
// goroutine. check is called after each.
func sharedRecords(t *testing.T, w *client.FileWriter, content []byte, size int, check func(end int, synced bool)) {
	var mu sync.Mutex
	next := 0
	var g errgroup.Group
	for worker := range 8 {
		random := rand.New(rand.NewPCG(5, uint64(worker)))
		g.Go(func() error {
			for {
				mu.Lock()
				end := min(next+size, len(content))
				record := content[next:end]
				next = end
				_, err := w.Write(record)
				mu.Unlock()
				if err != nil || len(record) == 0 {
					return err
				}
				synced := random.IntN(3) == 0
				if synced {
					err = w.Sync(t.Context())
				} else {
					err = w.Flush(t.Context())
				}
				if err != nil {
					return err
				}
				check(end, synced)
			}
		})
	}
	require.NoError(t, g.Wait())
}

func TestGoroutinesShareAWriter(t *testing.T) {
	c := newCluster(t, 3)
	// As long as Flush says: what is counted has to be on every node.
	content := pattern(7, 2*blockBytes-1)
	w, err := c.Create(t.Context(), "/f", chunk128)
	require.NoError(t, err)
	var early atomic.Int64
	sharedRecords(t, w, content, 100, func(end int, synced bool) {
		for _, d := range c.nodes {
			d.set(func() {
				for _, r := range d.replicas { // the only chunk
					if len(r.data) < end || synced && r.synced < end {
						early.Add(1)
					}
				}
			})
		}
	})
	require.Zero(t, early.Load(), "calls that returned before all had the bytes")
	require.NoError(t, w.Close())
	c.everywhere("/f", content)
}

// breakNowAndThen has datanodes break one connection in 200 packets, before or after they did what they were told.
// packets counts.
func (c *cluster) breakNowAndThen() (packets *atomic.Int64) {
	packets = new(atomic.Int64)
	for _, d := range c.nodes {
		d.hook = func(s step) error {
			if s.op != wire.OpData {
				return nil
			}
			switch packets.Add(1) % 400 {
			case 130:
				return errDrop
			case 270:
				return errAfter
			}
			return nil
		}
	}
	return packets
}

// The same over many chunks, while datanodes break connections.
func TestGoroutinesShareAWriterThatRecovers(t *testing.T) {
	c := newCluster(t, 4)
	packets := c.breakNowAndThen()
	content := pattern(9, 7*blockBytes+333)
	w, err := c.Create(t.Context(), "/f", chunk128)
	require.NoError(t, err)
	sharedRecords(t, w, content, 1000, func(int, bool) {})
	require.NoError(t, w.Close())
	require.Greater(t, packets.Load(), int64(800), "several connections broke")
	c.everywhere("/f", content)
	same(t, content, c.get("/f"))
}

// gated is a writer whose second packet waits at the last datanode until open is called.
func gated(t *testing.T) (w *client.FileWriter, open func(), c *cluster) {
	c = newCluster(t, 3, func(o *client.Options) { o.DataTimeout = 30 * time.Second })
	w, err := c.Create(t.Context(), "/f", client.CreateOptions{})
	require.NoError(t, err)
	_, err = w.Write([]byte("one"))
	require.NoError(t, err)
	require.NoError(t, w.Flush(t.Context()))
	gate := make(chan struct{})
	open = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(open)
	for _, d := range c.nodes {
		d.set(func() {
			d.hook = func(s step) error {
				if s.op == wire.OpData {
					<-gate
				}
				return nil
			}
		})
	}
	_, err = w.Write([]byte("two"))
	require.NoError(t, err)
	return w, open, c
}

// begin calls f in a goroutine and waits until so many callers wait for acks.
func begin(t *testing.T, w *client.FileWriter, waiting int, f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	require.Eventually(t, func() bool { return client.Waiting(w) == waiting }, 10*time.Second, time.Millisecond)
	return done
}

func TestAFlushWithNothingNewWaitsForTheBytesOfOthers(t *testing.T) {
	w, open, c := gated(t)
	flush := func() error { return w.Flush(t.Context()) }
	first := begin(t, w, 1, flush)
	second := begin(t, w, 2, flush)
	_, err := w.Write([]byte("three")) // nobody holds the writer
	require.NoError(t, err)
	third := begin(t, w, 3, func() error { return w.Sync(t.Context()) })
	require.Empty(t, first)
	require.Empty(t, second)
	require.Empty(t, third)
	open()
	require.NoError(t, <-first)
	require.NoError(t, <-second)
	require.NoError(t, <-third)
	require.NoError(t, w.Close())
	c.everywhere("/f", []byte("onetwothree"))
}

func TestTheEndOfOneCallersContextIsItsOwn(t *testing.T) {
	w, open, c := gated(t)
	ctx, cancel := context.WithCancel(t.Context())
	first := begin(t, w, 1, func() error { return w.Flush(ctx) })
	second := begin(t, w, 2, func() error { return w.Flush(t.Context()) })
	cancel()
	require.ErrorIs(t, <-first, context.Canceled)
	require.Empty(t, second)
	require.Equal(t, 1, client.Waiting(w))
	open()
	require.NoError(t, <-second)
	require.NoError(t, w.Sync(t.Context()))
	require.NoError(t, w.Close())
	c.everywhere("/f", []byte("onetwo"))
}

// A Write that waits for the window holds the writer, but nobody's context.
func TestTheEndOfAContextDoesNotWaitForAWrite(t *testing.T) {
	w, open, c := gated(t)
	ctx, cancel := context.WithCancel(t.Context())
	flush := begin(t, w, 1, func() error { return w.Flush(ctx) })
	content := pattern(5, 1<<20) // more than the window
	written := make(chan error, 1)
	go func() {
		_, err := w.Write(content)
		written <- err
	}()
	require.Eventually(t, func() bool { return client.Held(w) }, 10*time.Second, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-flush, context.Canceled)
	require.Empty(t, written)
	open()
	require.NoError(t, <-written)
	require.NoError(t, w.Close())
	c.everywhere("/f", append([]byte("onetwo"), content...))
}

func TestCloseTakesThoseAlongThatWait(t *testing.T) {
	w, open, c := gated(t)
	first := begin(t, w, 1, func() error { return w.Flush(t.Context()) })
	_, err := w.Write([]byte("three"))
	require.NoError(t, err)
	closed := make(chan error, 1)
	go func() { closed <- w.Close() }()
	open()
	require.NoError(t, <-first)
	require.NoError(t, <-closed)
	c.everywhere("/f", []byte("onetwothree"))
	require.ErrorIs(t, w.Flush(t.Context()), fault.Closed)
}

func TestAbortWakesAllThatWait(t *testing.T) {
	w, open, _ := gated(t)
	first := begin(t, w, 1, func() error { return w.Flush(t.Context()) })
	second := begin(t, w, 2, func() error { return w.Sync(t.Context()) })
	aborted := make(chan error, 1)
	go func() { aborted <- w.Abort() }()
	require.ErrorIs(t, <-first, fault.Closed)
	require.ErrorIs(t, <-second, fault.Closed)
	open()
	require.NoError(t, <-aborted)
}
