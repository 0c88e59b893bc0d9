package pipeline

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/whispering-woods/ww/client/internal/datanode"
	"github.com/whispering-woods/ww/client/internal/health"
	"github.com/whispering-woods/ww/client/internal/lifetime"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/bufpool"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hostile serves one fixed answer to every request.
func hostile(t testing.TB, answer []byte) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var group sync.WaitGroup
	group.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer c.Close()
				b := make([]byte, 4096)
				if _, err := c.Read(b); err == nil {
					_, _ = c.Write(answer)
				}
			})
		}
	})
	t.Cleanup(func() { _ = listener.Close(); group.Wait() })
	return listener.Addr().String()
}

// writeTwoPackets opens a session with a datanode, sends two packets and waits. No buffer and no connection may be
// left.
func writeTwoPackets(t *testing.T, address string) {
	ctx, life, buffers, nodes := t.Context(), lifetime.New(), bufpool.New(), health.NewNodes(clock.Real{})
	datanodes := datanode.New(datanode.Options{DialTimeout: 3 * time.Second, DataTimeout: time.Second,
		SilenceTimeout: time.Second,
		Bandwidth:      datanode.NewBandwidth(clock.Real{}), Buffers: buffers, Nodes: nodes, Times: &health.ReadTimes{},
		Clock: clock.Real{}})
	p := New(Options{Datanodes: datanodes, Nodes: nodes, Life: life, Buffers: buffers, Clock: clock.Real{},
		Logger: slog.New(slog.DiscardHandler), WindowBytes: 8 << 20, NodesLeast: 1, SlowBytesPerSecond: 16 << 20})
	defer func() {
		require.True(t, life.Close())
		datanodes.Pool.Close()
	}()
	first := p.NewPacket(0, 4)
	first.Size = 4
	s, err := p.openSession(ctx, ctx, sessionTarget{id: chunk.ID{1}, generation: 1, mode: wire.ModeCreate,
		chunkSize: chunk.ChecksumBlockBytes, hops: []wire.Hop{{NodeID: "dn0", Address: address}}}, first, nil)
	if err != nil {
		first.Release()
	} else {
		second := p.NewPacket(4, 4)
		second.Size, second.Flags = 4, wire.FlagSeal
		taken, err := s.transmit(ctx, second)
		if !taken {
			second.Release()
		}
		if err == nil {
			err = s.await(ctx, func() bool { return s.mu.finished })
		}
		if err != nil {
			require.NotZero(t, fault.KindOf(err), "an error without a kind: %v", err)
		}
		releaseAll(s.close())
	}
	require.Zero(t, buffers.Outstanding())
	require.Zero(t, datanodes.Pool.InUse())
}

// FuzzAck: whatever a datanode answers in a write session, the writer ends with an error or with the file written, and
// no buffer is lost.
func FuzzAck(f *testing.F) {
	packet := func(op wire.Op, body any) []byte {
		b, err := wire.AppendPacket(nil, wire.Header{Op: op}, body)
		require.NoError(f, err)
		return b
	}
	ok := []wire.HopStatus{{NodeID: "dn0"}}
	open := packet(wire.OpOpenAck, &wire.OpenAck{BodyVersion: 1, WindowBytes: 1 << 20, Hops: ok})
	f.Add(open)
	f.Add(append(bytes.Clone(open), packet(wire.OpAck, &wire.Ack{BodyVersion: 1, Seqno: 1, Length: 4, Hops: ok})...))
	f.Add(append(bytes.Clone(open), packet(wire.OpAck, &wire.Ack{BodyVersion: 1, Seqno: 900, Length: 4, Hops: ok})...))
	f.Add(packet(wire.OpAck, &wire.Ack{BodyVersion: 1, Seqno: 1, Length: 4, Hops: ok}))
	f.Add(packet(wire.OpError, &wire.Status{Code: 15, NodeID: "dn7", Reason: "no"}))
	f.Add(append(bytes.Clone(open), open...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, answer []byte) {
		writeTwoPackets(t, hostile(t, answer))
	})
}

// TestASessionWaitsForTheHopsThatItNeeds: two of three hops take long to open their replicas. The session goes on
// without them only if the one that is left is enough.
func TestASessionWaitsForTheHopsThatItNeeds(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	p := New(Options{Datanodes: datanode.New(datanode.Options{DataTimeout: time.Minute, SilenceTimeout: time.Minute})})
	s := &session{pipelines: p, conn: datanode.NewConnection(here, "a:1"), began: time.Now(),
		target: sessionTarget{id: chunk.ID{1}, hops: []wire.Hop{{NodeID: "a"}, {NodeID: "b"}, {NodeID: "c"}}}}
	opening := []string{"b", "c"}
	require.NoError(t, s.onAlive(opening), "at first all are waited for")
	s.began = s.began.Add(-openPatience)
	for least, goesOn := range []bool{true, true, false, false} {
		s.target.least = least
		err := s.onAlive(opening)
		require.Equal(t, goesOn, err != nil, "least %d: %v", least, err)
		var broken *sessionError
		if errors.As(err, &broken) {
			require.Len(t, broken.failed, 2)
		}
	}
	require.NoError(t, s.onAlive(nil), "it waits for nobody")
	s.target.least = 0
	require.NoError(t, s.onAlive([]string{"a", "b", "c"}), "one is needed at least")
	s.mu.opened = true
	require.NoError(t, s.onAlive(opening), "it is open")
}
