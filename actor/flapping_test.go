package actor

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
)

// flapper is a cluster of steady nodes and one, a, that comes and goes. Orders are carried out within a tick.
type flapper struct {
	*harness
	nodes  []string
	disks  map[string]map[chunk.ID]chunk.Replica
	down   bool // a
	copied int64
}

func newFlapper(t *testing.T, replication uint32) *flapper {
	f := &flapper{
		harness: newHarness(t, Config{DefaultChunkSize: 1 << 16, DefaultReplication: replication}),
		nodes:   []string{"a", "b", "c", "d", "e", "f"}, disks: make(map[string]map[chunk.ID]chunk.Replica),
	}
	f.slow = true
	f.start(len(f.nodes))
	for _, id := range f.nodes {
		f.disks[id] = make(map[chunk.ID]chunk.Replica)
	}
	f.elapse(40 * time.Second)
	for i := range 60 {
		for _, c := range f.write(1, fmt.Sprintf("/f%d", i), 1<<16, 1<<16, 1000) {
			length := []int64{1 << 16, 1000}[c.Index]
			for _, r := range c.Replicas {
				f.disks[r.NodeID][c.Chunk] = sealedReplica(c.Chunk, c.Generation, length)
			}
		}
	}
	return f
}

// volumes shows how full a node is.
func (f *flapper) volumes(id string) []datanode.VolumeState {
	used := int64(0)
	for _, r := range f.disks[id] {
		used += r.Length
	}
	return []datanode.VolumeState{{ID: "v", Healthy: true, CapacityBytes: 1 << 30, FreeBytes: 1<<30 - used}}
}

func (f *flapper) elapse(d time.Duration) {
	for end := f.mono + d; f.mono < end; {
		f.mono += f.s.config.TickInterval
		for _, id := range f.nodes {
			if id != "a" || !f.down {
				f.own(&Heartbeat{NodeID: id, Session: f.sessions[id], Volumes: f.volumes(id)})
			}
		}
		messages := f.own(&Tick{}).Messages
		for len(messages) > 0 {
			m := messages[0]
			messages = slices.Clone(messages[1:])
			if m.NodeID == "a" && f.down {
				continue
			}
			disk := f.disks[m.NodeID]
			delta := &Delta{NodeID: m.NodeID, Session: f.sessions[m.NodeID]}
			switch order := m.Body.(type) {
			case *datanode.CopyReplica:
				f.copied += order.Length
				disk[order.Chunk] = sealedReplica(order.Chunk, order.Generation, order.Length)
				delta.Stored = append(delta.Stored, disk[order.Chunk])
			case *datanode.DeleteReplicas:
				for _, r := range order.Replicas {
					delete(disk, r.ID)
					delta.Removed = append(delta.Removed, r)
				}
			case *datanode.SendReport:
				messages = append(messages, f.report(m.NodeID, f.held(m.NodeID)...).Messages...)
				continue
			default:
				continue
			}
			messages = append(messages, f.own(delta).Messages...)
		}
	}
}

func (f *flapper) held(id string) (replicas []chunk.Replica) {
	for _, r := range f.disks[id] {
		replicas = append(replicas, r)
	}
	slices.SortFunc(replicas, func(a, b chunk.Replica) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return replicas
}

func (f *flapper) leave() {
	f.down = true
	f.own(&NodeGone{NodeID: "a", Session: f.sessions["a"]})
}

func (f *flapper) comeBack() {
	f.down = false
	require.Nil(f.t, f.register("a").Reply.Err)
	f.report("a", f.held("a")...)
}

// TestFlappingCostsNoMoreThanTwoLosses: for ten minutes a node goes and comes back, in periods around the time after
// which it is dead, and that after which its chunks are copied. In all no more than twice as many bytes are copied
// as when it goes once, for good; and then every chunk has its replicas, no more and no fewer.
func TestFlappingCostsNoMoreThanTwoLosses(t *testing.T) {
	for _, replication := range []uint32{2, 3} {
		clean := newFlapper(t, replication)
		clean.leave()
		clean.elapse(5 * time.Minute)
		require.Positive(t, clean.copied)
		for _, period := range [][2]time.Duration{{7 * time.Second, 3 * time.Second}, {9 * time.Second, time.Second},
			{30 * time.Second, 2 * time.Second}, {39 * time.Second, 2 * time.Second},
			{45 * time.Second, 15 * time.Second}, {90 * time.Second, 60 * time.Second}} {
			t.Run(fmt.Sprintf("%d copies, %v away, %v there", replication, period[0], period[1]), func(t *testing.T) {
				f := newFlapper(t, replication)
				for end := f.mono + 10*time.Minute; f.mono < end; {
					f.leave()
					f.elapse(period[0])
					f.comeBack()
					f.elapse(period[1])
				}
				f.elapse(2 * time.Minute)
				t.Logf("copied %d bytes, a clean loss %d", f.copied, clean.copied)
				require.LessOrEqual(t, f.copied, 2*clean.copied)
				count := make(map[chunk.ID]uint32)
				for _, id := range f.nodes {
					for _, r := range f.disks[id] {
						count[r.ID]++
					}
				}
				require.Len(t, count, 120)
				for id, copies := range count {
					require.Equal(t, replication, copies, "chunk %s", id)
				}
			})
		}
	}
}
