package dataplane

import (
	"net"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/invariants"
)

// 500 peers take what they can get and then do nothing more. The server's
// memory stays within its limits, others are served as ever, and all 500 are cut
// off when their time is over.
func TestStalledConnections(t *testing.T) {
	const (
		writers, idlers, readers, recorders = 150, 50, 150, 150
		stalled                             = writers + idlers + readers + recorders
		patience                            = 5 * time.Second
	)
	n := startNode(t, "a", Limits{ReceiveTimeout: patience, SendTimeout: patience, SessionIdleTimeout: patience})
	n.server.ServeRecords(&memorySink{})
	large := newChunkID()
	setup := dial(t, n.server.Addr())
	o := openWrite(large, nil)
	o.ChunkSize = 32 << 20
	setup.open(o)
	setup.write(make([]byte, 32<<20), 1<<20, wire.FlagSeal)
	require.NoError(t, setup.conn.Close())
	eventually(t, "a quiet server", func() bool { return n.server.Stats().Connections == 0 })
	before := memoryInUse()

	half := dataPacket(1, 0, 0, make([]byte, 256<<10))
	half = half[:len(half)/2]
	halfRecord, err := wire.AppendRecord(nil, 1, 0, make([]byte, 200<<10))
	require.NoError(t, err)
	halfRecord = halfRecord[:len(halfRecord)/2]
	began := time.Now()
	ended := make(chan struct{})
	var all sync.WaitGroup
	stall := func(count int, begin func(p *peer)) {
		for range count {
			conn, err := net.DialTimeout("tcp", n.server.Addr(), 10*time.Second)
			require.NoError(t, err)
			p := &peer{t: t, conn: conn, reader: wire.NewPacketReader(conn, 0)}
			begin(p)
			all.Go(func() { // it does not read: not even the reason
				<-ended
				_ = conn.Close()
			})
		}
	}
	stall(writers, func(p *peer) {
		o := openWrite(newChunkID(), nil)
		o.WindowBytes = 256 << 10
		p.open(o)
		_, err := p.conn.Write(half)
		require.NoError(t, err)
	})
	stall(idlers, func(p *peer) {
		o := openWrite(newChunkID(), nil)
		o.WindowBytes = 256 << 10
		p.open(o)
	})
	stall(readers, func(p *peer) {
		require.NoError(t, p.conn.(*net.TCPConn).SetReadBuffer(4<<10))
		p.send(wire.Header{Op: wire.OpOpenRead}, &wire.OpenRead{BodyVersion: 1, ChunkID: large[:], Length: -1})
	})
	stall(recorders, func(p *peer) {
		r := p.openRecords("/f")
		require.Zero(t, r.Status.Code, r.Status.Reason)
		_, err := p.conn.Write(halfRecord)
		require.NoError(t, err)
	})
	held := n.server.Load()
	outstanding := n.server.node.Buffers.OutstandingBytes()
	after := memoryInUse()
	took := time.Since(began)
	limits := n.server.limits
	t.Logf("%d connections in %s: granted %d KiB, buffers %d KiB, memory +%d KiB", n.server.Stats().Connections,
		took.Round(time.Millisecond),
		held.GrantedWindowBytes>>10, outstanding>>10, (after-before)>>10)
	require.LessOrEqual(t, held.GrantedWindowBytes, limits.WindowBudgetBytes)
	require.LessOrEqual(t, outstanding, limits.WindowBudgetBytes+int64(limits.ConnectionsMax*limits.RequestBytesMax))
	// Both sides are in this process; 64 KiB are for the goroutines, readers and
	// sockets of a connection's two ends.
	if !invariants.Enabled { // under invariants and the race detector memory is another thing
		require.Less(t, after-before, limits.WindowBudgetBytes+stalled*64<<10)
	}

	// Others are served.
	var good sync.WaitGroup
	for i := range 4 {
		content := pattern(newChunkID(), 1<<20+i)
		good.Go(func() {
			for range 3 {
				id := storeChunk(t, []*testNode{n}, content)
				requireContent(t, []*testNode{n}, id, content)
			}
			p := dial(t, n.server.Addr())
			if !assertOK(t, p.openRecords("/good"+strconv.Itoa(i))) {
				return
			}
			p.record(1, 0, content[:200<<10]) // a larger one may have to come again: fault.Busy
			p.waitRecords(1)
			_ = p.conn.Close()
		})
	}
	good.Wait()
	served := time.Now()

	// And the stalled ones go, each for its reason.
	eventually(t, "all are cut off", func() bool { return n.server.Stats().Connections == 0 })
	close(ended)
	all.Wait()
	refused := n.server.Stats().ConnectionsRefused
	require.EqualValues(t, writers+recorders, refused["stalled"], "%v", refused)
	require.EqualValues(t, idlers, refused["idle"], "%v", refused)
	require.EqualValues(t, readers, refused["not reading"], "%v", refused)
	require.Less(t, time.Since(served), 20*time.Second)
	eventually(t, "nothing is held", func() bool {
		l := n.server.Load()
		return l.GrantedWindowBytes == 0 && l.ActiveReads == 0 && l.ActiveWrites == 0 &&
			n.server.node.Buffers.Outstanding() == 0
	})
}

func assertOK(t *testing.T, r wire.RecordsOpened) bool {
	if r.Status.Code != 0 {
		t.Errorf("records: %s", r.Status.Reason)
	}
	return r.Status.Code == 0
}

// memoryInUse is the memory of the process's heap and stacks.
func memoryInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}
