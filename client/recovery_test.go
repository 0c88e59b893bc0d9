package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
)

// once makes a hook that interferes at the first step that matches, and never again.
func once(match func(step) bool, what error) (hook func(step) error, hit *atomic.Bool) {
	hit = &atomic.Bool{}
	return func(s step) error {
		if match(s) && hit.CompareAndSwap(false, true) {
			return what
		}
		return nil
	}, hit
}

var pipelineSteps = map[string]func(step) bool{
	"open":           func(s step) bool { return s.op == wire.OpOpenWrite },
	"first packet":   func(s step) bool { return s.op == wire.OpData && s.seqno == 1 },
	"a later packet": func(s step) bool { return s.op == wire.OpData && s.seqno == 3 },
	"seal":           func(s step) bool { return s.op == wire.OpData && s.flags&wire.FlagSeal != 0 },
	"sync":           func(s step) bool { return s.op == wire.OpData && s.flags&wire.FlagSync != 0 },
}

var pipelineFaults = map[string]error{
	"says no":                   fault.New(fault.NoSpace, "write", "the disk is full"),
	"drops":                     errDrop,
	"hangs":                     errStall,
	"dies after doing the work": errAfter,
}

// A chunk that starts over is placed once, and its stream is not given up.
func TestAStoreStartsOverOnce(t *testing.T) {
	c := newCluster(t, 6)
	var broken atomic.Bool
	for _, d := range c.nodes {
		d.hook = func(s step) error {
			if s.op == wire.OpData && s.seqno == 2 && broken.CompareAndSwap(false, true) {
				return errDrop
			}
			return nil
		}
	}
	content := pattern(3, 2*blockBytes)
	c.put("/f", content, chunk128)
	require.True(t, broken.Load())
	require.Equal(t, 1, c.namenode.count("AddChunks"))
	require.Zero(t, c.namenode.count("RecoverPipeline"))
	c.everywhere("/f", content)
}

// TestPipelineSurvivesAFault interferes at each step, at each hop, in each way, with and without spare nodes, for each
// kind of writer.
func TestPipelineSurvivesAFault(t *testing.T) {
	content := pattern(42, 9*blockBytes+777)
	writers := map[string]func(c *cluster, t *testing.T){
		"store": func(c *cluster, t *testing.T) {
			c.put("/f", content, client.CreateOptions{ChunkSize: 4 * blockBytes, Replication: 3})
		},
		"writer": func(c *cluster, t *testing.T) {
			w, err := c.Create(t.Context(), "/f", client.CreateOptions{ChunkSize: 4 * blockBytes, Replication: 3})
			require.NoError(t, err)
			for i := 0; i < len(content); i += 50_000 {
				_, err = w.Write(content[i:min(len(content), i+50_000)])
				require.NoError(t, err)
				if i == 150_000 {
					require.NoError(t, w.Flush(t.Context()))
					require.NoError(t, w.Sync(t.Context()))
				}
			}
			require.NoError(t, w.Close())
		},
		"append": func(c *cluster, t *testing.T) {
			w, err := c.Append(t.Context(), "/f", client.AppendOptions{})
			require.NoError(t, err)
			_, err = w.Write(content[100_000:300_000])
			require.NoError(t, err)
			require.NoError(t, w.Sync(t.Context()))
			_, err = w.Write(content[300_000:])
			require.NoError(t, err)
			require.NoError(t, w.Close())
		},
	}
	for kind, write := range writers {
		for _, spare := range []int{0, 2} {
			for where, match := range pipelineSteps {
				if kind == "store" && where == "sync" {
					continue // a Store seals, it never syncs alone
				}
				for what, injected := range pipelineFaults {
					for hop := range 3 {
						if testing.Short() && hop == 1 {
							continue
						}
						t.Run(fmt.Sprintf("%s, %d spare, %s, hop %d %s", kind, spare, where, hop, what),
							func(t *testing.T) {
								t.Parallel()
								c := newCluster(t, 3+spare,
									func(o *client.Options) { o.DataTimeout = 700 * time.Millisecond })
								for _, d := range c.nodes {
									d.hopTimeout = 200 * time.Millisecond
								}
								if kind == "append" {
									c.put("/f", content[:100_000], client.CreateOptions{ChunkSize: 4 * blockBytes,
										Replication: 3})
								}
								hook, hit := once(match, injected)
								d := c.nodes[hop]
								d.set(func() { d.hook = hook })
								write(c, t)
								require.True(t, hit.Load() || spare > 0, // its chunks may lie on other nodes
									"the writer never came to this step")
								d.set(func() { d.hook = nil })
								same(t, content, c.get("/f"))
								c.everywhere("/f", content)
								require.Zero(t, client.OpenConnections(c.Client))
							})
					}
				}
			}
		}
	}
}

func TestANodeThatIsDeadIsReplacedOrLeftOut(t *testing.T) {
	content := pattern(1, 9*blockBytes)
	for _, spare := range []int{0, 1} {
		for victim := range 3 {
			c := newCluster(t, 3+spare)
			w, err := c.Create(t.Context(), "/f", client.CreateOptions{ChunkSize: 8 * blockBytes, Replication: 3})
			require.NoError(t, err)
			_, err = w.Write(content[:5*blockBytes])
			require.NoError(t, err)
			require.NoError(t, w.Flush(t.Context()))
			require.Eventually(t, func() bool { return c.namenode.count("AddChunks") == 1 }, 5*time.Second,
				time.Millisecond, "the next chunk is asked for early")
			c.nodes[victim].stop()
			c.namenode.set(func() { c.namenode.down[c.nodes[victim].id] = true })
			_, err = w.Write(content[5*blockBytes : 8*blockBytes])
			require.NoError(t, err)
			_, err = w.Write(content[8*blockBytes:])
			require.NoError(t, err)
			if spare == 0 {
				// The chunk that was allocated before goes on with two nodes. A new one has no third node: that is an
				// error, and what was synced stays.
				require.NoError(t, w.Sync(t.Context()))
				_, err = w.Write(pattern(2, 20*blockBytes))
				require.ErrorIs(t, errors.Join(err, w.Close()), fault.TooFewNodes)
				same(t, content, c.get("/f")[:len(content)])
				continue
			}
			require.NoError(t, w.Close())
			same(t, content, c.get("/f"))
		}
	}
}

func TestAllNodesGoneGivesOneClearError(t *testing.T) {
	c := newCluster(t, 3)
	w, err := c.Create(t.Context(), "/f", client.CreateOptions{ChunkSize: 8 * blockBytes, Replication: 3})
	require.NoError(t, err)
	content := pattern(1, 3*blockBytes)
	_, err = w.Write(content)
	require.NoError(t, err)
	require.NoError(t, w.Sync(t.Context()))
	for _, d := range c.nodes {
		d.stop()
	}
	_, err = w.Write([]byte("more"))
	require.NoError(t, err)
	first := w.Sync(t.Context())
	require.ErrorIs(t, first, fault.Unavailable)
	for _, d := range c.nodes {
		require.ErrorContains(t, first, d.id)
		require.ErrorContains(t, first, d.address)
	}
	require.ErrorContains(t, first, "connection refused")
	require.ErrorContains(t, first, `"/f"`)
	_, err = w.Write([]byte("x"))
	require.Equal(t, first, err, "every later call returns the first error")
	require.Equal(t, first, w.Close())
	for _, d := range c.nodes {
		d.listen(t, d.address)
	}
	same(t, content, c.get("/f"))
}

func TestAWriterRidesOverARestartOfAllDatanodes(t *testing.T) {
	c := newCluster(t, 3)
	w, err := c.Create(t.Context(), "/f", client.CreateOptions{ChunkSize: 8 * blockBytes, Replication: 3})
	require.NoError(t, err)
	content := pattern(1, 5*blockBytes)
	_, err = w.Write(content[:3*blockBytes])
	require.NoError(t, err)
	require.NoError(t, w.Flush(t.Context()))
	for _, d := range c.nodes {
		d.stop()
	}
	for _, d := range c.nodes {
		d.listen(t, d.address)
	}
	_, err = w.Write(content[3*blockBytes:])
	require.NoError(t, err)
	require.NoError(t, w.Close())
	same(t, content, c.get("/f"))
	c.everywhere("/f", content)
	chunks, err := c.Locate(t.Context(), "/f", 0, 0)
	require.NoError(t, err)
	require.Len(t, chunks[0].Replicas, 3, "nobody was to blame for good")
}

func TestAStaleWriterIsFenced(t *testing.T) {
	c := newCluster(t, 3)
	w, err := c.Create(t.Context(), "/f", chunk128)
	require.NoError(t, err)
	_, err = w.Write(pattern(1, 1000))
	require.NoError(t, err)
	require.NoError(t, w.Flush(t.Context()))
	other := c.dial()
	_, err = other.RecoverLease(t.Context(), "/f")
	require.NoError(t, err)
	for _, d := range c.nodes { // lease recovery raised the generation
		d.set(func() {
			for _, r := range d.replicas {
				r.generation = 9
			}
		})
	}
	_, err = w.Write(pattern(1, 1000))
	require.NoError(t, err)
	require.ErrorIs(t, w.Flush(t.Context()), fault.LeaseLost)
	require.ErrorIs(t, w.Close(), fault.LeaseLost)
	require.Equal(t, 1, c.namenode.count("RecoverLease"), "a writer without the lease must not end another's")
}

func TestLostLeaseIsNoticedByRenewal(t *testing.T) {
	c := newCluster(t, 3, func(o *client.Options) { o.LeaseRenewal = 5 * time.Millisecond })
	keep, err := c.Create(t.Context(), "/keep", chunk128)
	require.NoError(t, err)
	lose, err := c.Create(t.Context(), "/lose", chunk128)
	require.NoError(t, err)
	c.namenode.set(func() { c.namenode.leaseless[lose.Info().FileID] = true })
	require.Eventually(t, func() bool {
		_, err := lose.Write([]byte("x"))
		return errors.Is(err, fault.LeaseLost)
	}, 5*time.Second, time.Millisecond)
	_, err = keep.Write([]byte("x"))
	require.NoError(t, err)
	require.NoError(t, keep.Close())
	require.Error(t, lose.Close())
	before := c.namenode.count("RenewLeases")
	require.Positive(t, before)
}

func TestRetriedMutationsTakeEffectOnce(t *testing.T) {
	c := newCluster(t, 3)
	var mu sync.Mutex
	lost := map[string]int{}
	c.namenode.set(func() {
		c.namenode.after = func(method string) error { // every first answer is lost
			mu.Lock()
			defer mu.Unlock()
			if lost[method]++; lost[method]%2 == 1 {
				return fault.New(fault.Unavailable, method, "the answer was lost")
			}
			return nil
		}
	})
	content := pattern(3, 9*blockBytes)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			path := fmt.Sprintf("/d%d/f", i)
			if _, err := c.Store(t.Context(), path, bytes.NewReader(content), int64(len(content)), client.StoreOptions{
				CreateOptions: client.CreateOptions{Parents: true, ChunkSize: blockBytes}}); err != nil {
				t.Error(err)
				return
			}
			if err := c.Rename(t.Context(), path, path+"2", client.RenameOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for i := range 8 {
		same(t, content, c.get(fmt.Sprintf("/d%d/f2", i)))
	}
	c.namenode.set(func() { require.Positive(t, c.namenode.replayed) })
}

func TestWriterWaitsForANamenodeThatRestarts(t *testing.T) {
	c := newCluster(t, 3, func(o *client.Options) {
		retry, err := client.RetryByName(client.RetryExponential, client.RetryLimits{Elapsed: 20 * time.Second,
			Initial: time.Millisecond, Maximum: 50 * time.Millisecond})
		require.NoError(t, err)
		o.Retry = retry
	})
	w, err := c.Create(t.Context(), "/f", client.CreateOptions{ChunkSize: blockBytes, Replication: 3})
	require.NoError(t, err)
	content := pattern(4, 6*blockBytes)
	_, err = w.Write(content[:blockBytes])
	require.NoError(t, err)
	c.namenode.server.Stop()
	done := make(chan error, 1)
	go func() {
		_, err := w.Write(content[blockBytes:])
		done <- errors.Join(err, w.Close())
	}()
	c.namenode.listen(t, c.namenode.address)
	require.NoError(t, <-done)
	same(t, content, c.get("/f"))
}

func TestAContextOfFlushEndsOnlyTheFlush(t *testing.T) {
	c := newCluster(t, 3)
	w, err := c.Create(t.Context(), "/f", client.CreateOptions{ChunkSize: 4 * blockBytes, Replication: 3})
	require.NoError(t, err)
	content := pattern(7, 5*blockBytes)
	for i := 0; i < len(content); i += 20_000 {
		_, err = w.Write(content[i:min(len(content), i+20_000)])
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err = w.Flush(ctx)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, fault.Closed)
	}
	require.NoError(t, w.Flush(t.Context()))
	require.NoError(t, w.Close())
	same(t, content, c.get("/f"))
}
