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
	system := startCluster(t, nil)
	cl := system.dial()
	writer := newScript(system, cl, "/log", 12*chunkSize+777)
	for to := 0; to < len(writer.content) && writer.err == nil; {
		restart := to == 2*chunkSize || to == 5*chunkSize || to == 8*chunkSize
		to = min(to+chunkSize/2, len(writer.content))
		writer.write(to)
		writer.flush()
		require.NoError(t, writer.err)
		if restart {
			system.stopNamenode()
			require.NoError(t, writer.err)
			system.startNamenode()
		}
	}
	writer.close()
	require.NoError(t, writer.err)
	require.NoError(t, system.checkReadable("/log", writer.content, writer.acked))
	system.waitLive(nodeCount)
	system.eventually("the cluster settles", func() error { return system.checkSettled(cl, "/log", writer.content) })
	require.NoError(t, system.checkDeletions())
	system.hangUp(cl)
}

// TestTooFewNodes: all nodes of the pipeline die and stay away. The writer gets
// one error that names them; when they are back, what was acknowledged is there.
func TestTooFewNodes(t *testing.T) {
	for _, breakage := range kinds()[:2] { // kill, pause
		t.Run(breakage.name, func(t *testing.T) {
			t.Parallel()
			system := startCluster(t, nil)
			cl := system.dial()
			writer := newScript(system, cl, "/file", fileBytes)
			writer.write(100_000)
			writer.flush()
			writer.write(180_000)
			writer.sync()
			require.NoError(t, writer.err)
			var gone []*node
			for _, p := range positions {
				gone = append(gone, system.member(p.after))
			}
			for _, n := range gone {
				breakage.strike(n)
			}
			writer.write(200_000)
			writer.flush()
			require.Error(t, writer.err)
			require.NotZero(t, fault.KindOf(writer.err), "%v", writer.err)
			require.Equal(t, 180_000, writer.acked)
			named := 0
			for _, n := range gone {
				if strings.Contains(writer.err.Error(), n.id()) {
					named++
				}
			}
			require.NotZero(t, named, "the error names no node: %v", writer.err)
			require.Contains(t, writer.err.Error(), "/file")
			t.Log(writer.err)
			again := writer.writer.Flush(context.Background())
			require.Equal(t, writer.err.Error(), again.Error(), "one error")
			require.Error(t, writer.writer.Close())
			for _, n := range gone {
				n.heal()
			}
			system.waitLive(nodeCount)
			system.eventually("acknowledged bytes are readable", func() error {
				return system.checkReadable("/file", writer.content, writer.acked)
			})
			system.hangUp(cl)
		})
	}
}

// TestReopenedFile: a node fails while a closed file is opened for append in the
// middle of a block.
func TestReopenedFile(t *testing.T) {
	for _, breakage := range kinds()[:2] { // kill, pause
		for _, p := range positions {
			for _, when := range []eventKind{eventOpen, eventOpenAck, eventData, eventAck} {
				if testing.Short() && when != eventOpen {
					continue
				}
				t.Run(breakage.name+"/"+p.name+"/"+
					[]string{"", "setup", "setup-ack", "first-packet", "first-ack"}[when], func(t *testing.T) {
					t.Parallel()
					attempt(t, func(slower int) bool {
						return runReopened(t, breakage, p.after, when, slower)
					})
				})
			}
		}
	}
}

// runReopened reports false if the step never came, or the machine was too busy.
func runReopened(t *testing.T, breakage kind, after int, when eventKind, slower int) bool {
	system := startSlower(t, nil, slower)
	cl := system.dial()
	writer := newScript(system, cl, "/file", fileBytes)
	writer.write(100_000)
	writer.close()
	if system.outpaced(writer.err) {
		return system.giveUp(cl, nil)
	}
	require.NoError(t, writer.err)
	var struck atomic.Pointer[node]
	system.watch(func(e event, _ int) bool {
		if e.kind == when && e.after == after && e.mode == wire.ModeAppend && struck.CompareAndSwap(nil, e.node) {
			breakage.strike(e.node)
		}
		return false
	})
	writer.writer, writer.err = cl.Append(context.Background(), "/file", client.AppendOptions{})
	writer.write(150_000)
	writer.flush()
	writer.write(fileBytes)
	writer.close()
	n := struck.Load()
	readErr := system.checkReadable("/file", writer.content, writer.acked)
	if system.outpaced(writer.err) || system.outpaced(readErr) {
		return system.giveUp(cl, n)
	}
	require.NoError(t, writer.err)
	require.NoError(t, readErr)
	if n == nil {
		system.hangUp(cl)
		return false
	}
	n.heal()
	system.waitLive(nodeCount)
	system.eventually("the cluster settles", func() error { return system.checkSettled(cl, "/file", writer.content) })
	require.NoError(t, system.checkDeletions())
	system.hangUp(cl)
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
	system := startCluster(t, func(n *node, fs vfs.FS) vfs.FS {
		if n.name == "dn1" || n.name == "dn2" { // every pipeline has one of them
			return lyingDisk{fs, &lies}
		}
		return fs
	})
	cl := system.dial()
	writer := newScript(system, cl, "/file", fileBytes)
	writer.write(fileBytes)
	writer.close()
	require.NoError(t, writer.err)
	require.Negative(t, lies.Load()+1, "the disk had no occasion to lie")
	err := system.checkReplicas(cl, "/file", writer.content)
	require.Error(t, err, "the checker found nothing")
	t.Log(err)
	system.hangUp(cl)
}
