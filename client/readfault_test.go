package client_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
)

// reads makes a hook that interferes with every read.
func reads(what error) func(step) error {
	return func(s step) error {
		if s.op == wire.OpOpenRead {
			return what
		}
		return nil
	}
}

func TestReadsFailOver(t *testing.T) {
	content := pattern(6, 9*blockBytes+5)
	for name, what := range map[string]error{
		"rotten bytes": errRot, "cut short": errShort, "drops": errDrop, "hangs": errStall,
		"disk error": fault.New(fault.Disk, "read", "EIO"), "busy": fault.New(fault.Busy, "read", "queue full"),
		"gone": fault.New(fault.NotFound, "read", "no replica"), "quarantined": fault.New(fault.CorruptData, "read",
			"in quarantine"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 3, func(o *client.Options) { o.DataTimeout = 600 * time.Millisecond })
			c.put("/f", content, client.CreateOptions{ChunkSize: 4 * blockBytes})
			c.namenode.set(func() { c.namenode.readOrder = []string{"dn1", "dn0"} })
			for _, d := range c.nodes[:2] {
				d.set(func() { d.hook = reads(what) })
			}
			same(t, content, c.get("/f"))
			target := &memory{}
			_, err := c.Fetch(t.Context(), "/f", target, client.FetchOptions{})
			require.NoError(t, err)
			same(t, content, target.content)
			if errors.Is(what, errRot) {
				require.Eventually(t, func() bool { return c.namenode.count("ReportBadReplica") >= 2 }, 5*time.Second,
					time.Millisecond)
				c.namenode.set(func() { require.Contains(t, c.namenode.bad[0].Reason, "checksum") })
			}
		})
	}
}

// TestASilentReplicaIsLeftSoon: with the time limits that a client has by default, two of three replicas say nothing.
func TestASilentReplicaIsLeftSoon(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, func(o *client.Options) { o.DataTimeout, o.DialTimeout = 0, 0 })
	content := pattern(6, 3*blockBytes)
	c.put("/f", content, chunk128)
	c.namenode.set(func() { c.namenode.readOrder = []string{"dn1", "dn0"} })
	w, err := c.Create(t.Context(), "/open", chunk128)
	require.NoError(t, err)
	_, err = w.Write(content[:1000])
	require.NoError(t, err)
	require.NoError(t, w.Flush(t.Context()))
	for _, d := range c.nodes[:2] {
		d.set(func() {
			d.hook = func(s step) error {
				if s.op == wire.OpOpenRead || s.op == wire.OpStat {
					return errStall
				}
				return nil
			}
		})
	}
	const soon = 2*1500*time.Millisecond + 1500*time.Millisecond // and a margin for a busy machine
	began := time.Now()
	same(t, content, c.get("/f"))
	require.Less(t, time.Since(began), soon)
	began = time.Now()
	same(t, content, c.get("/f"))
	require.Less(t, time.Since(began), time.Second, "it is not asked again for a while")
	other := c.dial(func(o *client.Options) { o.DataTimeout, o.DialTimeout = 0, 0 })
	began = time.Now()
	r, err := other.Open(t.Context(), "/open")
	require.NoError(t, err)
	size, err := r.Size(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1000, size)
	require.NoError(t, r.Close())
	require.Less(t, time.Since(began), soon)
	for _, d := range c.nodes {
		d.set(func() { d.hook = nil })
	}
	require.NoError(t, w.Close())
}

// TestSlowReplicasAreWaitedFor: where every replica is slow, to leave them soon must not make a read fail.
func TestSlowReplicasAreWaitedFor(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, func(o *client.Options) { o.DataTimeout = 0 })
	content := pattern(6, 1000)
	c.put("/f", content, chunk128)
	var asked atomic.Int64
	for _, d := range c.nodes {
		d.set(func() {
			d.hook = func(s step) error {
				if s.op == wire.OpOpenRead {
					asked.Add(1)
					busy := time.NewTimer(2 * time.Second)
					<-busy.C
				}
				return nil
			}
		})
	}
	same(t, content, c.get("/f"))
	require.EqualValues(t, 4, asked.Load(), "once each, and the first one again with patience")
}

func TestAFailedNodeIsReadLast(t *testing.T) {
	c := newCluster(t, 3)
	c.put("/f", pattern(6, 1000), chunk128)
	c.namenode.set(func() { c.namenode.readOrder = []string{"dn2"} })
	c.nodes[2].set(func() { c.nodes[2].hook = reads(errDrop) })
	for range 10 {
		c.get("/f")
	}
	c.nodes[2].set(func() { require.LessOrEqual(t, c.nodes[2].reads, 2) })
}

func TestAllReplicasBad(t *testing.T) {
	var log bytes.Buffer
	var mu sync.Mutex
	c := newCluster(t, 3, func(o *client.Options) {
		o.Logger = slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, nil))
	})
	content := pattern(6, 3*blockBytes)
	c.put("/f", content, client.CreateOptions{})
	chunks, err := c.Locate(t.Context(), "/f", 0, 0)
	require.NoError(t, err)

	// One corrupt, two down: corrupt, and it says where everything is.
	c.nodes[0].set(func() { c.nodes[0].hook = reads(errRot) })
	c.nodes[1].stop()
	c.nodes[2].stop()
	r, err := c.Open(t.Context(), "/f")
	require.NoError(t, err)
	p := make([]byte, len(content))
	n, err := r.ReadAt(p, 0)
	require.ErrorIs(t, err, fault.CorruptData)
	for _, part := range []string{chunks[0].ID.String(), "dn0", "dn1", "dn2", c.nodes[1].address, "connection refused",
		`"/f"`} {
		require.ErrorContains(t, err, part)
	}
	same(t, content[:n], p[:n])
	mu.Lock()
	require.Contains(t, log.String(), "corrupt replica")
	require.Contains(t, log.String(), "node=dn0")
	mu.Unlock()
	_, err = c.Fetch(t.Context(), "/f", &memory{}, client.FetchOptions{})
	require.ErrorIs(t, err, fault.CorruptData)

	// All down: unavailable, after the policy gave up.
	c.nodes[0].stop()
	began := time.Now()
	_, err = r.ReadAt(p, 0)
	require.ErrorIs(t, err, fault.Unavailable)
	require.NotErrorIs(t, err, fault.CorruptData)
	require.Greater(t, time.Since(began), time.Second)
	require.ErrorContains(t, err, "dn0")
	require.ErrorContains(t, err, "dn2")

	// And back.
	c.nodes[1].listen(t, c.nodes[1].address)
	_, err = r.ReadAt(p, 0)
	require.NoError(t, err)
	same(t, content, p)
	require.NoError(t, r.Close())
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func TestAReplicaThatMovedIsFoundAgain(t *testing.T) {
	c := newCluster(t, 4)
	content := pattern(6, 3*blockBytes)
	c.put("/f", content, client.CreateOptions{Replication: 1})
	r, err := c.Open(t.Context(), "/f")
	require.NoError(t, err)
	// The namenode moves the replica after the file was opened.
	chunks, err := c.Locate(t.Context(), "/f", 0, 0)
	require.NoError(t, err)
	replica, _ := c.nodes[0].replica(chunks[0].ID)
	c.nodes[3].set(func() { c.nodes[3].replicas[chunks[0].ID] = &replica })
	c.nodes[0].stop()
	c.namenode.set(func() {
		for _, f := range c.namenode.ids {
			f.chunks[0].located.Replicas = c.namenode.nodes[3:]
		}
	})
	p := make([]byte, len(content))
	_, err = r.ReadAt(p, 0)
	require.NoError(t, err)
	same(t, content, p)
	// Removed: the reader is told so.
	_, err = c.Remove(t.Context(), "/f", client.RemoveOptions{})
	require.NoError(t, err)
	c.nodes[3].set(func() { delete(c.nodes[3].replicas, chunks[0].ID) })
	_, err = r.ReadAt(p, 0)
	require.ErrorIs(t, err, fault.NotFound)
	require.NoError(t, r.Close())
}

func TestAReaderNeverMixesInAFilePutInItsPlace(t *testing.T) {
	c := newCluster(t, 3)
	c.put("/f", pattern(1, 3*blockBytes), chunk128)
	r, err := c.Open(t.Context(), "/f")
	require.NoError(t, err)
	o := chunk128
	o.Overwrite = true
	c.put("/f", pattern(2, 3*blockBytes), o)
	p := make([]byte, 3*blockBytes)
	_, err = r.ReadAt(p, 0)
	require.NoError(t, err) // the old chunks are still on the nodes
	same(t, pattern(1, 3*blockBytes), p)
	require.NoError(t, r.Close())
	same(t, pattern(2, 3*blockBytes), c.get("/f"))
}

// TestCancelAnywhere cancels operations at many moments, with content in which every block tells where it belongs.
// Nothing may leak, no buffer may be used twice, and what is readable afterwards must be right.
func TestCancelAnywhere(t *testing.T) {
	c := newCluster(t, 3, func(o *client.Options) { o.ReadaheadBytes = 256 << 10 })
	content := pattern(99, 12*blockBytes+1)
	o := client.CreateOptions{ChunkSize: 2 * blockBytes, Overwrite: true}
	c.put("/fixed", content, o)
	rounds := 60
	if testing.Short() {
		rounds = 15
	}
	// A hook counts the steps of the protocol and cancels at a chosen one.
	var mu sync.Mutex
	var left int
	var cancel context.CancelFunc
	for _, d := range c.nodes {
		d.set(func() {
			d.hook = func(step) error {
				mu.Lock()
				defer mu.Unlock()
				if left--; left == 0 {
					cancel()
				}
				return nil
			}
		})
	}
	operations := []func(ctx context.Context, i int) error{
		func(ctx context.Context, i int) error {
			_, err := c.Store(ctx, "/stored", bytes.NewReader(pattern(uint64(i), len(content))), int64(len(content)),
				client.StoreOptions{CreateOptions: o})
			return err
		},
		func(ctx context.Context, i int) error {
			w, err := c.Create(ctx, "/written", o)
			if err != nil {
				return err
			}
			defer func() { _ = w.Abort() }()
			for j := 0; j < len(content); j += 100_000 {
				if _, err := w.Write(pattern(uint64(i), len(content))[j:min(j+100_000, len(content))]); err != nil {
					return err
				}
				if err := w.Sync(ctx); err != nil {
					return err
				}
			}
			return w.Close()
		},
		func(ctx context.Context, i int) error {
			r, err := c.Open(ctx, "/fixed")
			if err != nil {
				return err
			}
			defer func() { _ = r.Close() }()
			got, err := io.ReadAll(struct{ io.Reader }{r})
			same(t, content[:len(got)], got)
			return err
		},
		func(ctx context.Context, i int) error {
			target := &memory{}
			_, err := c.Fetch(ctx, "/fixed", target, client.FetchOptions{})
			if err == nil {
				same(t, content, target.content)
			}
			return err
		},
	}
	cancelled := 0
	for i := range rounds {
		for _, operation := range operations {
			ctx, stop := context.WithCancel(t.Context())
			mu.Lock()
			left, cancel = 1+i, stop
			mu.Unlock()
			err := operation(ctx, i)
			if err != nil {
				require.ErrorIs(t, err, context.Canceled, "round %d: %v", i, err)
				cancelled++
			}
			stop()
			require.Zero(t, client.OutstandingBuffers(c.Client), "round %d", i)
			require.Zero(t, client.OpenConnections(c.Client), "round %d", i)
		}
		same(t, content, c.get("/fixed"))
		if info, err := c.Stat(t.Context(), "/stored"); err == nil && info.Length > 0 {
			got := c.get("/stored")
			seed := binary.LittleEndian.Uint64(got) >> 40
			same(t, pattern(seed, len(content)), got)
		}
	}
	require.Greater(t, cancelled, rounds)
}

func TestCloseInterruptsEverything(t *testing.T) {
	c := newCluster(t, 3)
	c.put("/f", pattern(1, 5*blockBytes), chunk128)
	for _, d := range c.nodes {
		d.set(func() {
			d.hook = func(s step) error {
				if s.op == wire.OpOpenRead || s.op == wire.OpData {
					return errStall
				}
				return nil
			}
		})
	}
	cl := c.dial(func(o *client.Options) { o.DataTimeout = time.Minute })
	r, err := cl.Open(t.Context(), "/f")
	require.NoError(t, err)
	w, err := cl.Create(t.Context(), "/w", chunk128)
	require.NoError(t, err)
	var group sync.WaitGroup
	for _, f := range []func() error{
		func() error { _, err := r.ReadAt(make([]byte, 10), 0); return err },
		func() error { _, err := r.Read(make([]byte, 10)); return err },
		func() error { _, _ = w.Write(pattern(1, 5*blockBytes)); return w.Sync(t.Context()) },
		func() error { _, err := cl.Fetch(t.Context(), "/f", &memory{}, client.FetchOptions{}); return err },
		func() error {
			_, err := cl.Store(t.Context(), "/s", bytes.NewReader(pattern(1, 1000)), 1000, client.StoreOptions{})
			return err
		},
	} {
		group.Go(func() {
			if err := f(); fault.KindOf(err) != fault.Closed {
				t.Errorf("ended with %v", err)
			}
		})
	}
	require.Eventually(t, func() bool { return client.OpenConnections(cl) >= 5 }, 5*time.Second, time.Millisecond)
	require.NoError(t, cl.Close())
	group.Wait()
	require.ErrorIs(t, w.Abort(), fault.Closed) // releases what it holds; the namenode cannot be told any more
	require.NoError(t, r.Close())
	_, err = cl.Stat(t.Context(), "/f")
	require.ErrorIs(t, err, fault.Closed)
}

func ExampleClient() {
	ctx := context.Background()
	c, err := client.Dial(ctx, client.Options{Namenodes: []string{"127.0.0.1:7700"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	w, err := c.Append(ctx, "/logs/today", client.AppendOptions{RecoverLease: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := w.Write([]byte("one line\n")); err != nil {
		fmt.Println(err)
	}
	if err := w.Sync(ctx); err != nil { // on every datanode's disk
		fmt.Println(err)
	}
	if err := w.Close(); err != nil {
		fmt.Println(err)
	}
}
