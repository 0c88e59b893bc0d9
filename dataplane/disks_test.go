package dataplane

import (
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/test/simdisk"
)

func TestAStoreWithoutRealFilesIsServedByCopying(t *testing.T) {
	n := startNodeOn(t, "memory", simdisk.NewMem(), Limits{})
	for _, size := range []int{0, 1, 65_536, 256 << 10, 256<<10 + 1, 1 << 20} {
		content := pattern(newChunkID(), size)
		id := storeChunk(t, []*testNode{n}, content)
		requireContent(t, []*testNode{n}, id, content)
	}
	require.Zero(t, n.server.Stats().BytesSendfile)
}

func TestADiskThatFailsIsNamedAtEveryHop(t *testing.T) {
	for at := range 3 {
		for _, op := range []simdisk.Op{simdisk.OpOpen, simdisk.OpWrite, simdisk.OpDatasync, simdisk.OpRename} {
			t.Run(fmt.Sprintf("hop %d %s", at, op), func(t *testing.T) {
				var nodes []*testNode
				var faulty []*simdisk.Faulty
				for i := range 3 {
					faulty = append(faulty, simdisk.NewFaulty(simdisk.NewMem()))
					nodes = append(nodes, startNodeOn(t, fmt.Sprintf("node-%d", i), faulty[i], Limits{}))
				}
				id := newChunkID()
				p := dial(t, nodes[0].server.Addr())
				broken := func(statuses []wire.HopStatus) {
					require.Equal(t, at, wire.FirstBad(statuses), "%+v", statuses)
					require.Equal(t, nodes[at].id, statuses[at].NodeID)
					requireKind(t, fault.Disk, statuses[at].Code, statuses[at].Reason)
				}
				inject := func() { faulty[at].Inject(simdisk.Rule{Op: op, Path: id.String() + "*", Err: syscall.EIO}) }
				if op == simdisk.OpOpen {
					inject()
					p.sendOpen(openWrite(id, hops(nodes[1:])))
					broken(p.expectOpenAck().Hops)
				} else {
					p.open(openWrite(id, hops(nodes[1:])))
					require.NoError(t, p.data(pattern(id, 100_000), wire.FlagSync))
					p.waitAcked(1)
					inject()
					require.NoError(t, p.data([]byte("more"), wire.FlagSeal))
					a := p.waitBroken()
					broken(a.Hops)
					require.EqualValues(t, 1, a.Seqno)
					require.EqualValues(t, 100_000, a.Length)
				}
				p.expectEnd()
				for _, n := range nodes {
					eventually(t, "sessions end", func() bool { return n.server.Load().ActiveWrites == 0 })
				}
			})
		}
	}
}

func TestAFullDiskIsNamed(t *testing.T) {
	memory := simdisk.NewMem()
	nodes := []*testNode{startNode(t, "a", Limits{}), startNodeOn(t, "b", memory, Limits{})}
	id := newChunkID()
	p := dial(t, nodes[0].server.Addr())
	p.open(openWrite(id, hops(nodes[1:])))
	require.NoError(t, p.data(pattern(id, 100_000), 0))
	p.waitAcked(1)
	memory.SetCapacity(1)
	require.NoError(t, p.data(pattern(id, 100_000), 0))
	a := p.waitBroken()
	require.Equal(t, 1, wire.FirstBad(a.Hops))
	requireKind(t, fault.NoSpace, a.Hops[1].Code, a.Hops[1].Reason)
	// What was acked stays readable.
	r, _ := dial(t, nodes[1].server.Addr()).read(id, 0, -1)
	require.EqualValues(t, 100_000, r.ReplicaLength)
}

// A disk that hangs holds its buffers, and the session's window, until it lets
// go of them; the writer is told who hangs long before.
func TestADiskThatHangsIsNamedAndKeepsItsBuffers(t *testing.T) {
	faulty := simdisk.NewFaulty(simdisk.NewMem())
	limits := Limits{StepTimeout: 400 * time.Millisecond, StepSlack: 600 * time.Millisecond,
		TickInterval: 10 * time.Millisecond}
	nodes := []*testNode{startNodeOn(t, "a", simdisk.NewMem(), limits), startNodeOn(t, "b", faulty, limits)}
	id := newChunkID()
	p := dial(t, nodes[0].server.Addr())
	p.open(openWrite(id, hops(nodes[1:])))
	hold := make(chan struct{})
	remove := faulty.Inject(simdisk.Rule{Op: simdisk.OpWrite, Path: id.String() + "*", Before: func() { <-hold }})
	require.NoError(t, p.data(pattern(id, 100_000), 0))
	require.NoError(t, p.data(pattern(id, 100_000), 0))
	a := p.waitBroken()
	require.Equal(t, 1, wire.FirstBad(a.Hops), "%+v", a.Hops)
	requireKind(t, fault.Disk, a.Hops[1].Code, a.Hops[1].Reason)
	p.expectEnd()
	require.EqualValues(t, 2, nodes[1].server.Stats().Buffers)
	require.NotZero(t, nodes[1].server.Load().GrantedWindowBytes)
	remove()
	close(hold)
	eventually(t, "it lets go", func() bool {
		return nodes[1].server.Stats().Buffers == 0 && nodes[1].server.Load().GrantedWindowBytes == 0
	})
}

// Writers whose pipeline does not move cannot make a node hold more than its
// budget, however many there are and however hard they push.
func TestStalledPipelinesStayWithinTheBudget(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var all sync.WaitGroup
	release := make(chan struct{})
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { // opens, and then never reads again
				defer conn.Close()
				_ = conn.(*net.TCPConn).SetReadBuffer(4096)
				_, _, _ = wire.NewPacketReader(io.LimitReader(conn, 512), 0).Next()
				packet, _ := wire.AppendPacket(nil, wire.Header{Op: wire.OpOpenAck},
					&wire.OpenAck{WindowBytes: 8 << 20, Hops: []wire.HopStatus{{NodeID: "stuck"}}})
				_, _ = conn.Write(packet)
				<-release
			})
		}
	})
	t.Cleanup(func() { close(release); _ = l.Close(); all.Wait() })

	const budget = 16 << 20
	n := startNode(t, "a", Limits{WindowBudgetBytes: budget, WindowBytes: 2 << 20})
	var busy, opened int
	payload := make([]byte, 256<<10)
	for range 100 {
		p := dial(t, n.server.Addr())
		p.sendOpen(openWrite(newChunkID(), []wire.Hop{{NodeID: "stuck", Address: l.Addr().String()}}))
		ack := p.expectOpenAck()
		if wire.FirstBad(ack.Hops) >= 0 {
			requireKind(t, fault.Busy, ack.Hops[0].Code, ack.Hops[0].Reason)
			busy++
			continue
		}
		opened++
		for sent := int64(len(payload)); sent <= ack.WindowBytes; sent += int64(len(payload)) {
			require.NoError(t, p.data(payload, 0))
		}
	}
	require.NotZero(t, busy)
	require.Greater(t, opened, 20)
	eventually(t, "everything has arrived", func() bool { return n.server.Stats().BytesReceived >= budget })
	require.LessOrEqual(t, n.server.node.Buffers.OutstandingBytes(), int64(budget+budget/wire.WindowCostMin*64))
	require.LessOrEqual(t, n.server.Load().GrantedWindowBytes, int64(budget))
}

// A queue that is full for a while delays a writer and does not fail it.
func TestAFullDiskQueueDelaysAWriter(t *testing.T) {
	faulty := simdisk.NewFaulty(simdisk.NewMem())
	n := startNodeOn(t, "a", faulty, Limits{TickInterval: 5 * time.Millisecond})
	id := newChunkID()
	p := dial(t, n.server.Addr())
	p.open(openWrite(id, nil))
	hold, held := make(chan struct{}), make(chan struct{})
	require.NoError(t, n.store.Do(id, func() { close(held); <-hold }))
	<-held
	for n.store.Do(id, func() {}) == nil { // until the worker's queue is full
	}
	content := pattern(id, 50_000)
	require.NoError(t, p.data(content, wire.FlagSeal))
	eventually(t, "the packet has come", func() bool { return n.server.Stats().BytesReceived == 50_000 })
	close(hold)
	p.waitAcked(1)
	requireContent(t, []*testNode{n}, id, content)
	r, err := n.store.Stat(id)
	require.NoError(t, err)
	require.Equal(t, chunk.Sealed, r.State)
}
