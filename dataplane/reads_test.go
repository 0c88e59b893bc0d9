package dataplane

import (
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

func TestRangesAreRoundedOutAndVerified(t *testing.T) {
	nodes := startNodes(t, 1, Limits{SendPieceBytes: 100_000})
	const block = int64(chunk.ChecksumBlockBytes)
	id := newChunkID()
	content := pattern(id, 1<<20+12_345)
	p := dial(t, nodes[0].server.Addr())
	p.open(openWrite(id, nil))
	p.write(content, 256<<10, wire.FlagSeal)
	size := int64(len(content))
	for _, r := range [][2]int64{{0, -1}, {0, 0}, {0, 1}, {1, 1}, {block - 1, 1}, {block - 1, 2}, {block, block},
		{block + 1, block},
		{3*block - 10, 2*block + 20}, {size - 1, 1}, {size - 1, 100}, {size, 1}, {size + 1000, 10}, {0, size}, {0,
			10 * size}, {12 * block, -1}} {
		reply, got := p.read(id, r[0], r[1])
		require.Zero(t, reply.Status.Code, reply.Status.Reason)
		require.Equal(t, size, reply.ReplicaLength)
		require.Zero(t, reply.DataOffset%block)
		require.Equal(t, content[reply.DataOffset:reply.DataOffset+reply.DataLength], got)
		if r[0] < size && r[1] != 0 {
			end := min(size, r[0]+r[1])
			if r[1] < 0 {
				end = size
			}
			require.LessOrEqual(t, reply.DataOffset, r[0])
			require.GreaterOrEqual(t, reply.DataOffset+reply.DataLength, end, "range %v", r)
		}
	}
}

func TestAReadThatFailsLeavesTheConnectionUsable(t *testing.T) {
	nodes := startNodes(t, 1, Limits{})
	id := storeChunk(t, nodes, []byte("here"))
	p := dial(t, nodes[0].server.Addr())
	reply, _ := p.read(newChunkID(), 0, -1)
	requireKind(t, fault.NotFound, reply.Status.Code, reply.Status.Reason)
	require.Equal(t, "node-0", reply.Status.NodeID)
	p.send(wire.Header{Op: wire.OpOpenRead}, &wire.OpenRead{ChunkID: id[:], MinGeneration: 5, Length: -1})
	reply, _ = p.readReply()
	requireKind(t, fault.StaleGeneration, reply.Status.Code, reply.Status.Reason)
	p.send(wire.Header{Op: wire.OpOpenRead}, &wire.OpenRead{ChunkID: []byte("short"), Length: -1})
	reply, _ = p.readReply()
	requireKind(t, fault.Invalid, reply.Status.Code, reply.Status.Reason)
	var stat wire.StatReply
	unknown := newChunkID()
	p.send(wire.Header{Op: wire.OpStat}, &wire.StatReplica{ChunkID: unknown[:]})
	_, err := p.reader.Expect(wire.OpStatReply, &stat)
	require.NoError(t, err)
	requireKind(t, fault.NotFound, stat.Status.Code, stat.Status.Reason)
	_, got := p.read(id, 0, -1)
	require.Equal(t, "here", string(got))
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	nodes := startNodes(t, 1, Limits{PendingRequestsMax: 8})
	p := dial(t, nodes[0].server.Addr())
	var contents [][]byte
	var batch []byte
	for i := range 8 {
		content := pattern(newChunkID(), 200_000+i)
		id := storeChunk(t, nodes, content)
		contents = append(contents, content)
		var err error
		batch, err = wire.AppendPacket(batch, wire.Header{Op: wire.OpOpenRead},
			&wire.OpenRead{ChunkID: id[:], Length: -1})
		require.NoError(t, err)
	}
	_, err := p.conn.Write(batch)
	require.NoError(t, err)
	for _, want := range contents {
		_, got := p.readReply()
		require.Equal(t, want, got)
	}
	require.Zero(t, nodes[0].server.Load().GrantedWindowBytes)
}

func TestTooManyPipelinedRequestsEndTheConnection(t *testing.T) {
	nodes := startNodes(t, 1, Limits{PendingRequestsMax: 2})
	id := storeChunk(t, nodes, make([]byte, testChunkSize))
	p := dial(t, nodes[0].server.Addr())
	require.NoError(t, p.conn.(*net.TCPConn).SetReadBuffer(4096))
	var batch []byte
	for range 10 {
		batch, _ = wire.AppendPacket(batch, wire.Header{Op: wire.OpOpenRead},
			&wire.OpenRead{ChunkID: id[:], Length: -1})
	}
	_, err := p.conn.Write(batch)
	require.NoError(t, err)
	// Nothing is read until then: the sockets' buffers take a few of the replies,
	// and the others have to wait.
	eventually(t, "the connection is refused",
		func() bool { return nodes[0].server.Stats().ConnectionsRefused["protocol"] == 1 })
	_, err = io.Copy(io.Discard, p.conn)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	eventually(t, "the read ends", func() bool { return nodes[0].server.Load().ActiveReads == 0 })
}

func TestAReplicaIsReadWhileItIsAppendedTo(t *testing.T) {
	nodes := startNodes(t, 2, Limits{})
	id := newChunkID()
	content := pattern(id, testChunkSize)
	w := dial(t, nodes[0].server.Addr())
	w.open(openWrite(id, hops(nodes[1:])))
	var acked atomic.Int64
	var readers sync.WaitGroup
	var done atomic.Bool
	for i := range 4 {
		readers.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			p := dial(t, nodes[i%2].server.Addr())
			for last := false; !last; {
				last = done.Load()
				least := acked.Load()
				offset := int64(0)
				if least > 0 {
					offset = random.Int64N(least)
				}
				reply, got := p.read(id, offset, -1)
				if !equalBytes(content[reply.DataOffset:reply.DataOffset+reply.DataLength], got) {
					t.Error("a reader got other bytes")
				}
				if reply.ReplicaLength < least {
					t.Errorf("%d bytes were flushed, a reader saw %d", least, reply.ReplicaLength)
				}
			}
		})
	}
	random := rand.New(rand.NewPCG(2, 2))
	for w.offset < int64(len(content)) {
		n := min(int64(len(content))-w.offset, 1+random.Int64N(150_000))
		require.NoError(t, w.data(content[w.offset:w.offset+n], 0))
		w.waitAcked(w.seqno)
		acked.Store(w.offset)
	}
	done.Store(true)
	readers.Wait()
	require.NoError(t, w.data(nil, wire.FlagSeal))
	w.waitAcked(w.seqno)
	requireContent(t, nodes, id, content)
}

func equalBytes(a, b []byte) bool { return string(a) == string(b) }

// Bulk bytes go by sendfile, and gnet's buffers never see them: its outbound
// buffer stays empty however long readers stall, and its inbound buffer always.
func TestBulkBytesGoBySendfileAndNeverThroughTheLoopsBuffers(t *testing.T) {
	nodes := startNodes(t, 3, Limits{})
	content := pattern(newChunkID(), testChunkSize)
	id := storeChunk(t, nodes, content)
	requireContent(t, nodes, id, content)
	var slow sync.WaitGroup
	for range 8 {
		slow.Go(func() {
			p := dial(t, nodes[0].server.Addr())
			_ = p.conn.(*net.TCPConn).SetReadBuffer(64 << 10)
			_, got := p.read(id, 0, -1)
			if !equalBytes(content, got) {
				t.Error("other bytes")
			}
		})
	}
	slow.Wait()
	for i, n := range nodes {
		want := uint64(testChunkSize)
		if i == 0 {
			want *= 9
		}
		eventually(t, "all is counted", func() bool { return n.server.Stats().BytesSendfile >= want })
		s := n.server.Stats()
		require.Equal(t, want, s.BytesSendfile)
		require.Zero(t, s.BytesCopied)
		require.Zero(t, s.OutboundPeakBytes, "replies waited in gnet's outbound buffer")
		require.Zero(t, n.server.counters.inboundLeft.Load())
	}
}

func TestAShortRangeIsCopiedBehindItsHeader(t *testing.T) {
	nodes := startNodes(t, 1, Limits{})
	content := pattern(newChunkID(), 4096)
	id := storeChunk(t, nodes, content)
	requireContent(t, nodes, id, content)
	eventually(t, "counted", func() bool { return nodes[0].server.Stats().BytesCopied == 4096 })
	require.Zero(t, nodes[0].server.Stats().BytesSendfile)
}

// socketBytesSmall is a send buffer that cannot take a test chunk whole. The
// kernel grows one that is not set to as much as a chunk, and the read then ends
// although nobody reads.
const socketBytesSmall = 64 << 10

func TestAStalledReaderIsCutOffAndHoldsNobodyUp(t *testing.T) {
	nodes := startNodes(t, 1, Limits{Senders: 2, SocketSendBytes: socketBytesSmall, SendTimeout: 2 * time.Second,
		TickInterval: 10 * time.Millisecond})
	content := pattern(newChunkID(), testChunkSize)
	id := storeChunk(t, nodes, content)
	var stalled []*peer
	for range 10 { // many more than there are senders
		p := dial(t, nodes[0].server.Addr())
		_ = p.conn.(*net.TCPConn).SetReadBuffer(4096)
		p.send(wire.Header{Op: wire.OpOpenRead}, &wire.OpenRead{ChunkID: id[:], Length: -1})
		stalled = append(stalled, p)
	}
	eventually(t, "all of them have begun", func() bool { return nodes[0].server.counters.reads.Load() == 10 })
	requireContent(t, nodes, id, content)
	eventually(t, "they are cut off", func() bool {
		return nodes[0].server.Stats().ConnectionsRefused["not reading"] == 10 &&
			nodes[0].server.Load().ActiveReads == 0
	})
	for _, p := range stalled {
		require.NoError(t, p.conn.Close())
	}
}

func TestAReaderThatGoesEndsItsSender(t *testing.T) {
	nodes := startNodes(t, 1, Limits{SocketSendBytes: socketBytesSmall})
	id := storeChunk(t, nodes, make([]byte, testChunkSize))
	p := dial(t, nodes[0].server.Addr())
	_ = p.conn.(*net.TCPConn).SetReadBuffer(4096)
	p.send(wire.Header{Op: wire.OpOpenRead}, &wire.OpenRead{ChunkID: id[:], Length: -1})
	eventually(t, "it runs", func() bool { return nodes[0].server.Load().ActiveReads == 1 })
	require.NoError(t, p.conn.Close())
	eventually(t, "it ends", func() bool { return nodes[0].server.Load().ActiveReads == 0 })
}

func TestReadsAboveTheLimitAreRefusedBusy(t *testing.T) {
	nodes := startNodes(t, 1, Limits{ReadsMax: 1, SocketSendBytes: socketBytesSmall})
	id := storeChunk(t, nodes, make([]byte, testChunkSize))
	p := dial(t, nodes[0].server.Addr())
	_ = p.conn.(*net.TCPConn).SetReadBuffer(64 << 10)
	p.send(wire.Header{Op: wire.OpOpenRead}, &wire.OpenRead{ChunkID: id[:], Length: -1})
	eventually(t, "it runs", func() bool { return nodes[0].server.Load().ActiveReads == 1 })
	q := dial(t, nodes[0].server.Addr())
	reply, _ := q.read(id, 0, 10)
	requireKind(t, fault.Busy, reply.Status.Code, reply.Status.Reason)
	_, got := p.readReply()
	require.Len(t, got, testChunkSize)
	eventually(t, "it ends", func() bool { return nodes[0].server.Load().ActiveReads == 0 })
	reply, _ = q.read(id, 0, 10) // the same connection
	require.Zero(t, reply.Status.Code)
}

func TestAFileThatLostItsEndBreaksTheReadOff(t *testing.T) {
	nodes := startNodes(t, 1, Limits{})
	id := storeChunk(t, nodes, make([]byte, 1<<20))
	file := chunkFile(t, nodes[0], id)
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(file, info.Size()-300_000))
	p := dial(t, nodes[0].server.Addr())
	p.send(wire.Header{Op: wire.OpOpenRead}, &wire.OpenRead{ChunkID: id[:], Length: -1})
	var reply wire.ReadReply
	_, err = p.reader.Expect(wire.OpReadReply, &reply)
	require.NoError(t, err)
	if reply.Status.Code == 0 {
		n, _ := io.Copy(io.Discard, p.reader)
		require.Less(t, n, reply.DataLength, "fewer bytes than promised, and then the end")
	}
}

func TestAPeerThatReadsNoRepliesIsCutOff(t *testing.T) {
	nodes := startNodes(t, 1, Limits{OutboundBytesMax: 128 << 10, SocketSendBytes: 64 << 10,
		TickInterval: 10 * time.Millisecond})
	p := dial(t, nodes[0].server.Addr())
	id := newChunkID()
	var batch []byte
	for range 2000 { // each is answered by the machine at once
		batch, _ = wire.AppendPacket(batch, wire.Header{Op: wire.OpOpenRead}, &wire.OpenRead{ChunkID: id[:3]})
	}
	var flood sync.WaitGroup
	flood.Go(func() {
		for {
			if _, err := p.conn.Write(batch); err != nil {
				return
			}
		}
	})
	eventually(t, "cut off", func() bool { return nodes[0].server.Stats().ConnectionsRefused["not reading"] == 1 })
	flood.Wait()
	require.Less(t, nodes[0].server.Stats().OutboundPeakBytes, int64(128<<10+2048))
}

func TestAHundredSessionsAtOnce(t *testing.T) {
	// On a busy machine, under the race detector, a hundred sessions may keep two CPUs from one of them for 2 s.
	nodes := startNodes(t, 3, Limits{SilenceTimeout: 10 * time.Second})
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			rotated := append(append([]*testNode{}, nodes[i%3:]...), nodes[:i%3]...)
			id := newChunkID()
			content := pattern(id, 300_000+i*1013)
			p := dial(t, rotated[0].server.Addr())
			p.open(openWrite(id, hops(rotated[1:])))
			p.write(content, 64<<10+i, wire.FlagSeal)
			requireContent(t, nodes, id, content)
			_ = p.conn.Close()
		})
	}
	all.Wait()
	for _, n := range nodes {
		s := n.server.Stats()
		require.EqualValues(t, 100, s.WritesStarted)
		require.EqualValues(t, 100, s.WritesEnded)
		require.Zero(t, s.WritesBroken)
	}
}
