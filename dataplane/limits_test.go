package dataplane

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
)

func TestConnectionsAreNoMoreThanDescriptorsAllow(t *testing.T) {
	for descriptors, want := range map[uint64]int{
		0: connectionsLeast, descriptorsReserved: connectionsLeast, 1024: (1024 - descriptorsReserved) / 4,
		4096: (4096 - descriptorsReserved) / 4, 65_536: 4096, math.MaxUint64: 4096,
	} {
		l, err := Limits{}.withDefaults()
		require.NoError(t, err)
		require.Equal(t, want < 4096, l.fitDescriptors(descriptors), "%d descriptors", descriptors)
		require.Equal(t, want, l.ConnectionsMax, "%d descriptors", descriptors)
	}
	few := Limits{ConnectionsMax: 3}
	require.False(t, few.fitDescriptors(10), "what is asked for is never raised")
	require.Equal(t, 3, few.ConnectionsMax)
}

// The sum is that of the comment, and follows what can be configured.
func TestMemoryMax(t *testing.T) {
	l, err := Limits{Loops: 2}.withDefaults()
	require.NoError(t, err)
	require.EqualValues(t, 130<<20+(32+64+48+96+8)<<20+32<<10, l.memoryMax())
	before := l.memoryMax()
	l.WindowBudgetBytes += 64 << 20
	require.EqualValues(t, 65<<20, l.memoryMax()-before)
	before = l.memoryMax()
	l.ConnectionsMax += 1024
	require.EqualValues(t, 24<<20, l.memoryMax()-before)
}

// A connection that once had thousands of packets under way is as small as any
// other when it is idle.
func TestAnIdleConnectionKeepsLittle(t *testing.T) {
	const packets = 2000
	b := newMachineBench(Limits{})
	id := chunk.NewID(1, [10]byte{1})
	open, err := wire.AppendPacket(nil, wire.Header{Op: wire.OpOpenWrite},
		&wire.OpenWrite{BodyVersion: 1, ChunkID: id[:], Generation: 1, Mode: wire.ModeCreate, ChunkSize: 64 << 20})
	require.NoError(t, err)
	b.m.receive(open, 0)
	b.drain()
	b.m.onOpened(b.session, nil, 0)
	b.drain()
	var all []byte
	for i := range packets {
		var flags wire.Flags
		if i == packets-1 {
			flags = wire.FlagSeal
		}
		all = append(all, dataPacket(uint64(i+1), int64(i)*4096, flags, make([]byte, 4096))...)
	}
	b.m.receive(all, 0)
	b.drain()
	require.Equal(t, packets, b.session.inflight.Len(), "all are under way")
	b.stored(packets, nil)
	b.drain()
	require.Equal(t, phaseIdle, b.m.phase)
	require.LessOrEqual(t, cap(b.m.free), packetsKept)
	require.LessOrEqual(t, cap(b.m.effects), effectsKept)
	require.LessOrEqual(t, cap(b.m.spare), effectsKept)
	require.LessOrEqual(t, cap(b.m.out), replyBytesKept)
	require.Zero(t, b.m.node.buffers.Outstanding())
}
