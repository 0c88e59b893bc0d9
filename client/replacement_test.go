package client_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
)

// TestALostHopIsReplacedByACopy breaks a hop after bytes were acknowledged: the chunk ends on as many nodes as before,
// if the copy works.
func TestALostHopIsReplacedByACopy(t *testing.T) {
	copyFaults := map[string]error{"works": nil, "is refused": fault.New(fault.NoSpace, "copy", "the disk is full"),
		"drops": errDrop, "hangs": errStall, "dies after the copy": errAfter}
	for where, match := range pipelineSteps {
		for what, injected := range copyFaults {
			for hop := range 3 {
				if testing.Short() && hop > 0 {
					continue
				}
				t.Run(fmt.Sprintf("%s, hop %d, the copy %s", where, hop, what), func(t *testing.T) {
					t.Parallel()
					c := newCluster(t, 4, func(o *client.Options) { o.DataTimeout = 2 * time.Second })
					content := pattern(5, 7*blockBytes+99)
					w, err := c.Create(t.Context(), "/f", client.CreateOptions{ChunkSize: 8 * blockBytes,
						Replication: 3})
					require.NoError(t, err)
					_, err = w.Write(content[:blockBytes+5])
					require.NoError(t, err)
					require.NoError(t, w.Flush(t.Context()))
					victim, spare := c.nodes[hop], c.nodes[3]
					hook, hit := once(match, errDrop)
					victim.set(func() { victim.hook = hook })
					spare.set(func() {
						spare.hook = func(s step) error {
							if s.op == wire.OpCopy {
								return injected
							}
							return nil
						}
					})
					if where == "open" { // too late for this chunk
						victim.stop()
						c.namenode.set(func() { c.namenode.down[victim.id] = true })
						hit.Store(true)
					}
					_, err = w.Write(content[blockBytes+5 : 4*blockBytes])
					require.NoError(t, err)
					require.NoError(t, w.Sync(t.Context()))
					_, err = w.Write(content[4*blockBytes:])
					require.NoError(t, err)
					require.NoError(t, w.Close())
					same(t, content, c.get("/f"))
					c.everywhere("/f", content)
					chunks, err := c.Locate(t.Context(), "/f", 0, 0)
					require.NoError(t, err)
					if where == "first packet" {
						return // that one was before the fault was set
					}
					require.True(t, hit.Load())
					switch {
					case where == "seal" && hop > 0: // the nodes before it may have sealed
						require.GreaterOrEqual(t, len(chunks[0].Replicas), hop)
					case what == "works":
						require.Len(t, chunks[0].Replicas, 3)
					case hop == 0 && where != "open": // the head's connection broke: nobody is known to be at fault
					default:
						require.Len(t, chunks[0].Replicas, 2)
					}
				})
			}
		}
	}
}

func TestFewerNodesThanRequiredIsAClearError(t *testing.T) {
	c := newCluster(t, 3, func(o *client.Options) { o.PipelineNodesLeast = 2 })
	w, err := c.Create(t.Context(), "/f", client.CreateOptions{ChunkSize: 8 * blockBytes, Replication: 3})
	require.NoError(t, err)
	content := pattern(1, 100_000)
	_, err = w.Write(content)
	require.NoError(t, err)
	require.NoError(t, w.Flush(t.Context()))
	for _, d := range c.nodes[1:] {
		d.stop()
		c.namenode.set(func() { c.namenode.down[d.id] = true })
	}
	_, err = w.Write([]byte("more"))
	require.NoError(t, err)
	err = w.Flush(t.Context())
	require.ErrorIs(t, err, fault.Unavailable)
	for _, d := range c.nodes[1:] {
		require.ErrorContains(t, err, d.id)
	}
	same(t, content, c.get("/f")[:len(content)])
	require.Error(t, w.Close())
}

// TestNothingIsAcknowledgedOnTooFewNodes: of three nodes two are away. A flush waits for one of them, within the
// client's time-out; then it fails, and says what is missing.
func TestNothingIsAcknowledgedOnTooFewNodes(t *testing.T) {
	for _, returns := range []bool{true, false} {
		t.Run(fmt.Sprintf("one returns: %v", returns), func(t *testing.T) {
			c := newCluster(t, 3)
			c.namenode.set(func() { c.namenode.copiesMin = 2 })
			w, err := c.Create(t.Context(), "/f", client.CreateOptions{ChunkSize: 8 * blockBytes, Replication: 3})
			require.NoError(t, err)
			content := pattern(1, 100_000)
			_, err = w.Write(content[:70_000])
			require.NoError(t, err)
			require.NoError(t, w.Flush(t.Context()))
			for _, d := range c.nodes[1:] {
				d.stop()
				c.namenode.set(func() { c.namenode.down[d.id] = true })
			}
			_, err = w.Write(content[70_000:])
			require.NoError(t, err)
			flushed := make(chan error, 1)
			go func() { flushed <- w.Flush(t.Context()) }()
			if !returns {
				err = <-flushed
				require.ErrorIs(t, err, fault.Unavailable)
				require.ErrorContains(t, err, "2 copies are needed")
				require.ErrorContains(t, err, "write_copies_min")
				for _, d := range c.nodes[1:] {
					require.ErrorContains(t, err, d.id)
				}
				require.Error(t, w.Close())
				same(t, content[:70_000], c.get("/f")[:70_000])
				return
			}
			select {
			case err := <-flushed:
				require.Fail(t, "acknowledged by one node", "%v", err)
			case <-time.After(300 * time.Millisecond):
			}
			back := c.nodes[1]
			back.listen(t, back.address)
			c.namenode.set(func() { c.namenode.down[back.id] = false })
			require.NoError(t, <-flushed)
			require.NoError(t, w.Close())
			c.everywhere("/f", content)
			chunks, err := c.Locate(t.Context(), "/f", 0, 0)
			require.NoError(t, err)
			require.Len(t, chunks[0].Replicas, 2)
		})
	}
}

// loseAMember begins a file, and stops a node of its pipeline; the first spare node fails to copy as it is told. Of the
// content one block is flushed.
func loseAMember(c *cluster, onCopy error) (w *client.FileWriter, content []byte) {
	c.t.Helper()
	content = pattern(5, 3*blockBytes)
	w, err := c.Create(c.t.Context(), "/f", client.CreateOptions{ChunkSize: 8 * blockBytes, Replication: 3})
	require.NoError(c.t, err)
	_, err = w.Write(content[:blockBytes])
	require.NoError(c.t, err)
	require.NoError(c.t, w.Flush(c.t.Context()))
	c.nodes[3].set(func() {
		c.nodes[3].hook = func(s step) error {
			if s.op == wire.OpCopy {
				return onCopy
			}
			return nil
		}
	})
	c.nodes[1].stop()
	return w, content
}

// TestAReplacementThatCannotCopyIsReplacedToo: of two spare nodes one is full.
func TestAReplacementThatCannotCopyIsReplacedToo(t *testing.T) {
	c := newCluster(t, 5)
	w, content := loseAMember(c, fault.New(fault.NoSpace, "copy", "the disk is full"))
	_, err := w.Write(content[blockBytes:])
	require.NoError(t, err)
	require.NoError(t, w.Close())
	c.everywhere("/f", content)
	chunks, err := c.Locate(t.Context(), "/f", 0, 0)
	require.NoError(t, err)
	require.Len(t, chunks[0].Replicas, 3)
}

// TestAReplacementThatIsLeftOutDoesNotCount: it has its copy, but the answer is lost. Then it must not be of the
// generation that goes on without it: a recovery would take it for one that has everything.
func TestAReplacementThatIsLeftOutDoesNotCount(t *testing.T) {
	c := newCluster(t, 4)
	w, content := loseAMember(c, errAfter)
	_, err := w.Write(content[blockBytes : 2*blockBytes])
	require.NoError(t, err)
	require.NoError(t, w.Flush(t.Context()))
	chunks, err := c.Locate(t.Context(), "/f", 0, 0)
	require.NoError(t, err)
	require.Len(t, chunks[0].Replicas, 2)
	left, some := c.nodes[3].replica(chunks[0].ID)
	require.True(t, some)
	require.Less(t, left.generation, uint64(chunks[0].Generation))
	c.nodes[3].set(func() { c.nodes[3].hook = nil })
	_, err = w.Write(content[2*blockBytes:])
	require.NoError(t, err)
	require.NoError(t, w.Close())
	c.everywhere("/f", content)
}

// TestAPipelineGrows: one of three nodes dies under a writer and comes back: the chunk is on three again, while the
// writer is idle, and while it writes.
func TestAPipelineGrows(t *testing.T) {
	for _, idle := range []bool{true, false} {
		t.Run(fmt.Sprintf("idle: %v", idle), func(t *testing.T) {
			c := newCluster(t, 3, func(o *client.Options) { o.LeaseRenewal = 20 * time.Millisecond })
			c.namenode.set(func() { c.namenode.copiesMin = 2 })
			w, err := c.Create(t.Context(), "/f", client.CreateOptions{ChunkSize: 64 * blockBytes, Replication: 3})
			require.NoError(t, err)
			content := pattern(1, 60*blockBytes)
			at := 0
			write := func() {
				_, err = w.Write(content[at : at+1000])
				require.NoError(t, err)
				require.NoError(t, w.Flush(t.Context()))
				at += 1000
			}
			write()
			lost := c.nodes[1]
			lost.stop()
			c.namenode.set(func() { c.namenode.down[lost.id] = true })
			write()
			lost.listen(t, lost.address)
			c.namenode.set(func() { c.namenode.down[lost.id] = false })
			require.Eventually(t, func() bool {
				if !idle {
					write()
				}
				chunks, err := c.Locate(t.Context(), "/f", 0, 0)
				return err == nil && len(chunks[0].Replicas) == 3
			}, 20*time.Second, 50*time.Millisecond)
			recoveries := c.namenode.count("UpdatePipeline")
			write()
			require.NoError(t, w.Close())
			require.Equal(t, recoveries, c.namenode.count("UpdatePipeline"))
			c.everywhere("/f", content[:at])
			chunks, err := c.Locate(t.Context(), "/f", 0, 0)
			require.NoError(t, err)
			require.Len(t, chunks[0].Replicas, 3)
		})
	}
}

// TestAHungDiskDoesNotHoldUpAPipelineThatGrows: the node that would join says that it lives, and copies nothing. The
// writer goes on with what it had, names the node, and does not ask it again at once.
func TestAHungDiskDoesNotHoldUpAPipelineThatGrows(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, func(o *client.Options) {
		o.LeaseRenewal, o.DataTimeout = 20*time.Millisecond, time.Minute
	})
	c.namenode.set(func() { c.namenode.copiesMin = 2; c.namenode.down[c.nodes[2].id] = true })
	hung := c.nodes[2]
	hung.set(func() {
		hung.hook = func(s step) error {
			if s.op == wire.OpCopy {
				return errAlive
			}
			return nil
		}
	})
	w, err := c.Create(t.Context(), "/f", client.CreateOptions{ChunkSize: 64 * blockBytes, Replication: 3})
	require.NoError(t, err)
	content := pattern(1, 60*blockBytes)
	at := 0
	write := func() {
		_, err = w.Write(content[at : at+1000])
		require.NoError(t, err)
		require.NoError(t, w.Flush(t.Context()))
		at += 1000
	}
	write()
	c.namenode.set(func() { clear(c.namenode.down) })
	require.Eventually(t, func() bool { return copies(c) == 1 }, 10*time.Second, time.Millisecond)
	began := time.Now()
	write()
	require.Less(t, time.Since(began), 20*time.Second, "the copy is waited for as long as the node lives")
	require.Len(t, w.SlowNodes(), 1)
	require.Equal(t, hung.id, w.SlowNodes()[0].NodeID)
	renewals := c.namenode.count("RenewLeases")
	require.Eventually(t, func() bool { write(); return c.namenode.count("RenewLeases") > renewals+3 }, 10*time.Second,
		20*time.Millisecond)
	require.Equal(t, 1, copies(c), "it is asked again at once")
	require.NoError(t, w.Close())
	c.everywhere("/f", content[:at])
	chunks, err := c.Locate(t.Context(), "/f", 0, 0)
	require.NoError(t, err)
	require.Len(t, chunks[0].Replicas, 2)
}

// TestWhatIsUnderWayDoesNotWaitForCopies: a flush that was begun before nodes join is acknowledged while they copy.
func TestWhatIsUnderWayDoesNotWaitForCopies(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, func(o *client.Options) { o.LeaseRenewal = 20 * time.Millisecond })
	c.namenode.set(func() { c.namenode.copiesMin = 2; c.namenode.down[c.nodes[2].id] = true })
	acks, copied := make(chan struct{}), make(chan struct{})
	release, finish := sync.OnceFunc(func() { close(acks) }), sync.OnceFunc(func() { close(copied) })
	defer release()
	defer finish()
	c.nodes[1].set(func() {
		c.nodes[1].hook = func(s step) error {
			if s.op == wire.OpData && s.offset > 0 {
				<-acks
			}
			return nil
		}
	})
	c.nodes[2].set(func() {
		c.nodes[2].hook = func(s step) error {
			if s.op == wire.OpCopy {
				<-copied
			}
			return nil
		}
	})
	w, err := c.Create(t.Context(), "/f", client.CreateOptions{ChunkSize: 8 * blockBytes, Replication: 3})
	require.NoError(t, err)
	content := pattern(1, 3000)
	_, err = w.Write(content[:1000])
	require.NoError(t, err)
	require.NoError(t, w.Flush(t.Context()))
	_, err = w.Write(content[1000:])
	require.NoError(t, err)
	pending, err := w.BeginFlush(t.Context())
	require.NoError(t, err)
	c.namenode.set(func() { clear(c.namenode.down) })
	require.Eventually(t, func() bool { return c.namenode.count("RecoverPipeline") > 0 }, 10*time.Second,
		time.Millisecond)
	release()
	require.NoError(t, pending.Wait(t.Context()))
	require.Zero(t, c.namenode.count("UpdatePipeline"), "the flush waited for the copies")
	finish()
	require.NoError(t, w.Close())
	c.everywhere("/f", content)
	chunks, err := c.Locate(t.Context(), "/f", 0, 0)
	require.NoError(t, err)
	require.Len(t, chunks[0].Replicas, 3)
}

// TestASlowNodeIsBetterThanAMissingCopy: of three nodes one is slow. A chunk that was placed before that was known goes
// elsewhere, but there is no other node.
func TestASlowNodeIsBetterThanAMissingCopy(t *testing.T) {
	for nodes, avoided := range map[int]bool{3: false, 4: true} {
		c := newCluster(t, nodes)
		c.namenode.set(func() { c.namenode.copiesMin = 2 })
		content := pattern(1, blockBytes)
		c.put("/first", content, client.CreateOptions{ChunkSize: 8 * blockBytes, Replication: 3})
		w, err := c.Create(t.Context(), "/f", client.CreateOptions{ChunkSize: 8 * blockBytes, Replication: 3})
		require.NoError(t, err)
		slow := c.nodes[1].id
		client.MarkSlow(c.Client, slow)
		_, err = w.Write(content)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		c.put("/stored", content, client.CreateOptions{ChunkSize: 8 * blockBytes, Replication: 3})
		_, err = c.Copy(t.Context(), "/first", "/copy", client.CopyOptions{})
		require.NoError(t, err)
		for _, path := range []string{"/f", "/stored", "/copy"} {
			c.everywhere(path, content)
			chunks, err := c.Locate(t.Context(), path, 0, 0)
			require.NoError(t, err)
			require.Len(t, chunks[0].Replicas, 3, path)
			if avoided {
				require.NotContains(t, chunks[0].Replicas, client.Replica{NodeID: slow, Address: c.nodes[1].address})
			}
		}
	}
}

// TestAnAppendAddsTheNodesThatAreMissing: the last chunk of a file is on two of three nodes.
func TestAnAppendAddsTheNodesThatAreMissing(t *testing.T) {
	for _, spare := range []int{0, 1} {
		c := newCluster(t, 2+spare)
		c.namenode.set(func() { c.namenode.copiesMin = 2 })
		if spare > 0 {
			c.namenode.set(func() { c.namenode.down[c.nodes[2].id] = true })
		}
		content := pattern(1, 5*blockBytes)
		c.put("/f", content[:blockBytes+7], client.CreateOptions{ChunkSize: 8 * blockBytes, Replication: 3})
		c.namenode.set(func() { clear(c.namenode.down) })
		untouched, err := c.Append(t.Context(), "/f", client.AppendOptions{})
		require.NoError(t, err)
		require.NoError(t, untouched.Close())
		require.Zero(t, c.namenode.count("RecoverPipeline"))
		w, err := c.Append(t.Context(), "/f", client.AppendOptions{})
		require.NoError(t, err)
		_, err = w.Write(content[blockBytes+7:])
		require.NoError(t, err)
		require.NoError(t, w.Close())
		same(t, content, c.get("/f"))
		c.everywhere("/f", content)
		chunks, err := c.Locate(t.Context(), "/f", 0, 0)
		require.NoError(t, err)
		require.Len(t, chunks[0].Replicas, 2+spare)
	}
}

func TestIdleSessionsAreKeptAlive(t *testing.T) {
	c := newCluster(t, 3, func(o *client.Options) { o.KeepAlive = 10 * time.Millisecond })
	w, err := c.Create(t.Context(), "/f", client.CreateOptions{ChunkSize: 8 * blockBytes, Replication: 3})
	require.NoError(t, err)
	_, err = w.Write([]byte("one "))
	require.NoError(t, err)
	require.NoError(t, w.Flush(t.Context()))
	kept := func() bool {
		keeps := 0
		for _, d := range c.nodes {
			d.set(func() { keeps += d.keeps })
		}
		return keeps >= 9
	}
	require.Eventually(t, kept, 5*time.Second, time.Millisecond)
	_, err = w.Write([]byte("two"))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.True(t, bytes.Equal([]byte("one two"), c.get("/f")))
	require.Zero(t, c.namenode.count("RecoverPipeline"))
}
