package dataplane

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
)

// oneLoop has all sessions on one loop, so that they share its neighbours.
func oneLoop() Limits { return Limits{Loops: 1, TickInterval: 10 * time.Millisecond} }

// onLoop runs f on the node's only loop. f must not end the test: that would end
// the loop.
func (n *testNode) onLoop(f func(l *loop)) {
	done := make(chan struct{})
	n.server.handler.Load().loops.Range(func(_, value any) bool {
		l := value.(*loop)
		l.post(&event{deliver: func() { f(l); close(done) }})
		return false
	})
	<-done
}

// idleNeighbours counts the connections that the node's loop keeps.
func (n *testNode) idleNeighbours() (count int) {
	n.onLoop(func(l *loop) { count = l.neighbours.idle.Len() })
	return count
}

func TestANeighbourCarriesOneSessionAfterAnother(t *testing.T) {
	nodes := []*testNode{startNode(t, "a", oneLoop()), startNode(t, "b", oneLoop())}
	for i, size := range []int{100, 0, 1 << 20, 300} { // by the loop, nothing, by the sender, by the loop again
		content := pattern(newChunkID(), size)
		id := storeChunk(t, nodes, content)
		requireContent(t, nodes, id, content)
		require.Equal(t, 1, nodes[0].idleNeighbours(), "after session %d", i)
	}
	before := nodes[1].server.Stats().ConnectionsAccepted
	content := pattern(newChunkID(), 5000)
	storeChunk(t, nodes, content)
	require.Equal(t, before, nodes[1].server.Stats().ConnectionsAccepted, "no new connection from a")
}

// What the neighbour closed while it was idle is dialled again.
func TestAReusedNeighbourWhoseWriteFailsIsReplaced(t *testing.T) {
	opens := make(chan struct{}, 4)
	hop := fakeHop(t, "fake", func(conn net.Conn) {
		ackEverything(conn, opens)
		<-t.Context().Done() // it hangs up on none: only the write can tell
	})
	a := startNode(t, "a", oneLoop())
	store := func() {
		p := dial(t, a.server.Addr())
		p.open(openWrite(newChunkID(), []wire.Hop{hop}))
		require.NoError(t, p.data([]byte("abc"), wire.FlagSeal))
		p.waitAcked(1)
		<-opens
	}
	store()
	eventually(t, "the connection is kept", func() bool { return a.idleNeighbours() == 1 })
	var first *neighbour
	var silent, closed, kept bool
	var err error
	a.onLoop(func(l *loop) {
		first, _ = l.neighbours.idle.Take(hop.Address)
		l.neighbours.idle.Put(hop.Address, first)
		err = unix.Shutdown(first.raw.Fd(), unix.SHUT_WR)
		silent = first.silent()
	})
	require.NoError(t, err)
	require.True(t, silent, "nothing tells that it is of no use")
	store()
	a.onLoop(func(l *loop) {
		closed, kept = first.closed, false
		l.neighbours.idle.Expire(func(n *neighbour) bool { kept = kept || n == first; return false })
	})
	require.True(t, closed)
	require.False(t, kept)
}

// ackEverything is a last hop that stores nothing, until the peer ends its half.
func ackEverything(conn net.Conn, opens chan<- struct{}) {
	r := wire.NewPacketReader(conn, 1<<20)
	hops := []wire.HopStatus{{NodeID: "fake"}}
	for {
		h, _, err := r.Next()
		if err != nil {
			return
		}
		var answer []byte
		if h.Op == wire.OpOpenWrite {
			opens <- struct{}{}
			answer, _ = wire.AppendPacket(nil, wire.Header{Op: wire.OpOpenAck},
				&wire.OpenAck{BodyVersion: wire.BodyVersion, WindowBytes: 1 << 20, Hops: hops})
		} else {
			answer, _ = wire.AppendPacket(nil, wire.Header{Op: wire.OpAck, Seqno: h.Seqno},
				&wire.Ack{BodyVersion: wire.BodyVersion, Seqno: h.Seqno, Hops: hops})
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}

func TestIdleNeighboursAreClosed(t *testing.T) {
	limits := oneLoop()
	limits.PeerIdleTimeout = 50 * time.Millisecond
	nodes := []*testNode{startNode(t, "a", limits), startNode(t, "b", Limits{})}
	storeChunk(t, nodes, pattern(newChunkID(), 100))
	eventually(t, "a closes it", func() bool {
		return nodes[0].idleNeighbours() == 0 &&
			nodes[1].server.Stats().Connections == 0
	})
}

func TestIdleNeighboursAreBounded(t *testing.T) {
	limits := oneLoop()
	limits.PeerConnectionsMax = 2
	nodes := []*testNode{startNode(t, "a", limits), startNode(t, "b", Limits{})}
	var writers []*peer
	for range 5 {
		p := dial(t, nodes[0].server.Addr())
		p.open(openWrite(newChunkID(), hops(nodes[1:])))
		writers = append(writers, p)
	}
	require.Equal(t, 5, nodes[1].server.Stats().Connections)
	for _, p := range writers {
		require.NoError(t, p.data([]byte("x"), wire.FlagSeal))
		p.waitAcked(1)
	}
	eventually(t, "two stay", func() bool {
		return nodes[0].idleNeighbours() == 2 &&
			nodes[1].server.Stats().Connections == 2
	})
}

// What a neighbour sends that is no answer ends its connection, and the session
// if it has one, which blames it.
func TestANeighbourThatTalksNonsenseIsBlamed(t *testing.T) {
	openAck := func() []byte {
		b, err := wire.AppendPacket(nil, wire.Header{Op: wire.OpOpenAck},
			&wire.OpenAck{BodyVersion: wire.BodyVersion, WindowBytes: 1 << 20,
				Hops: []wire.HopStatus{{NodeID: "fake"}}})
		require.NoError(t, err)
		return b
	}()
	damaged := append([]byte(nil), openAck...)
	damaged[len(damaged)-1] ^= 1
	status := wire.StatusOf("fake", "", fault.New(fault.NoSpace, "open write", "full"))
	refusal, err := wire.AppendPacket(nil, wire.Header{Op: wire.OpError}, &status)
	require.NoError(t, err)
	long := make([]byte, wire.HeaderBytes)
	wire.PutHeader(long, wire.Header{Op: wire.OpAck, Length: wire.BodyBytesMax + 1})
	for name, c := range map[string]struct {
		bytes []byte
		kind  fault.Kind
	}{
		"no packet":        {[]byte("HTTP/1.1 400 Bad Request and so on and so forth\r\n\r\n"), fault.Protocol},
		"damaged":          {damaged, fault.CorruptData},
		"a second open":    {append(append([]byte(nil), openAck...), openAck...), fault.Protocol},
		"an ack at once":   {append([]byte(nil), ackBytes(t, 0)...), fault.Protocol},
		"a refusal":        {refusal, fault.NoSpace},
		"far too long":     {long, fault.Protocol},
		"an ack too much":  {append(append([]byte(nil), openAck...), ackBytes(t, 7)...), fault.Protocol},
		"an end in a half": {openAck[:len(openAck)/2], fault.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			hop := fakeHop(t, "fake", func(conn net.Conn) {
				_, _, _ = wire.NewPacketReader(conn, 1<<20).Next()
				for i := range c.bytes { // in the smallest pieces
					if _, err := conn.Write(c.bytes[i : i+1]); err != nil {
						return
					}
				}
				if name != "an end in a half" {
					_, _ = conn.Read(make([]byte, 1)) // until it is hung up on
				}
			})
			a := startNode(t, "a", oneLoop())
			p := dial(t, a.server.Addr())
			p.sendOpen(openWrite(newChunkID(), []wire.Hop{hop}))
			h, payload, err := p.reader.Next()
			require.NoError(t, err)
			statuses := func(op wire.Op, payload []byte) []wire.HopStatus {
				if op == wire.OpOpenAck {
					var ack wire.OpenAck
					require.NoError(t, wire.DecodeBody(payload, &ack))
					return ack.Hops
				}
				var ack wire.Ack
				require.NoError(t, wire.DecodeBody(payload, &ack))
				return ack.Hops
			}
			got := statuses(h.Op, payload)
			if wire.FirstBad(got) < 0 { // it opened before the nonsense came
				h, payload, err = p.reader.Next()
				require.NoError(t, err)
				got = statuses(h.Op, payload)
			}
			require.Equal(t, 1, wire.FirstBad(got), "%+v", got)
			require.Equal(t, "fake", got[1].NodeID)
			requireKind(t, c.kind, got[1].Code, got[1].Reason)
			p.expectEnd()
			require.Zero(t, a.idleNeighbours())
		})
	}
}

func ackBytes(t *testing.T, seqno uint64) []byte {
	b, err := wire.AppendPacket(nil, wire.Header{Op: wire.OpAck, Seqno: seqno},
		&wire.Ack{BodyVersion: wire.BodyVersion, Seqno: seqno, Hops: []wire.HopStatus{{NodeID: "fake"}}})
	require.NoError(t, err)
	return b
}

// An idle connection on which something comes is of no use.
func TestAnIdleNeighbourThatTalksIsClosed(t *testing.T) {
	talk, closed := make(chan struct{}), make(chan struct{})
	hop := fakeHop(t, "fake", func(conn net.Conn) {
		var talker sync.WaitGroup
		talker.Go(func() {
			<-talk
			_, _ = conn.Write([]byte("more"))
		})
		ackEverything(conn, make(chan struct{}, 1))
		close(closed)
		talker.Wait()
	})
	a := startNode(t, "a", oneLoop())
	p := dial(t, a.server.Addr())
	p.open(openWrite(newChunkID(), []wire.Hop{hop}))
	require.NoError(t, p.data([]byte("abc"), wire.FlagSeal))
	p.waitAcked(1)
	eventually(t, "the connection is kept", func() bool { return a.idleNeighbours() == 1 })
	close(talk)
	eventually(t, "and given up", func() bool { return a.idleNeighbours() == 0 })
	eventually(t, "the connection ends", func() bool {
		select {
		case <-closed:
			return true
		default:
			return false
		}
	})
}

// A small packet that the socket takes only in part goes on through the sender,
// byte for byte and in order, and after it the loop writes again. A small receive
// buffer makes it full in the middle of a packet, and the rest slow.
func TestASmallPacketThatTheSocketTakesInPart(t *testing.T) {
	const rounds, packets, payload = 2, 16, 12 << 10
	read := make(chan struct{})
	hop := fakeHop(t, "fake", func(conn net.Conn) {
		_ = conn.(*net.TCPConn).SetReadBuffer(16 << 10)
		hops := []wire.HopStatus{{NodeID: "fake"}}
		r := wire.NewPacketReader(conn, 1<<20)
		_, _, err := r.Next()
		answer, _ := wire.AppendPacket(nil, wire.Header{Op: wire.OpOpenAck},
			&wire.OpenAck{BodyVersion: wire.BodyVersion, WindowBytes: 8 << 20, Hops: hops})
		for n := 0; err == nil; n++ {
			if _, err = conn.Write(answer); err == nil && n%packets == 0 {
				<-read
			}
			var h wire.Header
			if h, _, err = r.Next(); err == nil { // it verifies header and payload
				answer, _ = wire.AppendPacket(nil, wire.Header{Op: wire.OpAck, Seqno: h.Seqno},
					&wire.Ack{BodyVersion: wire.BodyVersion, Seqno: h.Seqno, Hops: hops})
			}
		}
	})
	a := startNode(t, "a", oneLoop())
	t.Cleanup(func() { close(read) }) // first, if something fails
	id := newChunkID()
	p := dial(t, a.server.Addr())
	o := openWrite(id, []wire.Hop{hop})
	o.WindowBytes, o.ChunkSize = 8<<20, 8<<20
	p.open(o)
	var d *downstream
	var err error
	a.onLoop(func(l *loop) {
		for c := range l.connections {
			d = c.downstream
		}
		err = unix.SetsockoptInt(d.neighbour.raw.Fd(), unix.SOL_SOCKET, unix.SO_SNDBUF, 16<<10)
	})
	require.NoError(t, err)
	content := pattern(id, payload*packets*rounds)
	for round := range rounds {
		for i := range packets {
			at := (round*packets + i) * payload
			require.NoError(t, p.data(content[at:at+payload], 0))
		}
		eventually(t, "the socket is full", func() bool { return d.undelivered.Load() > 0 })
		read <- struct{}{}
		p.waitAcked(uint64((round + 1) * packets))
		eventually(t, "the sender is done", func() bool { return d.undelivered.Load() == 0 })
	}
}
