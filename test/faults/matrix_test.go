package faults

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/test/simdisk"
)

// slowBytes is what a slow node moves per second.
const slowBytes = 1 << 20

// kind is a fault of a node.
type kind struct {
	name string
	// strike makes the fault; nil: the connection breaks in the middle of the
	// packet, and the node is well.
	strike func(*node)
	// steps it makes sense at; empty: all.
	steps []string
}

func kinds() []kind {
	full := func(n *node) { n.fail(simdisk.OpWrite, simdisk.OpPreallocate, simdisk.OpOpen)(syscall.ENOSPC) }
	disk := []string{"setup", "first-packet", "middle", "sync", "before-seal", "roll-over", "between-flushes",
		"last-packet", "namenode-restart"}
	return []kind{
		{name: "kill", strike: (*node).kill},
		{name: "pause", strike: (*node).pause},
		{name: "torn-packet", steps: []string{"setup", "setup-ack", "first-packet", "middle", "sync", "before-seal",
			"after-seal", "roll-over", "last-packet"}},
		{name: "slow", strike: func(n *node) { n.data.throttle(slowBytes) }, steps: []string{"setup", "middle"}},
		{name: "disk-full", strike: full, steps: disk},
		{name: "write-error", strike: func(n *node) { n.fail(simdisk.OpWrite)(syscall.EIO) }, steps: disk},
		{name: "sync-error", strike: func(n *node) {
			n.fail(simdisk.OpDatasync)(syscall.EIO)
		}, steps: []string{"setup", "sync", "before-seal", "last-packet"}},
		{name: "rename-error", strike: func(n *node) {
			n.fail(simdisk.OpRename)(syscall.EIO)
		}, steps: []string{"setup", "before-seal", "last-packet"}},
	}
}

// positions by the number of hops behind them.
var positions = []struct {
	name  string
	after int
}{{"head", 2}, {"middle", 1}, {"tail", 0}}

// The writer of the matrix writes this long a file, three chunks:
//
//	100,000 flush, 180,000 sync, 400,000 flush ∙ 600,000 close
//
// with a packet of 64 KiB at most, so that chunk 0 takes packets 1…6, packet 4
// with the sync and 6 with the seal. At ∙ the writer is idle.
const fileBytes = 600_000

// step is a moment of the protocol.
type step struct {
	name string
	// at reports whether a packet is the one; place is that of its chunk. nil: the
	// writer is idle.
	at func(e event, place int) bool
	// restart: the namenode is away meanwhile, and comes back.
	restart bool
}

func steps() []step {
	return []step{
		{name: "setup", at: func(e event, place int) bool { return e.kind == eventOpen && place == 0 }},
		{name: "setup-ack", at: func(e event, place int) bool { return e.kind == eventOpenAck && place == 0 }},
		{name: "first-packet", at: func(e event, place int) bool {
			return e.kind == eventData && place == 0 && e.seqno == 1
		}},
		{name: "middle", at: func(e event, place int) bool {
			return e.kind == eventData && place == 0 && e.seqno == 3
		}},
		{name: "sync", at: func(e event, place int) bool {
			return e.kind == eventData && place == 0 && e.flags&wire.FlagSync != 0
		}},
		{name: "before-seal", at: func(e event, place int) bool {
			return e.kind == eventData && place == 0 && e.flags&wire.FlagSeal != 0
		}},
		{name: "after-seal", at: func(e event, place int) bool {
			return e.kind == eventAck && place == 0 && e.flags&wire.FlagSeal != 0
		}},
		{name: "roll-over", at: func(e event, place int) bool { return e.kind == eventOpen && place == 1 }},
		{name: "between-flushes"},
		{name: "namenode-restart", restart: true},
		{name: "last-packet", at: func(e event, place int) bool {
			return e.kind == eventData && place == 2 && e.flags&wire.FlagSeal != 0
		}},
	}
}

// TestMatrix: one node of a pipeline fails at one step; the writer goes on.
func TestMatrix(t *testing.T) {
	count := 0
	for i, breakage := range kinds() {
		for j, position := range positions {
			for l, stage := range steps() {
				if len(breakage.steps) > 0 && !slices.Contains(breakage.steps, stage.name) || testing.Short() &&
					(i+l)%(2*len(positions)) != j {
					continue
				}
				count++
				t.Run(fmt.Sprintf("%s/%s/%s", breakage.name, position.name, stage.name), func(t *testing.T) {
					t.Parallel()
					attempt(t, func(slower int) bool {
						return runCase(t, breakage, position.after, stage, slower)
					})
				})
			}
		}
	}
	t.Logf("%d combinations", count)
}

// attempt tries a combination a few times: a machine that is too busy for the time limits breaks the pipeline before
// the step comes, or a second node of it. Each attempt has longer ones.
func attempt(t *testing.T, run func(slower int) (done bool)) {
	t.Helper()
	for slower := 1; slower <= 16; slower *= 4 {
		if run(slower) {
			return
		}
	}
	t.Error("the step never came")
}

// runCase reports false if the step never came, or the machine was too busy.
func runCase(t *testing.T, breakage kind, after int, stage step, slower int) bool {
	system := startSlower(t, nil, slower)
	var struck atomic.Pointer[node]
	strike := func(n *node) (cut bool) {
		if !struck.CompareAndSwap(nil, n) {
			return false
		}
		system.logger.Info("STRIKE", "node", n.name, "id", n.id(), "fault", breakage.name)
		if breakage.strike == nil {
			return true
		}
		breakage.strike(n)
		return false
	}
	if stage.at != nil {
		system.watch(func(e event, place int) bool { return e.after == after && stage.at(e, place) && strike(e.node) })
	}
	cl := system.dial()
	writer := newScript(system, cl, "/file", fileBytes)
	began := time.Now()
	var restarted sync.WaitGroup
	writer.write(100_000)
	writer.flush()
	writer.write(180_000)
	writer.sync()
	writer.write(400_000)
	writer.flush()
	if stage.restart {
		system.stopNamenode()
		restarted.Go(system.startNamenode)
	}
	if stage.at == nil {
		strike(system.member(after))
	}
	writer.write(fileBytes)
	writer.close()
	restarted.Wait()
	took := time.Since(began)
	n := struck.Load()
	if system.outpaced(writer.err) {
		return system.giveUp(cl, n)
	}
	require.NoError(t, writer.err, "the writer must finish: one node of four failed")
	if n == nil {
		system.hangUp(cl)
		return false
	}
	system.logger.Info("WRITTEN", "took", took)
	require.Less(t, took, system.slowed(30*time.Second))
	require.NoError(t, system.checkReadable("/file", writer.content, writer.acked), "while the fault lasts")
	n.heal()
	system.waitLive(nodeCount)
	// Replicas may be moved between the look at the namenode and the one at the
	// nodes; wrong bytes fail at once.
	system.eventually("after the node came back", func() error {
		return system.checkReplicas(cl, "/file", writer.content)
	})
	system.eventually("the cluster settles", func() error { return system.checkSettled(cl, "/file", writer.content) })
	require.NoError(t, system.checkDeletions())
	require.NoError(t, system.checkReadable("/file", writer.content, writer.acked), "at the end")
	system.hangUp(cl)
	t.Logf("written in %v, settled after %v", took.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	return true
}

// script writes a file and keeps account of what was acknowledged. After an
// error it does nothing more.
type script struct {
	c       *cluster
	writer  *client.FileWriter
	content []byte
	written int
	acked   int
	err     error
}

func newScript(system *cluster, cl *client.Client, path string, size int) *script {
	writer := &script{c: system, content: pattern(uint64(time.Now().UnixNano()), size)}
	writer.writer, writer.err = cl.Create(context.Background(), path,
		client.CreateOptions{Replication: replication, ChunkSize: chunkSize})
	return writer
}

func (w *script) do(f func() error) {
	if w.err == nil {
		w.err = f()
	}
}

// write goes on up to an offset.
func (w *script) write(to int) {
	w.do(func() error {
		n, err := w.writer.Write(w.content[w.written:to])
		w.written += n
		return err
	})
}

func (w *script) flush() { w.acknowledge(func() error { return w.writer.Flush(context.Background()) }) }
func (w *script) sync()  { w.acknowledge(func() error { return w.writer.Sync(context.Background()) }) }
func (w *script) close() { w.acknowledge(w.writer.Close) }

func (w *script) acknowledge(f func() error) {
	w.do(func() error {
		err := f()
		if err == nil {
			w.acked = w.written
		}
		return err
	})
}
