package dataplane

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

func TestThreeHopsHoldTheSameBytes(t *testing.T) {
	nodes := startNodes(t, 3, Limits{})
	const block, packet = chunk.ChecksumBlockBytes, 256 << 10
	for _, size := range []int{0, 1, 511, 4096, block - 1, block, block + 1, packet - 1, packet, packet + 1,
		packet + block, 2*packet + 17, 5*packet - 1, testChunkSize - 1, testChunkSize} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			id := newChunkID()
			content := pattern(id, size)
			p := dial(t, nodes[0].server.Addr())
			p.open(openWrite(id, hops(nodes[1:])))
			p.write(content, packet, wire.FlagSeal)
			requireContent(t, nodes, id, content)
			for _, n := range nodes {
				r, err := n.store.Stat(id)
				require.NoError(t, err)
				require.Equal(t, chunk.Replica{ID: id, Generation: 1, Length: int64(size), State: chunk.Sealed}, r)
			}
		})
	}
}

func TestOddPacketSizes(t *testing.T) {
	nodes := startNodes(t, 2, Limits{})
	for _, packet := range []int{1000, 4096, 5000, 65536, 65537, 100_000, 1 << 20} {
		t.Run(fmt.Sprint(packet), func(t *testing.T) {
			id := newChunkID()
			content := pattern(id, 1<<20+333)
			p := dial(t, nodes[0].server.Addr())
			p.open(openWrite(id, hops(nodes[1:])))
			p.write(content, packet, wire.FlagSeal)
			requireContent(t, nodes, id, content)
		})
	}
}

func TestAConnectionServesOneThingAfterAnother(t *testing.T) {
	nodes := startNodes(t, 3, Limits{})
	p := dial(t, nodes[0].server.Addr())
	for i := range 5 {
		id := newChunkID()
		content := pattern(id, 100_000*(i+1))
		p.open(openWrite(id, hops(nodes[1:])))
		p.write(content, 256<<10, wire.FlagSeal)
		_, got := p.read(id, 0, -1)
		require.Equal(t, content, got)
		var stat wire.StatReply
		p.send(wire.Header{Op: wire.OpStat}, &wire.StatReplica{ChunkID: id[:], WithDigest: true})
		_, err := p.reader.Expect(wire.OpStatReply, &stat)
		require.NoError(t, err)
		require.EqualValues(t, len(content), stat.Length)
		require.EqualValues(t, chunk.Sealed, stat.State)
		digest, err := nodes[2].store.Digest(id)
		require.NoError(t, err)
		require.Equal(t, digest, stat.Digest)
	}
	// The neighbours' connections were reused all along.
	require.EqualValues(t, 1, nodes[1].server.Stats().ConnectionsAccepted)
	require.EqualValues(t, 1, nodes[2].server.Stats().ConnectionsAccepted)
}

// Nearly all bytes of a bulk transfer go from the socket into the buffer that
// the disk and the next hop read.
func TestBulkBytesAreReadInPlace(t *testing.T) {
	nodes := startNodes(t, 3, Limits{})
	for range 4 {
		storeChunk(t, nodes, pattern(newChunkID(), testChunkSize))
	}
	for _, n := range nodes {
		stats := n.server.Stats()
		require.EqualValues(t, 4*testChunkSize, stats.BytesReceived)
		require.Greater(t, stats.BytesInPlace, stats.BytesReceived*6/10, "node %s", n.id)
	}
}

func TestASmallFileTakesOneRoundTrip(t *testing.T) {
	nodes := startNodes(t, 3, Limits{})
	id := newChunkID()
	content := pattern(id, 4096)
	p := dial(t, nodes[0].server.Addr())
	p.sendOpen(openWrite(id, hops(nodes[1:])))
	require.NoError(t, p.data(content, wire.FlagSeal)) // before any answer
	require.Equal(t, -1, wire.FirstBad(p.expectOpenAck().Hops))
	p.waitAcked(1)
	requireContent(t, nodes, id, content)
}

func TestFlushSyncCloseResumeAndAppend(t *testing.T) {
	nodes := startNodes(t, 3, Limits{})
	id := newChunkID()
	content := pattern(id, 300_000)
	p := dial(t, nodes[0].server.Addr())
	o := openWrite(id, hops(nodes[1:]))
	p.open(o)
	require.NoError(t, p.data(content[:1000], 0))
	p.waitAcked(1)
	requireContent(t, nodes, id, content[:1000]) // flushed: visible
	require.NoError(t, p.data(nil, wire.FlagSync))
	p.waitAcked(2)
	require.NoError(t, p.data(nil, wire.FlagClose))
	p.waitAcked(3)
	for _, n := range nodes {
		r, err := n.store.Stat(id)
		require.NoError(t, err)
		require.Equal(t, chunk.Open, r.State)
	}

	o.Mode, o.PreviousGeneration, o.Generation, o.Offset = wire.ModeResume, 1, 2, 600
	p.open(o)
	p.write(content[600:200_000], 50_000, wire.FlagSeal)
	requireContent(t, nodes, id, content[:200_000])

	o.Mode, o.PreviousGeneration, o.Generation, o.Offset = wire.ModeAppend, 2, 3, 200_000
	p.open(o)
	p.write(content[200_000:], 64<<10, wire.FlagSeal)
	requireContent(t, nodes, id, content)
	for _, n := range nodes {
		r, err := n.store.Stat(id)
		require.NoError(t, err)
		require.Equal(t, chunk.Replica{ID: id, Generation: 3, Length: 300_000, State: chunk.Sealed}, r)
	}
}

func TestAnOpenThatFailsNamesTheHop(t *testing.T) {
	nodes := startNodes(t, 3, Limits{})
	for at := range nodes {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			id := newChunkID()
			storeHere := dial(t, nodes[at].server.Addr())
			storeHere.open(openWrite(id, nil))
			storeHere.write([]byte("there already"), 4096, wire.FlagSeal)

			p := dial(t, nodes[0].server.Addr())
			p.sendOpen(openWrite(id, hops(nodes[1:])))
			ack := p.expectOpenAck()
			require.Equal(t, at, wire.FirstBad(ack.Hops), "%+v", ack.Hops)
			requireKind(t, fault.Exists, ack.Hops[at].Code, ack.Hops[at].Reason)
			require.Equal(t, nodes[at].id, ack.Hops[at].NodeID)
			_, _, err := p.reader.Next()
			require.Error(t, err, "the connection ends")
		})
	}
}
