package dataplane

import (
	"context"
	"fmt"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
)

func TestPlanRecovery(t *testing.T) {
	const open, sealed, recovered, corrupt = chunk.Open, chunk.Sealed, chunk.Recovered, chunk.Corrupt
	has := func(node string, generation uint64, length int64, state chunk.State) recoverAnswer {
		return recoverAnswer{hop: wire.Hop{NodeID: node},
			reply: wire.RecoverReply{Generation: generation, Length: length,
				State: uint8(state), Restarted: state == recovered}}
	}
	says := func(node string, kind fault.Kind) recoverAnswer {
		return recoverAnswer{hop: wire.Hop{NodeID: node}, err: fault.New(kind, "x", "y")}
	}
	for _, c := range []struct {
		name    string
		answers []recoverAnswer
		minimum chunk.Generation
		cut     int64 // 0: none
		length  int64
		members string
		kind    fault.Kind
	}{
		{name: "all open: the shortest", answers: []recoverAnswer{has("a", 1, 300, open), has("b", 1, 200, open),
			has("c", 1,
				250, open)}, length: 200, members: "abc"},
		{name: "a restarted one is cut too", answers: []recoverAnswer{has("a", 1, 300, open),
			has("b", 1, 400, recovered)},
			length: 300, members: "ab"},
		{name: "a restarted one that lost flushed bytes is left out",
			answers: []recoverAnswer{has("a", 1, 300, open), has("b", 1, 100, recovered)}, length: 300, members: "a"},
		{name: "all restarted: the longest", answers: []recoverAnswer{has("a", 1, 100, recovered), has("b", 1, 300,
			recovered), has("c", 1, 300, recovered)}, length: 300, members: "bc"},
		{name: "all restarted, one silent: not sure",
			answers: []recoverAnswer{has("a", 1, 100, recovered),
				says("b", fault.Unavailable)}, kind: fault.Unavailable},
		{name: "all restarted, one stops: not sure",
			answers: []recoverAnswer{has("a", 1, 100, recovered), says("b", fault.Closed)}, kind: fault.Unavailable},
		{name: "one lives, one silent: sure", answers: []recoverAnswer{has("a", 1, 100, open),
			says("b", fault.Unavailable)},
			length: 100, members: "a"},
		{name: "all restarted, one has lost it", answers: []recoverAnswer{has("a", 1, 100, recovered), says("b",
			fault.NotFound), says("c", fault.CorruptData)}, length: 100, members: "a"},
		{name: "sealed wins", answers: []recoverAnswer{has("a", 1, 300, open), has("b", 1, 500, sealed),
			has("c", 1, 500,
				recovered)}, length: 500, members: "bc"},
		{name: "an older generation does not count", answers: []recoverAnswer{has("a", 2, 300, open),
			has("b", 1, 200, open)},
			minimum: 2, length: 300, members: "a"},
		{name: "the newest generation decides", answers: []recoverAnswer{has("a", 2, 300, open), has("b", 1, 200, open),
			has("c", 2, 280, open)}, minimum: 1, length: 280, members: "ac"},
		{name: "an older one that lives beats a newer one that lost",
			answers: []recoverAnswer{has("a", 2, 100, recovered),
				has("b", 1, 200, open)}, minimum: 1, length: 200, members: "b"},
		{name: "an older one that is shorter does not",
			answers: []recoverAnswer{has("a", 2, 300, recovered), has("b", 1, 200,
				open)}, minimum: 1, length: 300, members: "a"},
		{name: "older ones that are as long are kept", answers: []recoverAnswer{has("a", 2, 100, open), has("b", 1, 100,
			open), has("c", 1, 120, recovered), has("d", 1, 99, open)}, minimum: 1, length: 100, members: "abc"},
		{name: "an older one that is sealed", answers: []recoverAnswer{has("a", 2, 500, sealed), has("b", 1, 500, open),
			has("c", 1, 700, sealed)}, minimum: 1, length: 500, members: "abc"},
		{name: "all restarted: an older one has what a newer one lost",
			answers: []recoverAnswer{has("a", 2, 100, recovered),
				has("b", 1, 200, recovered), has("c", 1, 200, recovered)}, minimum: 1, length: 200, members: "bc"},
		{name: "corrupt", answers: []recoverAnswer{has("a", 1, 300, corrupt), has("b", 1, 200, open)}, length: 200,
			members: "b"},
		{name: "truncate", answers: []recoverAnswer{has("a", 1, 300, sealed), has("b", 1, 300, sealed)}, cut: 70,
			length:  70,
			members: "ab"},
		{name: "truncate beyond the end", answers: []recoverAnswer{has("a", 1, 300, sealed)}, cut: 301,
			kind: fault.CorruptData},
		{name: "nobody has it", answers: []recoverAnswer{says("a", fault.NotFound), says("b", fault.NotFound)},
			kind: fault.NotFound},
		{name: "nobody has it, one silent", answers: []recoverAnswer{says("a", fault.NotFound),
			says("b", fault.Unavailable)},
			kind: fault.Unavailable},
		{name: "fenced", answers: []recoverAnswer{says("a", fault.StaleGeneration), says("b", fault.NotFound)},
			kind: fault.StaleGeneration},
		{name: "only stale ones", answers: []recoverAnswer{has("a", 1, 300, open)}, minimum: 2, kind: fault.NotFound},
		{name: "empty replicas", answers: []recoverAnswer{has("a", 1, 0, open), has("b", 1, 0, open)}, length: 0,
			members: "ab"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := datanode.RecoverChunk{Generation: 9, MinimumGeneration: c.minimum, Length: -1}
			if c.cut > 0 {
				r.Length = c.cut
			}
			plan, err := planRecovery(r, c.answers)
			if c.kind != 0 {
				require.ErrorIs(t, err, c.kind)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.length, plan.length)
			var names string
			for _, m := range plan.members {
				names += m.NodeID
			}
			require.Equal(t, c.members, names)
		})
	}
}

func TestRecoveryBringsReplicasToOneLength(t *testing.T) {
	for leader := range 3 {
		t.Run(fmt.Sprint(leader), func(t *testing.T) {
			nodes := startNodes(t, 3, Limits{})
			id := newChunkID()
			content := pattern(id, 400_000)
			p := dial(t, nodes[0].server.Addr())
			p.open(openWrite(id, hops(nodes[1:])))
			p.write(content[:200_000], 50_000, 0)
			// Bytes that never got acked reach the first hop only.
			o := openWrite(id, nil)
			o.Mode, o.PreviousGeneration, o.Generation, o.Offset = wire.ModeResume, 1, 1, 200_000
			extra := dial(t, nodes[0].server.Addr())
			extra.open(o)
			extra.write(content[200_000:330_000], 65_000, 0)

			result, err := nodes[leader].server.Recover(context.Background(),
				datanode.RecoverChunk{Chunk: id, Generation: 4, MinimumGeneration: 1, Replicas: hops(nodes),
					Length: -1})
			require.NoError(t, err)
			require.Equal(t, datanode.RecoverResult{Length: 200_000, NodeIDs: []string{"node-0", "node-1", "node-2"}},
				result)
			requireContent(t, nodes, id, content[:200_000])
			for _, n := range nodes {
				r, err := n.store.Stat(id)
				require.NoError(t, err)
				require.Equal(t, chunk.Replica{ID: id, Generation: 4, Length: 200_000, State: chunk.Sealed}, r)
			}
			// The old writers are fenced.
			require.NoError(t, p.data([]byte("late"), 0))
			bad := p.waitBroken()
			requireKind(t, fault.StaleGeneration, bad.Hops[wire.FirstBad(bad.Hops)].Code, "")

			// A second recovery (truncation) of the sealed chunk.
			result, err = nodes[leader].server.Recover(context.Background(),
				datanode.RecoverChunk{Chunk: id, Generation: 5, MinimumGeneration: 4, Replicas: hops(nodes),
					Length: 77_777})
			require.NoError(t, err)
			require.EqualValues(t, 77_777, result.Length)
			requireContent(t, nodes, id, content[:77_777])
		})
	}
}

// A writer that comes with his first bytes when the chunk was found empty, and
// closed, is refused: he must not be told that they were flushed.
func TestAWriterThatComesAfterTheRecoveryIsRefused(t *testing.T) {
	nodes := startNodes(t, 3, Limits{})
	id := newChunkID()
	result, err := nodes[1].server.Recover(t.Context(),
		datanode.RecoverChunk{Chunk: id, Generation: 4, MinimumGeneration: 1, Replicas: hops(nodes), Length: -1})
	require.NoError(t, err)
	require.Equal(t, datanode.RecoverResult{}, result)
	p := dial(t, nodes[0].server.Addr())
	p.sendOpen(openWrite(id, hops(nodes[1:])))
	var ack wire.OpenAck
	_, err = p.reader.Expect(wire.OpOpenAck, &ack)
	require.NoError(t, err)
	requireKind(t, fault.StaleGeneration, ack.Hops[0].Code, ack.Hops[0].Reason)
	for _, n := range nodes {
		_, err := n.store.Stat(id)
		require.ErrorIs(t, err, fault.NotFound)
	}
}

func TestRecoveryGoesOnWithoutAHolderThatIsGone(t *testing.T) {
	nodes := startNodes(t, 3, Limits{})
	id := newChunkID()
	content := pattern(id, 100_000)
	p := dial(t, nodes[0].server.Addr())
	all := hops(nodes)
	p.open(openWrite(id, all[1:]))
	p.write(content, 256<<10, wire.FlagSync)
	nodes[1].stop()
	result, err := nodes[2].server.Recover(context.Background(),
		datanode.RecoverChunk{Chunk: id, Generation: 2, MinimumGeneration: 1, Replicas: all, Length: -1})
	require.NoError(t, err)
	require.Equal(t, []string{"node-0", "node-2"}, result.NodeIDs)
	require.EqualValues(t, 100_000, result.Length)

	// Two that say that they have none are an answer; one that says nothing is not.
	result, err = nodes[2].server.Recover(context.Background(),
		datanode.RecoverChunk{Chunk: newChunkID(), Generation: 2, Replicas: []wire.Hop{all[0], all[2]}, Length: -1})
	require.NoError(t, err)
	require.Equal(t, datanode.RecoverResult{}, result)
	_, err = nodes[2].server.Recover(context.Background(),
		datanode.RecoverChunk{Chunk: newChunkID(), Generation: 2, Replicas: all, Length: -1})
	require.ErrorIs(t, err, fault.Unavailable)
	_, err = nodes[2].server.Recover(context.Background(), datanode.RecoverChunk{Chunk: id, Generation: 2,
		MinimumGeneration: 1, Replicas: []wire.Hop{all[0], all[2]}, Length: -1})
	require.ErrorIs(t, err, fault.StaleGeneration, "a generation recovers once")
}

func TestRecoveryAfterAllHoldersRestarted(t *testing.T) {
	nodes := startNodes(t, 3, Limits{})
	id := newChunkID()
	content := pattern(id, 150_000)
	p := dial(t, nodes[0].server.Addr())
	p.open(openWrite(id, hops(nodes[1:])))
	p.write(content, 40_000, wire.FlagSync)
	addresses := hops(nodes)
	for i, n := range nodes {
		n.stop()
		n.start(addresses[i].Address, Limits{})
	}
	result, err := nodes[0].server.Recover(context.Background(),
		datanode.RecoverChunk{Chunk: id, Generation: 2, MinimumGeneration: 1, Replicas: addresses, Length: -1})
	require.NoError(t, err)
	require.Equal(t, datanode.RecoverResult{Length: 150_000, NodeIDs: []string{"node-0", "node-1", "node-2"}}, result)
	requireContent(t, nodes, id, content)
}

func TestRecoveryIsBoundedByItsContext(t *testing.T) {
	n := startNode(t, "a", Limits{})
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel, answers nothing
	require.NoError(t, err)
	defer l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = n.server.Recover(ctx, datanode.RecoverChunk{Chunk: newChunkID(), Generation: 2,
		Replicas: []wire.Hop{{NodeID: "x", Address: l.Addr().String()}}, Length: -1})
	require.ErrorIs(t, err, fault.Unavailable)
}
