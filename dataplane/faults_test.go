package dataplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/whispering-woods/ww/dataplane/machine"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/test/simdisk"
)

// waitBroken reads acks until one names a failed hop.
func (p *peer) waitBroken() wire.Ack {
	for {
		a := p.expectAck()
		if wire.FirstBad(a.Hops) >= 0 {
			return a
		}
	}
}

// expectEnd waits for the server to end the connection.
func (p *peer) expectEnd() {
	for {
		if _, _, err := p.reader.Next(); err != nil {
			require.NotErrorIs(p.t, err, os.ErrDeadlineExceeded)
			return
		}
	}
}

func TestAHopThatStopsIsNamed(t *testing.T) {
	for at := 1; at < 3; at++ {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			nodes := startNodes(t, 3, Limits{})
			id := newChunkID()
			content := pattern(id, 600_000)
			p := dial(t, nodes[0].server.Addr())
			p.open(openWrite(id, hops(nodes[1:])))
			require.NoError(t, p.data(content[:200_000], 0))
			p.waitAcked(1)
			nodes[at].stop()
			_ = p.data(content[200_000:300_000], 0)
			a := p.waitBroken()
			require.Equal(t, at, wire.FirstBad(a.Hops), "%+v", a.Hops)
			require.Equal(t, nodes[at].id, a.Hops[at].NodeID)
			requireKind(t, fault.Unavailable, a.Hops[at].Code, a.Hops[at].Reason)
			p.expectEnd()
			// What was acked is still there, open, on everyone who lives.
			for i, n := range nodes {
				if i == at {
					continue
				}
				eventually(t, "the session ends", func() bool { return n.server.Load().ActiveWrites == 0 })
				r, err := n.store.Stat(id)
				require.NoError(t, err)
				require.Equal(t, chunk.Open, r.State)
				require.GreaterOrEqual(t, r.Length, int64(200_000))
			}
		})
	}
}

func TestADownstreamThatCannotBeReachedIsNamed(t *testing.T) {
	nodes := startNodes(t, 2, Limits{})
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nobody := wire.Hop{NodeID: "gone", Address: closed.Addr().String()}
	require.NoError(t, closed.Close())
	p := dial(t, nodes[0].server.Addr())
	p.sendOpen(openWrite(newChunkID(), []wire.Hop{nodes[1].hop(), nobody}))
	ack := p.expectOpenAck()
	require.Equal(t, 2, wire.FirstBad(ack.Hops), "%+v", ack.Hops)
	require.Equal(t, "gone", ack.Hops[2].NodeID)
	requireKind(t, fault.Unavailable, ack.Hops[2].Code, ack.Hops[2].Reason)
	p.expectEnd()
}

// hangingHop accepts and answers nothing, or answers the open only.
func hangingHop(t *testing.T, answerOpen bool) wire.Hop {
	return fakeHop(t, "hangs", func(conn net.Conn) {
		r := wire.NewPacketReader(conn, 1<<20)
		h, _, err := r.Next()
		if err == nil && h.Op == wire.OpOpenWrite && answerOpen {
			packet, _ := wire.AppendPacket(nil, wire.Header{Op: wire.OpOpenAck},
				&wire.OpenAck{WindowBytes: 1 << 20, Hops: []wire.HopStatus{{NodeID: "hangs"}}})
			_, _ = conn.Write(packet)
		}
		_, _ = io.Copy(io.Discard, conn)
	})
}

// fakeHop is a hop that does with each connection what the test says, and then
// closes it. Make it before the nodes that connect to it: it waits until they have
// hung up.
func fakeHop(t *testing.T, id string, serve func(conn net.Conn)) wire.Hop {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	return wire.Hop{NodeID: id, Address: l.Addr().String()}
}

func TestAHopThatHangsIsNamedByItsNeighbour(t *testing.T) {
	limits := Limits{StepTimeout: 400 * time.Millisecond, StepSlack: 400 * time.Millisecond,
		TickInterval: 10 * time.Millisecond}
	for _, answersOpen := range []bool{false, true} {
		t.Run(fmt.Sprint(answersOpen), func(t *testing.T) {
			hung := hangingHop(t, answersOpen)
			// In memory: a busy disk must not be taken for the one that hangs.
			nodes := []*testNode{startNodeOn(t, "a", simdisk.NewMem(), limits),
				startNodeOn(t, "b", simdisk.NewMem(), limits)}
			p := dial(t, nodes[0].server.Addr())
			p.sendOpen(openWrite(newChunkID(), []wire.Hop{nodes[1].hop(), hung}))
			var statuses []wire.HopStatus
			if answersOpen {
				require.Equal(t, -1, wire.FirstBad(p.expectOpenAck().Hops))
				require.NoError(t, p.data([]byte("never acked"), 0))
				statuses = p.waitBroken().Hops
			} else {
				statuses = p.expectOpenAck().Hops
			}
			require.Equal(t, 2, wire.FirstBad(statuses), "%+v", statuses)
			require.Equal(t, "hangs", statuses[2].NodeID)
			requireKind(t, fault.Unavailable, statuses[2].Code, statuses[2].Reason)
			p.expectEnd()
		})
	}
}

func TestAClientThatGoesLeavesTheReplicasOpen(t *testing.T) {
	nodes := startNodes(t, 3, Limits{})
	id := newChunkID()
	content := pattern(id, 500_000)
	p := dial(t, nodes[0].server.Addr())
	p.open(openWrite(id, hops(nodes[1:])))
	require.NoError(t, p.data(content[:250_000], 0))
	p.waitAcked(1)
	half := dataPacket(2, 250_000, 0, content[250_000:])
	_, err := p.conn.Write(half[:100_000]) // dies inside a packet
	require.NoError(t, err)
	require.NoError(t, p.conn.Close())
	for _, n := range nodes {
		eventually(t, "the session ends", func() bool {
			return n.server.Load().ActiveWrites == 0 && n.server.Stats().Buffers == 0
		})
		r, err := n.store.Stat(id)
		require.NoError(t, err)
		require.Equal(t, chunk.Replica{ID: id, Generation: 1, Length: 250_000, State: chunk.Open}, r)
	}
	require.EqualValues(t, 1, nodes[0].server.Stats().ConnectionsRefused["truncated"])
	// The client comes back and goes on.
	o := openWrite(id, hops(nodes[1:]))
	o.Mode, o.PreviousGeneration, o.Generation, o.Offset = wire.ModeResume, 1, 2, 250_000
	q := dial(t, nodes[0].server.Addr())
	q.open(o)
	q.write(content[250_000:], 256<<10, wire.FlagSeal)
	requireContent(t, nodes, id, content)
}

func TestACorruptPacketIsRefusedAndNamed(t *testing.T) {
	nodes := startNodes(t, 2, Limits{})
	id := newChunkID()
	p := dial(t, nodes[0].server.Addr())
	p.open(openWrite(id, hops(nodes[1:])))
	require.NoError(t, p.data([]byte("good"), 0))
	p.waitAcked(1)
	bad := dataPacket(2, 4, 0, []byte("changed on the way"))
	bad[len(bad)-1] ^= 1
	_, err := p.conn.Write(bad)
	require.NoError(t, err)
	a := p.waitBroken()
	require.Zero(t, wire.FirstBad(a.Hops))
	requireKind(t, fault.CorruptData, a.Hops[0].Code, a.Hops[0].Reason)
	require.EqualValues(t, 1, a.Seqno)
	p.expectEnd()
	for _, n := range nodes {
		r, err := n.store.Stat(id)
		require.NoError(t, err)
		require.EqualValues(t, 4, r.Length, "node %s stored it", n.id)
	}
	require.EqualValues(t, 1, nodes[0].server.Stats().ConnectionsRefused["corrupt"])
}

func TestAWindowOverrunIsCutOff(t *testing.T) {
	hung := hangingHop(t, true) // so that nothing is ever acked; its window is 1 MiB
	nodes := startNodes(t, 1, Limits{})
	p := dial(t, nodes[0].server.Addr())
	p.open(openWrite(newChunkID(), []wire.Hop{hung}))
	require.EqualValues(t, 1<<20, p.ack.WindowBytes)
	payload := make([]byte, 256<<10)
	for range 5 {
		_ = p.data(payload, 0)
	}
	a := p.waitBroken()
	require.Zero(t, wire.FirstBad(a.Hops))
	requireKind(t, fault.Protocol, a.Hops[0].Code, a.Hops[0].Reason)
	require.Contains(t, a.Hops[0].Reason, "exceeds the window")
	require.EqualValues(t, 1, nodes[0].server.Stats().ConnectionsRefused["window"])
	require.EqualValues(t, 4*(256<<10), nodes[0].server.Stats().BytesReceived)
	p.expectEnd()
}

func TestTinyPacketsAreChargedWhatTheyOccupy(t *testing.T) {
	hung := hangingHop(t, true)
	nodes := startNodes(t, 1, Limits{})
	p := dial(t, nodes[0].server.Addr())
	p.open(openWrite(newChunkID(), []wire.Hop{hung}))
	for range (1<<20)/wire.WindowCostMin + 1 {
		_ = p.data([]byte{1}, 0)
	}
	requireKind(t, fault.Protocol, p.waitBroken().Hops[0].Code, "")
	require.EqualValues(t, (1<<20)/wire.WindowCostMin, nodes[0].server.Stats().BytesReceived)
}

func TestBadBytesEndTheConnectionAndAreCounted(t *testing.T) {
	nodes := startNodes(t, 1, Limits{})
	header := func(h wire.Header, edit func([]byte)) []byte {
		b := make([]byte, wire.HeaderBytes)
		wire.PutHeader(b, h)
		if edit != nil {
			edit(b)
		}
		wire.Seal(b)
		return b
	}
	id := newChunkID()
	whole, err := wire.AppendPacket(nil, wire.Header{Op: wire.OpOpenRead}, &wire.OpenRead{ChunkID: id[:]})
	require.NoError(t, err)
	flipped := append([]byte(nil), whole...)
	flipped[len(flipped)-1] ^= 0x80
	notMsgpack := append(header(wire.Header{Op: wire.OpStat, Length: 4}, nil), 0xc1, 0xff, 0xff, 0xff)
	wire.Seal(notMsgpack)
	for _, c := range []struct {
		name, reason string
		bytes        []byte
		kind         fault.Kind
	}{
		{"http", "garbage", []byte("GET / HTTP/1.1\r\n\r\n"), fault.Protocol},
		{"four wrong bytes", "garbage", []byte{0, 1, 2, 3}, fault.Protocol},
		{"other version", "version", header(wire.Header{Op: wire.OpStat}, func(b []byte) { b[4] = 9 }), fault.Version},
		{"unknown op", "protocol", header(wire.Header{Op: 99}, nil), fault.Protocol},
		{"an answer", "protocol", header(wire.Header{Op: wire.OpAck}, nil), fault.Protocol},
		{"data without a session", "protocol", header(wire.Header{Op: wire.OpData, Length: 1 << 20, Seqno: 1}, nil),
			fault.Protocol},
		{"4 GiB", "oversized", header(wire.Header{Op: wire.OpData, Length: 1<<32 - 1}, nil), fault.Protocol},
		{"request above the node's limit", "oversized", header(wire.Header{Op: wire.OpOpenWrite, Length: 60_000}, nil),
			fault.Protocol},
		{"flipped bit", "corrupt", flipped, fault.CorruptData},
		{"no msgpack", "protocol", notMsgpack, fault.Protocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := nodes[0].server.Stats().ConnectionsRefused[c.reason]
			p := dial(t, nodes[0].server.Addr())
			_, err := p.conn.Write(c.bytes)
			require.NoError(t, err)
			h, payload, err := p.reader.Next()
			require.NoError(t, err)
			require.Equal(t, wire.OpError, h.Op)
			var s wire.Status
			require.NoError(t, wire.DecodeBody(payload, &s))
			requireKind(t, c.kind, s.Code, s.Reason)
			require.NotEmpty(t, s.Reason)
			_, _, err = p.reader.Next()
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, before+1, nodes[0].server.Stats().ConnectionsRefused[c.reason])
			require.Zero(t, nodes[0].server.Stats().Buffers)
		})
	}
	t.Run("truncated", func(t *testing.T) {
		p := dial(t, nodes[0].server.Addr())
		_, err := p.conn.Write(whole[:len(whole)-1])
		require.NoError(t, err)
		require.NoError(t, p.conn.Close())
		eventually(t, "counted", func() bool { return nodes[0].server.Stats().ConnectionsRefused["truncated"] == 1 })
	})
}

func TestARefusedPeerThatGoesOnSendingIsClosed(t *testing.T) {
	nodes := startNodes(t, 1, Limits{LingerTimeout: 50 * time.Millisecond, TickInterval: 10 * time.Millisecond})
	p := dial(t, nodes[0].server.Addr())
	junk := make([]byte, 1<<20)
	eventually(t, "the connection ends", func() bool {
		_, err := p.conn.Write(junk)
		return err != nil
	})
	eventually(t, "it is gone here", func() bool { return nodes[0].server.Stats().Connections == 0 })
}

func TestIdleAndStalledConnectionsEnd(t *testing.T) {
	impatient := startNode(t, "impatient", Limits{IdleTimeout: 100 * time.Millisecond,
		PeerIdleTimeout: 50 * time.Millisecond, TickInterval: 10 * time.Millisecond})
	idle := dial(t, impatient.server.Addr())
	_, _, err := idle.reader.Next()
	require.ErrorIs(t, err, io.EOF)
	require.EqualValues(t, 1, impatient.server.Stats().ConnectionsRefused["idle"])

	// Whoever has begun to send is held to another limit.
	n := startNode(t, "a", Limits{ReceiveTimeout: 100 * time.Millisecond, SessionIdleTimeout: 300 * time.Millisecond,
		TickInterval: 10 * time.Millisecond})
	refused := func(reason string) uint64 { return n.server.Stats().ConnectionsRefused[reason] }
	stalled := dial(t, n.server.Addr())
	_, err = stalled.conn.Write(dataPacket(1, 0, 0, nil)[:20])
	require.NoError(t, err)
	h, _, err := stalled.reader.Next()
	require.NoError(t, err)
	require.Equal(t, wire.OpError, h.Op)
	require.EqualValues(t, 1, refused("stalled"))

	silent := dial(t, n.server.Addr())
	silent.open(openWrite(newChunkID(), nil))
	requireKind(t, fault.Unavailable, silent.waitBroken().Hops[0].Code, "")
	require.EqualValues(t, 1, refused("idle"))
}

func TestConnectionAndSessionLimits(t *testing.T) {
	nodes := startNodes(t, 1, Limits{ConnectionsMax: 3, SessionsMax: 2, LingerTimeout: 5 * time.Second})
	var open []*peer
	for range 2 {
		p := dial(t, nodes[0].server.Addr())
		p.open(openWrite(newChunkID(), nil))
		open = append(open, p)
	}
	p := dial(t, nodes[0].server.Addr())
	p.sendOpen(openWrite(newChunkID(), nil))
	ack := p.expectOpenAck()
	requireKind(t, fault.Busy, ack.Hops[0].Code, ack.Hops[0].Reason)
	q := dial(t, nodes[0].server.Addr())
	_, err := q.reader.Expect(wire.OpStatReply, &wire.StatReply{})
	require.ErrorIs(t, err, fault.Busy)
	require.EqualValues(t, 1, nodes[0].server.Stats().ConnectionsRefused["connections"])
	require.EqualValues(t, 1, nodes[0].server.Stats().ConnectionsRefused["busy"])

	// Whoever sends before it has heard that it is refused can send, and hears it.
	w := dial(t, nodes[0].server.Addr())
	w.sendOpen(openWrite(newChunkID(), nil))
	for seqno := range uint64(8) {
		_, err = w.conn.Write(dataPacket(seqno+1, int64(seqno)<<20, 0, make([]byte, 1<<20)))
		require.NoError(t, err)
	}
	_, err = w.reader.Expect(wire.OpOpenAck, &wire.OpenAck{})
	require.ErrorIs(t, err, fault.Busy)

	// They linger, but not many.
	for range 3 * lingeringMax {
		dial(t, nodes[0].server.Addr())
	}
	require.LessOrEqual(t, nodes[0].server.Stats().Connections, 3+lingeringMax+nodes[0].server.limits.Loops)
	eventually(t, "all refused are gone", func() bool { return nodes[0].server.Stats().Connections <= 3 })
	for _, p := range open {
		require.NoError(t, p.data([]byte("still fine"), wire.FlagSeal))
		p.waitAcked(1)
	}
}

func TestManyWritersShareTheBudget(t *testing.T) {
	nodes := startNodes(t, 1, Limits{WindowBudgetBytes: 8 << 20, WindowBytes: 2 << 20})
	var all []*peer
	var sum int64
	for range 16 {
		p := dial(t, nodes[0].server.Addr())
		p.open(openWrite(newChunkID(), nil))
		require.GreaterOrEqual(t, p.ack.WindowBytes, int64(machine.WindowMin))
		sum += p.ack.WindowBytes
		all = append(all, p)
	}
	require.LessOrEqual(t, sum, int64(8<<20))
	require.Equal(t, sum, nodes[0].server.Load().GrantedWindowBytes)
	require.Greater(t, all[0].ack.WindowBytes, all[15].ack.WindowBytes)
	for i := 16; ; i++ {
		require.Less(t, i, 33)
		p := dial(t, nodes[0].server.Addr())
		p.sendOpen(openWrite(newChunkID(), nil))
		if bad := p.expectOpenAck(); wire.FirstBad(bad.Hops) == 0 {
			requireKind(t, fault.Busy, bad.Hops[0].Code, bad.Hops[0].Reason)
			break
		}
	}
}

func TestTheDiskRefusesAndIsNamed(t *testing.T) {
	nodes := startNodes(t, 2, Limits{})
	id := newChunkID()
	p := dial(t, nodes[0].server.Addr())
	p.open(openWrite(id, hops(nodes[1:])))
	require.NoError(t, p.data([]byte("one"), 0))
	p.waitAcked(1)
	_, _, err := nodes[1].store.BeginRecovery(id, 7) // fences the second hop's writer
	require.NoError(t, err)
	require.NoError(t, p.data([]byte("two"), 0))
	a := p.waitBroken()
	require.Equal(t, 1, wire.FirstBad(a.Hops), "%+v", a.Hops)
	requireKind(t, fault.StaleGeneration, a.Hops[1].Code, a.Hops[1].Reason)
	require.EqualValues(t, 1, a.Seqno)
}

func TestStartRefusesAnAddressInUse(t *testing.T) {
	n := startNode(t, "a", Limits{})
	_, err := Start(Options{Listen: n.server.Addr(), NodeID: "b", Store: n.store})
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorIs(t, err, unix.EADDRINUSE) // and not what gnet meets when it goes on with a closed descriptor
	_, err = Start(Options{Listen: "127.0.0.1:0", NodeID: "b", Store: n.store, Limits: Limits{WindowBudgetBytes: 1}})
	require.ErrorIs(t, err, fault.Invalid)
}

func TestAServerThatStopsInTheMiddleKeepsWhatWasAcked(t *testing.T) {
	n := startNode(t, "a", Limits{})
	id := newChunkID()
	content := pattern(id, 1_000_000)
	p := dial(t, n.server.Addr())
	p.open(openWrite(id, nil))
	require.NoError(t, p.data(content[:500_000], wire.FlagSync))
	p.waitAcked(1)
	_ = p.data(content[500_000:], 0)
	n.stop()
	n.start("127.0.0.1:0", Limits{})
	r, err := n.store.Stat(id)
	require.NoError(t, err)
	require.Equal(t, chunk.Recovered, r.State)
	require.GreaterOrEqual(t, r.Length, int64(500_000))
	q := dial(t, n.server.Addr())
	_, got := q.read(id, 0, -1)
	require.Equal(t, content[:len(got)], got)
}

// An event engine ends as a whole when it cannot accept; the server must go on.
func TestADeadEngineIsReplaced(t *testing.T) {
	n := startNode(t, "a", Limits{})
	id := newChunkID()
	p := dial(t, n.server.Addr())
	p.open(openWrite(id, nil))
	require.NoError(t, p.data([]byte("acked"), 0))
	p.waitAcked(1)
	n.server.handler.Load().stop()
	p.expectEnd()
	eventually(t, "the engine ended", func() bool { return n.server.Stats().EngineRestarts == 1 })
	eventually(t, "it serves again", func() bool { // the socket of the engine that ended is closed by now
		conn, err := net.Dial("tcp", n.server.Addr())
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	eventually(t, "the old session is over", func() bool { return n.server.Load().ActiveWrites == 0 })
	q := dial(t, n.server.Addr())
	_, got := q.read(id, 0, -1)
	require.Equal(t, "acked", string(got))
}

func TestCloseIsBoundedByItsContext(t *testing.T) {
	n := startNode(t, "a", Limits{})
	hold, held := make(chan struct{}), make(chan struct{})
	id := newChunkID()
	require.NoError(t, n.store.Do(id, func() { close(held); <-hold }))
	<-held
	p := dial(t, n.server.Addr())
	p.send(wire.Header{Op: wire.OpStat}, &wire.StatReplica{ChunkID: id[:]})
	q := dial(t, n.server.Addr())
	q.sendOpen(openWrite(id, nil))
	eventually(t, "the open waits", func() bool { return n.server.Load().ActiveWrites == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, n.server.Close(ctx), fault.Unavailable)
	close(hold)
}

// Orders of the namenode come from goroutines that the server does not own, and
// may come while it closes.
func TestCallsThatComeWhileTheServerCloses(t *testing.T) {
	for range 8 {
		n := startNode(t, "a", Limits{})
		server, hop := n.server, n.hop()
		var callers sync.WaitGroup
		var recovered atomic.Int64
		for range 4 {
			callers.Go(func() {
				for {
					_, err := server.Recover(context.Background(),
						datanode.RecoverChunk{Chunk: newChunkID(), Generation: 2, Replicas: []wire.Hop{hop},
							Length: -1})
					if errors.Is(err, fault.Closed) {
						return
					}
					if err == nil {
						recovered.Add(1)
					}
				}
			})
		}
		eventually(t, "recoveries run", func() bool { return recovered.Load() >= 10 })
		n.stop()
		callers.Wait()
	}
}

func chunkFile(t *testing.T, n *testNode, id chunk.ID) string {
	found, err := filepath.Glob(filepath.Join(n.directory, "chunks", "*", id.String()+"*"))
	require.NoError(t, err)
	require.Len(t, found, 1)
	return found[0]
}
