package disk

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/chunk"
)

// The shards of a volume are all of its replicas, each once: what a pass of the scrub goes over.
func TestReplicasOfAVolumeAreListedByShard(t *testing.T) {
	l := startLossy(t)
	seen := make(map[chunk.ID]bool)
	for _, v := range l.Store.volumes.all() {
		count := 0
		for last := range 256 {
			for _, id := range l.index.on(v, byte(last)) {
				require.Equal(t, byte(last), id[len(id)-1])
				require.False(t, seen[id])
				seen[id] = true
				count++
			}
		}
		require.EqualValues(t, v.replicas.Load(), count)
	}
	require.Len(t, seen, lossyReplicas)
	require.Len(t, l.index.all(), lossyReplicas)
}

// The scrub asks for each of the 256 shards in turn: each must cost what is in it, not what the node has.
func BenchmarkAShardOfAMillionReplicas(b *testing.B) {
	index, v := newIndex(), &volume{}
	for n := range 1 << 20 {
		id := chunk.NewID(uint64(n), [10]byte{9: byte(n)})
		index.mu.replicas.of(id)[id] = &replica{id: id, volume: v}
	}
	for b.Loop() {
		if len(index.on(v, 7)) != 1<<12 {
			b.Fatal("a shard has other replicas")
		}
	}
}
