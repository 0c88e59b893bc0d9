package client_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
)

// replicasHave tells whether every datanode has a replica of so many bytes, on its disk if synced.
func (c *cluster) replicasHave(end int, synced bool) bool {
	all := true
	for _, d := range c.nodes {
		d.set(func() {
			for _, r := range d.replicas {
				all = all && len(r.data) >= end && (!synced || r.synced >= end)
			}
		})
	}
	return all
}

func TestOneCallerHasManyFlushesUnderWay(t *testing.T) {
	w, open, c := gated(t)
	first, err := w.BeginFlush(t.Context())
	require.NoError(t, err)
	_, err = w.Write([]byte("three"))
	require.NoError(t, err)
	second, err := w.BeginSync(t.Context())
	require.NoError(t, err)
	nothingNew, err := w.BeginFlush(t.Context())
	require.NoError(t, err)
	waiting := begin(t, w, 1, func() error { return first.Wait(t.Context()) })
	require.Empty(t, waiting)
	open()
	require.NoError(t, nothingNew.Wait(t.Context()), "in any order")
	require.True(t, c.replicasHave(len("onetwothree"), true))
	require.NoError(t, second.Wait(t.Context()))
	require.NoError(t, <-waiting)
	require.NoError(t, w.Close())
	require.NoError(t, second.Wait(t.Context()), "done is done")
	require.NoError(t, client.Pending{}.Wait(t.Context()))
	c.everywhere("/f", []byte("onetwothree"))
	_, err = w.BeginFlush(t.Context())
	require.ErrorIs(t, err, fault.Closed)
}

func TestTheEndOfAContextLeavesAPendingPending(t *testing.T) {
	w, open, c := gated(t)
	p, err := w.BeginFlush(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	waiting := begin(t, w, 1, func() error { return p.Wait(ctx) })
	cancel()
	require.ErrorIs(t, <-waiting, context.Canceled)
	_, err = w.BeginFlush(ctx)
	require.ErrorIs(t, err, context.Canceled)
	open()
	require.NoError(t, p.Wait(t.Context()))
	require.True(t, c.replicasHave(len("onetwo"), false))
	require.NoError(t, w.Close())
}

func TestAbortEndsWhatIsPending(t *testing.T) {
	w, open, _ := gated(t)
	p, err := w.BeginFlush(t.Context())
	require.NoError(t, err)
	waiting := begin(t, w, 1, func() error { return p.Wait(t.Context()) })
	aborted := make(chan error, 1)
	go func() { aborted <- w.Abort() }()
	require.ErrorIs(t, <-waiting, fault.Closed)
	open()
	require.NoError(t, <-aborted)
	require.ErrorIs(t, p.Wait(t.Context()), fault.Closed)
}

// The pipeline breaks when nobody calls: Wait puts it up again.
func TestAPendingSurvivesItsPipeline(t *testing.T) {
	for name, how := range map[string]error{"before the disk": errDrop, "after the disk": errAfter} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 4)
			w := c.started("one")
			broken := c.dropNextData(how)
			_, err := w.Write([]byte("two"))
			require.NoError(t, err)
			p, err := w.BeginSync(t.Context())
			require.NoError(t, err)
			require.Eventually(t, broken.Load, 10*time.Second, time.Millisecond)
			require.NoError(t, p.Wait(t.Context()))
			require.True(t, c.replicasHave(len("onetwo"), true))
			require.NoError(t, w.Close())
			c.everywhere("/f", []byte("onetwo"))
		})
	}
}

// One caller keeps 16 records under way, over many chunks, while datanodes break connections.
func TestManyPendingsOverChunksAndFailures(t *testing.T) {
	c := newCluster(t, 4)
	packets := c.breakNowAndThen()
	const record, most = 1000, 16
	content := pattern(11, 7*blockBytes+333)
	w, err := c.Create(t.Context(), "/f", chunk128)
	require.NoError(t, err)
	var pending []client.Pending
	for at := 0; at < len(content); at += record {
		_, err := w.Write(content[at:min(at+record, len(content))])
		require.NoError(t, err)
		begun := w.BeginFlush
		if at/record%3 == 0 {
			begun = w.BeginSync
		}
		p, err := begun(t.Context())
		require.NoError(t, err)
		if pending = append(pending, p); len(pending) == most {
			require.NoError(t, pending[0].Wait(t.Context()))
			pending = pending[1:]
			if at/record%8 != 0 {
				continue
			}
			// Everything before the 15 that are left is in the file for others.
			flushed := c.get("/f")
			least := at + record - (most-1)*record
			require.GreaterOrEqual(t, len(flushed), least)
			same(t, content[:len(flushed)], flushed)
		}
	}
	for _, p := range pending {
		require.NoError(t, p.Wait(t.Context()))
	}
	require.NoError(t, w.Close())
	require.Greater(t, packets.Load(), int64(800), "several connections broke")
	c.everywhere("/f", content)
}

// dropNextData has the first datanode that gets the next packet drop its connection, with or without doing what it was
// told.
func (c *cluster) dropNextData(how error) (dropped *atomic.Bool) {
	dropped = new(atomic.Bool)
	for _, d := range c.nodes {
		d.set(func() {
			d.hook = func(s step) error {
				if s.op == wire.OpData && dropped.CompareAndSwap(false, true) {
					return how
				}
				return nil
			}
		})
	}
	return dropped
}

// started is a writer with flushed bytes.
func (c *cluster) started(content string) *client.FileWriter {
	w, err := c.Create(c.t.Context(), "/f", chunk128)
	require.NoError(c.t, err)
	_, err = w.Write([]byte(content))
	require.NoError(c.t, err)
	require.NoError(c.t, w.Flush(c.t.Context()))
	return w
}

// Nothing is new but the promise: the packet that carries it is lost.
func TestASyncOfFlushedBytesSurvivesItsPipeline(t *testing.T) {
	c := newCluster(t, 3)
	w := c.started("one")
	dropped := c.dropNextData(errDrop)
	p, err := w.BeginSync(t.Context())
	require.NoError(t, err)
	require.Eventually(t, dropped.Load, 10*time.Second, time.Millisecond)
	require.NoError(t, p.Wait(t.Context()))
	require.True(t, c.replicasHave(len("one"), true))
	require.NoError(t, w.Close())
}

func TestCloseDoesWhatIsPending(t *testing.T) {
	c := newCluster(t, 3)
	w := c.started("one")
	_, err := w.Write([]byte("two"))
	require.NoError(t, err)
	dropped := c.dropNextData(errDrop)
	p, err := w.BeginSync(t.Context())
	require.NoError(t, err)
	require.Eventually(t, dropped.Load, 10*time.Second, time.Millisecond)
	require.NoError(t, w.Close())
	require.NoError(t, p.Wait(t.Context()), "in another session than its own")
	c.everywhere("/f", []byte("onetwo"))
}

// Contexts that end are no failures of the pipeline, however many.
func TestShortWaitsDoNotWearAWriterOut(t *testing.T) {
	c := newCluster(t, 3, func(o *client.Options) { o.DataTimeout = 30 * time.Second })
	w := c.started("one")
	_, err := w.Write([]byte("two"))
	require.NoError(t, err)
	var dropped atomic.Bool
	gate := make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	t.Cleanup(open)
	for _, d := range c.nodes {
		d.set(func() {
			d.hook = func(s step) error {
				switch {
				case s.op == wire.OpData && dropped.CompareAndSwap(false, true):
					return errDrop
				case s.op == wire.OpOpenWrite:
					<-gate
				}
				return nil
			}
		})
	}
	p, err := w.BeginFlush(t.Context())
	require.NoError(t, err)
	require.Eventually(t, dropped.Load, 10*time.Second, time.Millisecond)
	for range 3 * client.RecoveriesMax {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		require.ErrorIs(t, p.Wait(ctx), context.DeadlineExceeded)
		cancel()
	}
	open()
	require.NoError(t, p.Wait(t.Context()))
	require.True(t, c.replicasHave(len("onetwo"), false))
	require.NoError(t, w.Close())
	c.everywhere("/f", []byte("onetwo"))
}

// A session that is well goes on when a caller leaves that waited for its seal.
func TestTheEndOfAContextLeavesTheSessionStanding(t *testing.T) {
	c := newCluster(t, 3, func(o *client.Options) { o.DataTimeout = 30 * time.Second })
	w := c.started("one")
	gate := make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	t.Cleanup(open)
	var opens atomic.Int64
	for _, d := range c.nodes {
		d.set(func() {
			d.hook = func(s step) error {
				switch s.op {
				case wire.OpData:
					<-gate
				case wire.OpOpenWrite:
					opens.Add(1)
				}
				return nil
			}
		})
	}
	rest := pattern(3, 2*blockBytes-len("one"))
	_, err := w.Write(rest) // the chunk is full
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, w.Flush(ctx), context.DeadlineExceeded)
	open()
	require.NoError(t, w.Flush(t.Context()))
	require.Zero(t, opens.Load())
	require.NoError(t, w.Close())
	c.everywhere("/f", append([]byte("one"), rest...))
}
