package client_test

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
)

// copies counts the copies that datanodes were asked for.
func copies(c *cluster) (count int) {
	for _, d := range c.nodes {
		d.set(func() { count += d.copies })
	}
	return count
}

func TestCopyInsideTheCluster(t *testing.T) {
	for _, size := range []int{0, 1, blockBytes, 5*blockBytes + 77} {
		c := newCluster(t, 4)
		content := pattern(9, size)
		c.put("/a", content, client.CreateOptions{ChunkSize: 2 * blockBytes, Replication: 3})
		var moved atomic.Int64
		info, err := c.Copy(t.Context(), "/a", "/b", client.CopyOptions{Progress: func(n int64) { moved.Add(n) }})
		require.NoError(t, err)
		require.Equal(t, int64(size), info.Length)
		require.Equal(t, int64(size), moved.Load())
		same(t, content, c.get("/b"))
		c.everywhere("/b", content)
		require.Equal(t, (size+2*blockBytes-1)/(2*blockBytes)*3, copies(c), "every replica was pulled by a datanode")
		_, err = c.Copy(t.Context(), "/a", "/b", client.CopyOptions{})
		require.ErrorIs(t, err, fault.Exists)
		_, err = c.Copy(t.Context(), "/a", "/a", client.CopyOptions{})
		require.ErrorIs(t, err, fault.Invalid)
		_, err = c.Copy(t.Context(), "/no", "/c", client.CopyOptions{})
		require.ErrorIs(t, err, fault.NotFound)
	}
}

// TestCopyThatIsRefusedGoesThroughTheClient: whatever the datanodes do with the order, the copy is whole.
func TestCopyThatIsRefusedGoesThroughTheClient(t *testing.T) {
	for what, injected := range map[string]error{"an old datanode": errDrop, "a full one": fault.New(fault.NoSpace,
		"copy", "full"), "a bad request": fault.New(fault.Invalid, "copy", "no"),
		"a busy one": fault.New(fault.Busy, "copy", "many copies")} {
		for _, all := range []bool{false, true} {
			c := newCluster(t, 4)
			content := pattern(10, 5*blockBytes+1)
			c.put("/a", content, client.CreateOptions{ChunkSize: 2 * blockBytes, Replication: 3})
			for i, d := range c.nodes {
				d.set(func() {
					d.hook = func(s step) error {
						if s.op == wire.OpCopy && (all || i == 1) {
							return injected
						}
						return nil
					}
				})
			}
			var moved atomic.Int64
			_, err := c.Copy(t.Context(), "/a", "/b", client.CopyOptions{Progress: func(n int64) { moved.Add(n) }})
			require.NoError(t, err, what)
			require.Equal(t, int64(len(content)), moved.Load(), what)
			same(t, content, c.get("/b"))
			c.everywhere("/b", content)
		}
	}
	t.Run("another chunk size", func(t *testing.T) {
		c := newCluster(t, 3)
		content := pattern(10, 5*blockBytes+1)
		c.put("/a", content, client.CreateOptions{ChunkSize: 2 * blockBytes})
		_, err := c.Copy(t.Context(), "/a", "/b",
			client.CopyOptions{CreateOptions: client.CreateOptions{ChunkSize: blockBytes}})
		require.NoError(t, err)
		same(t, content, c.get("/b"))
		require.Zero(t, copies(c))
	})
}

// TestCopyAsksForTheRoomItNeeds: a node fails, and the others have room for the bytes of the chunk, or for none. The
// copy goes elsewhere, or stays with fewer.
func TestCopyAsksForTheRoomItNeeds(t *testing.T) {
	for room, replicas := range map[int64]int{blockBytes: 3, 1: 2} {
		c := newCluster(t, 4)
		c.namenode.set(func() { c.namenode.copiesMin, c.namenode.room = 2, room })
		content := pattern(11, blockBytes/2)
		c.put("/a", content, client.CreateOptions{ChunkSize: 8 * blockBytes, Replication: 3})
		c.nodes[1].set(func() {
			c.nodes[1].hook = func(s step) error {
				if s.op == wire.OpCopy {
					return fault.New(fault.Disk, "copy", "input/output error")
				}
				return nil
			}
		})
		_, err := c.Copy(t.Context(), "/a", "/b", client.CopyOptions{})
		require.NoError(t, err)
		c.everywhere("/b", content)
		require.GreaterOrEqual(t, copies(c), 3, "the bytes went through the client")
		chunks, err := c.Locate(t.Context(), "/b", 0, 0)
		require.NoError(t, err)
		require.Len(t, chunks[0].Replicas, replicas)
	}
}

func TestCopyCanBeCancelled(t *testing.T) {
	c := newCluster(t, 3)
	c.put("/a", pattern(1, 3*blockBytes), client.CreateOptions{ChunkSize: blockBytes})
	for _, d := range c.nodes {
		d.set(func() {
			d.hook = func(s step) error {
				if s.op == wire.OpCopy {
					return errStall
				}
				return nil
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := c.Copy(ctx, "/a", "/b", client.CopyOptions{})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = c.Stat(t.Context(), "/b")
	require.ErrorIs(t, err, fault.NotFound)
	require.Zero(t, client.OpenConnections(c.Client))
}

func TestHedgedReads(t *testing.T) {
	c := newCluster(t, 3, func(o *client.Options) { o.HedgeAfter = 5 * time.Millisecond; o.ReadaheadBytes = -1 })
	content := pattern(3, 2*blockBytes+500)
	c.put("/f", content, client.CreateOptions{ChunkSize: 4 * blockBytes, Replication: 3})
	c.namenode.set(func() { c.namenode.readOrder = []string{"dn0", "dn1", "dn2"} })
	// A node that fails is read last for a while: the one that hangs comes first.
	for _, node := range []struct {
		what     string
		injected error
	}{{"hangs", errStall}, {"is well", nil}, {"drops", errDrop}, {"rots", errRot}} {
		what, injected := node.what, node.injected
		c.nodes[0].set(func() {
			c.nodes[0].hook = func(s step) error {
				if s.op == wire.OpOpenRead {
					return injected
				}
				return nil
			}
		})
		r, err := c.Open(t.Context(), "/f")
		require.NoError(t, err)
		p := make([]byte, 100_000)
		for offset := 0; offset+len(p) <= len(content); offset += 7777 {
			began := time.Now()
			n, err := r.ReadAt(p, int64(offset))
			require.NoError(t, err, what)
			// 1 s
			require.Less(t, time.Since(began), 900*time.Millisecond, "a hanging node holds up a third of DataTimeout")
			same(t, content[offset:offset+n], p[:n])
		}
		require.NoError(t, r.Close())
		require.Positive(t, client.Hedged(c.Client), what)
	}
	require.Zero(t, client.OpenConnections(c.Client))
}

func TestBandwidth(t *testing.T) {
	c := newCluster(t, 3)
	content := pattern(3, 3<<20)
	require.ErrorIs(t, c.SetBandwidth(1), fault.Invalid)
	require.NoError(t, c.SetBandwidth(8<<20)) // the first MiB passes at once
	began := time.Now()
	c.put("/f", content, client.CreateOptions{ChunkSize: 16 * blockBytes})
	require.Greater(t, time.Since(began), 200*time.Millisecond)
	began = time.Now()
	target := &memory{}
	_, err := c.Fetch(t.Context(), "/f", target, client.FetchOptions{})
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, target.content))
	require.Greater(t, time.Since(began), 200*time.Millisecond)
	require.NoError(t, c.SetBandwidth(client.BandwidthLeast))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = c.Fetch(ctx, "/f", &memory{}, client.FetchOptions{})
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// TestCancelAtManyMoments ends copies, hedged reads and recoveries with copies at many moments: no buffer, connection
// or half file is left, and no byte is another's.
func TestCancelAtManyMoments(t *testing.T) {
	c := newCluster(t, 4, func(o *client.Options) { o.HedgeAfter = time.Microsecond })
	content := pattern(12, 9*blockBytes+5)
	c.put("/a", content, client.CreateOptions{ChunkSize: 2 * blockBytes, Replication: 3})
	for i := range 60 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*i)*4*time.Microsecond)
		_, err := c.Copy(ctx, "/a", "/b", client.CopyOptions{CreateOptions: client.CreateOptions{Overwrite: true}})
		if err != nil {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		cancel()
		require.Zero(t, client.OpenConnections(c.Client))
		require.Zero(t, client.OutstandingBuffers(c.Client))
		ctx, cancel = context.WithTimeout(t.Context(), time.Duration(i*i)*4*time.Microsecond)
		target := &memory{}
		if _, err := c.Fetch(ctx, "/a", target, client.FetchOptions{}); err != nil {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		} else {
			same(t, content, target.content)
		}
		cancel()
		require.Zero(t, client.OutstandingBuffers(c.Client))
	}
	for i := range 30 {
		w, err := c.Create(t.Context(), "/w", client.CreateOptions{ChunkSize: 16 * blockBytes, Replication: 3,
			Overwrite: true})
		require.NoError(t, err)
		_, err = w.Write(content[:blockBytes+9])
		require.NoError(t, err)
		require.NoError(t, w.Flush(t.Context()))
		chunks, err := c.Locate(t.Context(), "/w", 0, 0)
		require.NoError(t, err)
		for _, d := range c.nodes {
			if d.id == chunks[0].Replicas[1].NodeID {
				hook, _ := once(func(s step) bool { return s.op == wire.OpData },
					fault.New(fault.NoSpace, "write", "full"))
				d.set(func() { d.hook = hook })
			}
		}
		_, err = w.Write(content[blockBytes+9:])
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*i)*20*time.Microsecond)
		if err := w.Flush(ctx); err != nil {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		cancel()
		require.NoError(t, w.Close())
		same(t, content, c.get("/w"))
		c.everywhere("/w", content)
	}
}
