package dataplane

import (
	"math"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/invariants"
)

// stream writes packets of one size to an open session, again and again,
// without allocating: what is allocated meanwhile is the datanodes'.
type stream struct {
	peer     *peer
	packet   []byte
	inflight int // packets
	window   int // packets
}

func openStream(t testing.TB, nodes []*testNode, payloadBytes int) *stream {
	p := dial(t, nodes[0].server.Addr())
	o := openWrite(newChunkID(), hops(nodes[1:]))
	o.ChunkSize = 1 << 30
	p.open(o)
	return &stream{
		peer: p, packet: make([]byte, wire.HeaderBytes+payloadBytes),
		window: int(p.ack.WindowBytes / wire.WindowCost(payloadBytes)),
	}
}

// send sends count packets and waits for the acks of all.
func (s *stream) send(count int) error {
	payload := len(s.packet) - wire.HeaderBytes
	for range count {
		for s.inflight >= s.window {
			if err := s.takeAck(); err != nil {
				return err
			}
		}
		s.peer.seqno++
		wire.PutHeader(s.packet, wire.Header{Op: wire.OpData, Length: uint32(payload), Seqno: s.peer.seqno,
			Offset: s.peer.offset})
		wire.Seal(s.packet)
		s.peer.offset += int64(payload)
		if _, err := s.peer.conn.Write(s.packet); err != nil {
			return err
		}
		s.inflight++
	}
	for s.inflight > 0 {
		if err := s.takeAck(); err != nil {
			return err
		}
	}
	return nil
}

func (s *stream) takeAck() error {
	h, _, err := s.peer.reader.Next()
	if err != nil {
		return err
	}
	s.inflight = int(s.peer.seqno - h.Seqno)
	return nil
}

// TestThePipelineAllocatesNothingPerPacket sends packets through three datanodes,
// real sockets and files, and counts all allocations of the process. What is
// left is gnet's: two small ones (together below 100 bytes) for each time that a
// loop is woken, and a wake-up serves all that has come since the last one.
func TestThePipelineAllocatesNothingPerPacket(t *testing.T) {
	if invariants.Enabled {
		t.Skip("NOT CHECKED: under the invariants tag and the race detector buffers are not reused")
	}
	const packets, payload = 1500, 16 << 10
	nodes := startNodes(t, 3, Limits{})
	s := openStream(t, nodes, payload)
	require.NoError(t, s.send(packets)) // pools fill, queues get their memory
	wakes := func() (n uint64) {
		for _, node := range nodes {
			n += node.server.counters.wakes.Load()
		}
		return n
	}
	best := math.Inf(1)
	// Pools fill in the first rounds, and other goroutines of the process may
	// allocate at any time: one quiet round is the proof.
	for round := 0; round < 10 && best >= 0.1; round++ {
		var before, after runtime.MemStats
		wakesBefore := wakes()
		runtime.ReadMemStats(&before)
		require.NoError(t, s.send(packets))
		runtime.ReadMemStats(&after)
		all, woken := float64(after.Mallocs-before.Mallocs)/packets, float64(wakes()-wakesBefore)/packets
		t.Logf("per packet at three datanodes: %.2f allocations, %.2f wake-ups", all, woken)
		best = min(best, all-gnetAllocsPerWake*woken)
	}
	require.Less(t, best, 0.1, "allocations per packet besides those of gnet")
}

// gnetAllocsPerWake: EventLoop.Execute makes a closure and a queue node.
const gnetAllocsPerWake = 2

// BenchmarkPipeline sends packets through three datanodes on loopback and a
// temporary folder.
func BenchmarkPipeline(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10, 256 << 10} {
		b.Run(sizeName(size), func(b *testing.B) {
			s := openStream(b, startNodes(b, 3, Limits{}), size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			most := (1<<30)/size - 1 // of a chunk
			if b.N > most {
				b.Skipf("%d packets do not fit a chunk", b.N)
			}
			b.ResetTimer()
			if err := s.send(b.N); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func sizeName(bytes int) string {
	if bytes >= 1<<20 {
		return "1MiB"
	}
	return map[int]string{4 << 10: "4KiB", 64 << 10: "64KiB", 256 << 10: "256KiB"}[bytes]
}
