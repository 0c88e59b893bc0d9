package replicas

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/limits"
)

// RepairLimits bound the repair copies of the whole cluster.
type RepairLimits struct {
	Streams     int   // copies under way; at least 1
	NodeStreams int   // of these to one datanode; at least 1
	Bandwidth   int64 // bytes per second that copies begin with; 0: no bound
}

// Check says what is wrong with the limits; "" if nothing is.
func (l RepairLimits) Check() string {
	switch {
	case l.Streams < 1 || l.Streams > limits.RepairStreamsMax:
		return fmt.Sprintf("%d repair streams: want 1 to %d", l.Streams, limits.RepairStreamsMax)
	case l.NodeStreams < 1 || l.NodeStreams > limits.RepairNodeStreamsMax:
		return fmt.Sprintf("%d repair streams to one datanode: want 1 to %d", l.NodeStreams,
			limits.RepairNodeStreamsMax)
	case l.Bandwidth != 0 && l.Bandwidth < limits.CopyBandwidthMin:
		return fmt.Sprintf("a repair bandwidth of %d bytes per second: want 0 (no bound) or at least %d", l.Bandwidth,
			limits.CopyBandwidthMin)
	}
	return ""
}

// RepairStatus is how far the repair is. It holds for the namenode that answers, since it became active.
type RepairStatus struct {
	Limits RepairLimits
	// Queue says how many chunks have so few replicas, the most endangered first; those being copied are among them.
	Queue []Danger
	// Leaving chunks have enough replicas, but some on nodes that leave; Away ones wait for nodes in maintenance;
	// Missing ones have none.
	Leaving, Away, Missing int
	Running, Waiting       int    // copies under way; chunks that wait for one
	Counting               bool   // chunks are being counted again after a change that concerns all
	Paused                 string // why no copy is ordered at all; "" if that is not so
	Copies                 []CopyNote
	Arrived                Arrivals
	// ChunksPerSecond and BytesPerSecond arrived in the last minute. Left is how long the rest takes at this rate; 0:
	// nothing is left, or that is not known.
	ChunksPerSecond, BytesPerSecond float64
	Left                            time.Duration
	// Examined chunks, the first that wait, are explained by Reasons.
	Examined int
	Reasons  []WaitReason
}

// Danger is how many chunks have as many replicas as Replicas says, and lack some.
type Danger struct{ Replicas, Chunks int }

// CopyNote is a copy under way: at most copyNotesMax are told.
type CopyNote struct {
	Chunk  chunk.ID
	Bytes  int64
	Target chunk.Location
	Name   string // of the target, for people
	For    time.Duration
}

// WaitReason says why chunks wait, in the words of an Explanation; Blocked: until somebody does something about it.
type WaitReason struct {
	Text    string
	Blocked bool
	Chunks  int
	Example chunk.ID
}

// RepairStatus says how far the repair is. Its cost is bounded.
func (r *Replicas) RepairStatus() RepairStatus { return r.repair.status() }

// RepairLimits are the limits of the repair as they are now.
func (r *Replicas) RepairLimits() RepairLimits { return r.repair.limits }

// LimitRepair changes the limits of the repair until the namenode ends; copies under way go on.
func (r *Replicas) LimitRepair(to RepairLimits) {
	r.repair.limits = to
	r.repair.pace.set(to.Bandwidth)
}

func (r *repair) status() RepairStatus {
	now := r.room.step.Mono
	out := RepairStatus{Limits: r.limits, Leaving: r.levels[levelLeaving], Away: r.levels[levelAway],
		Missing: r.levels[levelMissing], Counting: !r.room.sweep.done(), Copies: r.notes(), Arrived: r.arrived.total}
	for l := levelMissing + 1; l < levelLeaving; l++ {
		if chunks := r.levels[l]; chunks > 0 {
			out.Queue = append(out.Queue, Danger{Replicas: int(l - levelMissing), Chunks: chunks})
		}
	}
	out.Running, out.Waiting, _ = r.work()
	out.ChunksPerSecond, out.BytesPerSecond = r.arrived.rate(now)
	if left := out.Running + out.Waiting; left > 0 && out.ChunksPerSecond > 0 {
		out.Left = time.Duration(min(float64(left)/out.ChunksPerSecond*float64(time.Second), math.MaxInt64/2))
	}
	if r.room.SafeMode.On() {
		out.Paused = "safe mode: " + r.room.SafeMode.Reason()
		return out
	}
	r.few.Ascend(0, func(key uint64, _ struct{}) bool {
		if slot := namespace.ChunkSlot(key & math.MaxUint32); !r.copying(slot) {
			out.Examined++
			out.add(r.room.files.Chunk(slot).ID(), r, slot)
		}
		return out.Examined < waitsExplained
	})
	return out
}

// add explains one more chunk that waits.
func (s *RepairStatus) add(id chunk.ID, r *repair, slot namespace.ChunkSlot) {
	doing, blocked := r.plan(slot)
	reason := WaitReason{Text: doing, Chunks: 1, Example: id}
	if blocked != "" {
		reason.Text, reason.Blocked = blocked, true
	}
	for i := range s.Reasons {
		if known := &s.Reasons[i]; known.Text == reason.Text && known.Blocked == reason.Blocked {
			known.Chunks++
			return
		}
	}
	s.Reasons = append(s.Reasons, reason)
}

// notes describes the copies under way, the oldest first.
func (r *repair) notes() (notes []CopyNote) {
	slots := make([]namespace.ChunkSlot, 0, len(r.copies))
	for slot := range r.copies {
		slots = append(slots, slot)
	}
	slices.SortFunc(slots, func(a, b namespace.ChunkSlot) int {
		if r.copies[a].deadline != r.copies[b].deadline {
			return int(r.copies[a].deadline/time.Millisecond - r.copies[b].deadline/time.Millisecond)
		}
		return int(a) - int(b)
	})
	for _, slot := range slots[:min(len(slots), copyNotesMax)] {
		order := r.copies[slot]
		record := r.room.files.Chunk(slot)
		notes = append(notes, CopyNote{Chunk: record.ID(), Bytes: record.Length(), For: r.age(order),
			Target: r.room.Nodes.Locations([]datanode.Index{order.target})[0],
			Name:   r.room.Nodes.at(order.target).called()})
	}
	return notes
}

// age is how long ago a copy was ordered.
func (r *repair) age(c *copyOrder) time.Duration {
	return r.room.step.Mono - c.deadline + r.room.config.CopyTimeout
}
