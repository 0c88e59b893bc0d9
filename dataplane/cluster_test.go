package dataplane

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"
	"go.uber.org/goleak"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/disk"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

const testChunkSize = 4 << 20

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// gnet starts a worker pool of its own when it is imported.
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"),
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*goWorker).run.func1"),
	)
}

// testNode is a datanode's data side on a folder of its own.
type testNode struct {
	t         testing.TB
	id        string
	directory string
	fs        vfs.FS // nil: the machine's
	store     *disk.Store
	server    *Server
}

func startNode(t testing.TB, id string, limits Limits) *testNode {
	n := &testNode{t: t, id: id, directory: t.TempDir()}
	n.start("127.0.0.1:0", limits)
	t.Cleanup(n.stop)
	return n
}

// startNodeOn is a datanode whose disk is a memory or faulty one.
func startNodeOn(t testing.TB, id string, fs vfs.FS, limits Limits) *testNode {
	n := &testNode{t: t, id: id, directory: "/" + id, fs: fs}
	n.start("127.0.0.1:0", limits)
	t.Cleanup(n.stop)
	return n
}

func (n *testNode) start(listen string, limits Limits) {
	store, err := disk.Open(disk.Options{Directories: []string{n.directory}, FS: n.fs,
		PackBytesMax: chunk.ChecksumBlockBytes})
	require.NoError(n.t, err)
	server, err := Start(Options{Listen: listen, NodeID: n.id, Store: store, Limits: limits,
		Logger: slog.New(slog.DiscardHandler)})
	require.NoError(n.t, err)
	n.store, n.server = store, server
}

// stop ends the node and checks that it left nothing behind.
func (n *testNode) stop() {
	if n.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	require.NoError(n.t, n.server.Close(ctx))
	require.NoError(n.t, n.store.Close())
	require.Zero(n.t, n.server.Stats().Buffers, "node %s leaks buffers", n.id)
	require.Zero(n.t, n.server.counters.inboundLeft.Load(), "bytes entered gnet's inbound buffer")
	load := n.server.Load()
	require.Zero(n.t, load.GrantedWindowBytes, "node %s leaks window", n.id)
	require.Zero(n.t, load.ActiveWrites)
	require.Zero(n.t, load.ActiveReads)
	require.Zero(n.t, load.QueuedDiskOps)
	n.server = nil
}

func (n *testNode) hop() wire.Hop { return wire.Hop{NodeID: n.id, Address: n.server.Addr()} }

func startNodes(t testing.TB, count int, limits Limits) []*testNode {
	nodes := make([]*testNode, count)
	for i := range nodes {
		nodes[i] = startNode(t, "node-"+strconv.Itoa(i), limits)
	}
	return nodes
}

func hops(nodes []*testNode) []wire.Hop {
	var all []wire.Hop
	for _, n := range nodes {
		all = append(all, n.hop())
	}
	return all
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 15*time.Second, 2*time.Millisecond, what)
}

var testIDs atomic.Uint64

func newChunkID() chunk.ID {
	var random [10]byte
	binary.LittleEndian.PutUint64(random[:], testIDs.Add(1))
	random[9] = byte(testIDs.Load())
	return chunk.NewID(1_790_000_000_000, random)
}

// pattern fills n bytes that differ for every chunk and offset.
func pattern(id chunk.ID, n int) []byte {
	var seed [32]byte
	copy(seed[:], id[:])
	b := make([]byte, n)
	source := rand.NewChaCha8(seed)
	_, _ = source.Read(b)
	return b
}

// peer is a test's side of a data connection.
type peer struct {
	t      testing.TB
	conn   net.Conn
	reader *wire.PacketReader
	seqno  uint64
	offset int64
	ack    wire.OpenAck
}

func dial(t testing.TB, address string) *peer {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	require.NoError(t, err)
	p := &peer{t: t, conn: conn, reader: wire.NewPacketReader(conn, 0)}
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(60*time.Second)))
	return p
}

func (p *peer) send(h wire.Header, body any) {
	packet, err := wire.AppendPacket(nil, h, body)
	require.NoError(p.t, err)
	_, err = p.conn.Write(packet)
	require.NoError(p.t, err)
}

// dataPacket builds a whole Data packet.
func dataPacket(seqno uint64, offset int64, flags wire.Flags, payload []byte) []byte {
	packet := make([]byte, wire.HeaderBytes+len(payload))
	wire.PutHeader(packet, wire.Header{Op: wire.OpData, Flags: flags, Length: uint32(len(payload)), Seqno: seqno,
		Offset: offset})
	copy(packet[wire.HeaderBytes:], payload)
	wire.Seal(packet)
	return packet
}

// data sends the next Data packet of the session.
func (p *peer) data(payload []byte, flags wire.Flags) error {
	p.seqno++
	_, err := p.conn.Write(dataPacket(p.seqno, p.offset, flags, payload))
	p.offset += int64(len(payload))
	return err
}

func openWrite(id chunk.ID, downstream []wire.Hop) wire.OpenWrite {
	return wire.OpenWrite{BodyVersion: wire.BodyVersion, ChunkID: id[:], Generation: 1, Mode: wire.ModeCreate,
		ChunkSize: testChunkSize, Downstream: downstream, ClientName: "test"}
}

func (p *peer) sendOpen(o wire.OpenWrite) {
	p.seqno, p.offset = 0, o.Offset
	p.send(wire.Header{Op: wire.OpOpenWrite}, &o)
}

func (p *peer) expectOpenAck() wire.OpenAck {
	p.ack = wire.OpenAck{}
	_, err := p.reader.Expect(wire.OpOpenAck, &p.ack)
	require.NoError(p.t, err)
	return p.ack
}

func (p *peer) open(o wire.OpenWrite) {
	p.sendOpen(o)
	for i, h := range p.expectOpenAck().Hops {
		require.Zero(p.t, h.Code, "hop %d: %s", i, h.Reason)
	}
	require.Len(p.t, p.ack.Hops, 1+len(o.Downstream))
}

func (p *peer) expectAck() wire.Ack {
	var a wire.Ack
	_, err := p.reader.Expect(wire.OpAck, &a)
	require.NoError(p.t, err)
	return a
}

// waitAcked reads acks until seqno is acked without an error.
func (p *peer) waitAcked(seqno uint64) {
	for {
		a := p.expectAck()
		for i, h := range a.Hops {
			require.Zero(p.t, h.Code, "hop %d (%s): %s", i, h.NodeID, h.Reason)
		}
		if a.Seqno >= seqno {
			return
		}
	}
}

// write streams content in packets within the window and ends with flags.
func (p *peer) write(content []byte, packetBytes int, last wire.Flags) {
	var inflight []int64
	var cost int64
	var acked uint64
	for first := true; first || len(content) > 0; first = false {
		n := min(packetBytes, len(content))
		flags := wire.Flags(0)
		if n == len(content) {
			flags = last
		}
		c := wire.WindowCost(n)
		for cost+c > p.ack.WindowBytes {
			a := p.expectAck()
			require.Equal(p.t, -1, wire.FirstBad(a.Hops), "%+v", a.Hops)
			for ; acked < a.Seqno; acked++ {
				cost -= inflight[0]
				inflight = inflight[1:]
			}
		}
		require.NoError(p.t, p.data(content[:n], flags))
		inflight, cost = append(inflight, c), cost+c
		content = content[n:]
	}
	if acked < p.seqno {
		p.waitAcked(p.seqno)
	}
}

// read fetches a range and verifies its sums.
func (p *peer) read(id chunk.ID, offset, length int64) (wire.ReadReply, []byte) {
	p.send(wire.Header{Op: wire.OpOpenRead}, &wire.OpenRead{BodyVersion: wire.BodyVersion, ChunkID: id[:],
		Offset: offset,
		Length: length})
	return p.readReply()
}

func (p *peer) readReply() (wire.ReadReply, []byte) {
	var r wire.ReadReply
	_, err := p.reader.Expect(wire.OpReadReply, &r)
	require.NoError(p.t, err)
	require.NoError(p.t, r.Validate())
	if r.Status.Code != 0 {
		return r, nil
	}
	b := make([]byte, r.DataLength)
	_, err = io.ReadFull(p.reader, b)
	require.NoError(p.t, err)
	for i := 0; i*chunk.ChecksumBlockBytes < len(b); i++ {
		block := b[i*chunk.ChecksumBlockBytes : min(len(b), (i+1)*chunk.ChecksumBlockBytes)]
		require.Equal(p.t, binary.LittleEndian.Uint64(r.Sums[8*i:]), xxh3.Hash(block), "block %d", i)
	}
	return r, b
}

// requireContent reads the whole chunk from each node.
func requireContent(t testing.TB, nodes []*testNode, id chunk.ID, want []byte) {
	t.Helper()
	for _, n := range nodes {
		p := dial(t, n.server.Addr())
		r, got := p.read(id, 0, -1)
		require.Zero(t, r.Status.Code, "node %s: %s", n.id, r.Status.Reason)
		require.Equal(t, len(want), len(got), "node %s", n.id)
		require.True(t, string(want) == string(got), "node %s has other bytes", n.id)
		_ = p.conn.Close()
	}
}

// store writes one chunk through the nodes and seals it.
func storeChunk(t testing.TB, nodes []*testNode, content []byte) chunk.ID {
	id := newChunkID()
	p := dial(t, nodes[0].server.Addr())
	p.open(openWrite(id, hops(nodes[1:])))
	p.write(content, 256<<10, wire.FlagSeal)
	_ = p.conn.Close()
	return id
}

func requireKind(t testing.TB, want fault.Kind, code uint8, reason string) {
	t.Helper()
	require.Equal(t, want, fault.Kind(code), "reason: %s", reason)
}
