package actor

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
)

// TestTheLastReplicaIsCopiedFirst: of more chunks than one Tick examines one replica is lost, and they wait for the
// grace of its node. When a second one of a chunk is lost, it does not wait until the others have been looked at.
func TestTheLastReplicaIsCopiedFirst(t *testing.T) {
	h := newHarness(t, Config{DefaultReplication: 3, DefaultChunkSize: 1 << 16, RepairGrace: time.Hour,
		WriteCopiesMin: 1})
	h.slow = true
	h.start(3)
	h.own(&SafeMode{Action: SafeModeLeave})
	lengths := make([]int64, 250)
	for i := range lengths {
		lengths[i] = 1 << 16
	}
	var chunks []LocatedChunk
	for i := range 80 {
		chunks = append(chunks, h.write(1, fmt.Sprintf("/f%d", i), 1<<16, lengths...)...)
	}
	h.register("d")
	h.report("d")
	h.pass(time.Hour+time.Second, "a", "b", "c", "d")
	require.Empty(t, bodies[datanode.CopyReplica](h.pass(15*time.Second, "b", "c", "d")), "a may come back")
	require.EqualValues(t, len(chunks), read[ClusterStatusResult](h, &ClusterStatus{}).UnderReplicated)

	// Wherever the look at the others is.
	for _, c := range []LocatedChunk{chunks[0], chunks[len(chunks)/2], chunks[len(chunks)-1]} {
		lost := sealedReplica(c.Chunk, c.Generation, 1<<16)
		h.own(&Delta{NodeID: "b", Session: h.sessions["b"], Removed: []chunk.Replica{lost}})
		copies := bodies[datanode.CopyReplica](h.pass(h.s.config.TickInterval, "b", "c", "d"))
		require.Len(t, copies, 1)
		require.Equal(t, c.Chunk, copies[0].Chunk)
	}
}
