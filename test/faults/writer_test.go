package faults

import (
	"context"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// TestNamenodeRestartsUnderAWriter: the namenode goes and comes back several
// times while one writer goes on, over many chunk borders.
func TestNamenodeRestartsUnderAWriter(t *testing.T) {
	t.Parallel()
	c := startCluster(t, nil)
	cl := c.dial()
	w := newScript(c, cl, "/log", 12*chunkSize+777)
	for to := 0; to < len(w.content) && w.err == nil; {
		restart := to == 2*chunkSize || to == 5*chunkSize || to == 8*chunkSize
		to = min(to+chunkSize/2, len(w.content))
		w.write(to)
		w.flush()
		require.NoError(t, w.err)
		if restart {
			c.stopNamenode()
			require.NoError(t, w.err)
			c.startNamenode()
		}
	}
	w.close()
	require.NoError(t, w.err)
	require.NoError(t, c.checkReadable("/log", w.content, w.acked))
	c.waitLive(nodeCount)
	c.eventually("the cluster settles", func() error { return c.checkSettled(cl, "/log", w.content) })
	require.NoError(t, c.checkDeletions())
	c.hangUp(cl)
}

// TestTooFewNodes: all nodes of the pipeline die and stay away. The writer gets
// one error that names them; when they are back, what was acknowledged is there.
func TestTooFewNodes(t *testing.T) {
	for _, k := range kinds()[:2] { // kill, pause
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			c := startCluster(t, nil)
			cl := c.dial()
			w := newScript(c, cl, "/file", fileBytes)
			w.write(100_000)
			w.flush()
			w.write(180_000)
			w.sync()
			require.NoError(t, w.err)
			var gone []*node
			for _, p := range positions {
				gone = append(gone, c.member(p.after))
			}
			for _, n := range gone {
				k.strike(n)
			}
			w.write(200_000)
			w.flush()
			require.Error(t, w.err)
			require.NotZero(t, fault.KindOf(w.err), "%v", w.err)
			require.Equal(t, 180_000, w.acked)
			named := 0
			for _, n := range gone {
				if strings.Contains(w.err.Error(), n.id()) {
					named++
				}
			}
			require.NotZero(t, named, "the error names no node: %v", w.err)
			require.Contains(t, w.err.Error(), "/file")
			t.Log(w.err)
			again := w.writer.Flush(context.Background())
			require.Equal(t, w.err.Error(), again.Error(), "one error")
			require.Error(t, w.writer.Close())
			for _, n := range gone {
				n.heal()
			}
			c.waitLive(nodeCount)
			c.eventually("acknowledged bytes are readable", func() error { return c.checkReadable("/file", w.content, w.acked) })
			c.hangUp(cl)
		})
	}
}

// TestReopenedFile: a node fails while a closed file is opened for append in the
// middle of a block.
func TestReopenedFile(t *testing.T) {
	for _, k := range kinds()[:2] { // kill, pause
		for _, p := range positions {
			for _, when := range []eventKind{eventOpen, eventOpenAck, eventData, eventAck} {
				if testing.Short() && when != eventOpen {
					continue
				}
				t.Run(k.name+"/"+p.name+"/"+[]string{"", "setup", "setup-ack", "first-packet", "first-ack"}[when], func(t *testing.T) {
					t.Parallel()
					for range attempts {
						if runReopened(t, k, p.after, when) {
							return
						}
					}
					t.Error("the step never came")
				})
			}
		}
	}
}

// runReopened reports false if the step never came.
func runReopened(t *testing.T, k kind, after int, when eventKind) bool {
	c := startCluster(t, nil)
	cl := c.dial()
	w := newScript(c, cl, "/file", fileBytes)
	w.write(100_000)
	w.close()
	require.NoError(t, w.err)
	var struck atomic.Pointer[node]
	c.watch(func(e event, _ int) bool {
		if e.kind == when && e.after == after && e.mode == wire.ModeAppend && struck.CompareAndSwap(nil, e.node) {
			k.strike(e.node)
		}
		return false
	})
	w.writer, w.err = cl.Append(context.Background(), "/file", client.AppendOptions{})
	w.write(150_000)
	w.flush()
	w.write(fileBytes)
	w.close()
	require.NoError(t, w.err)
	require.NoError(t, c.checkReadable("/file", w.content, w.acked))
	n := struck.Load()
	if n == nil {
		c.hangUp(cl)
		return false
	}
	n.heal()
	c.waitLive(nodeCount)
	c.eventually("the cluster settles", func() error { return c.checkSettled(cl, "/file", w.content) })
	require.NoError(t, c.checkDeletions())
	c.hangUp(cl)
	return true
}

// lyingDisk says that it wrote one block of data, and did not.
type lyingDisk struct {
	vfs.FS
	lies *atomic.Int32 // lies left
}

func (d lyingDisk) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return lyingFile{f, d.lies}, nil
}

type lyingFile struct {
	vfs.File
	lies *atomic.Int32
}

func (f lyingFile) WriteAt(p []byte, offset int64) (int, error) {
	if len(p) == packetBytes && f.lies.Add(-1) >= 0 {
		return len(p), nil // only data is written in such pieces
	}
	return f.File.WriteAt(p, offset)
}

// TestCheckerFindsLostWrites: a node that acknowledges what it did not write is
// found by the checker. Without this the other tests would prove nothing.
func TestCheckerFindsLostWrites(t *testing.T) {
	t.Parallel()
	var lies atomic.Int32
	lies.Store(1)
	c := startCluster(t, func(n *node, fs vfs.FS) vfs.FS {
		if n.name == "dn1" || n.name == "dn2" { // every pipeline has one of them
			return lyingDisk{fs, &lies}
		}
		return fs
	})
	cl := c.dial()
	w := newScript(c, cl, "/file", fileBytes)
	w.write(fileBytes)
	w.close()
	require.NoError(t, w.err)
	require.Negative(t, lies.Load()+1, "the disk had no occasion to lie")
	err := c.checkReplicas(cl, "/file", w.content)
	require.Error(t, err, "the checker found nothing")
	t.Log(err)
	c.hangUp(cl)
}
