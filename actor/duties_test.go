package actor

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/limits"
)

// command gives a node of the world another duty, at random. Two others keep serving.
func (w *world) command() {
	id := w.nodes[w.random.Intn(len(w.nodes))]
	serving := 0
	for _, n := range read[ClusterStatusResult](w.harness, &ClusterStatus{}).Nodes {
		if n.NodeID != id && n.Progress.Duty == datanode.DutyServe {
			serving++
		}
	}
	duty := datanode.Duty(w.random.Intn(4))
	if serving < 2 && duty != datanode.DutyForgotten {
		duty = datanode.DutyServe
	}
	e := w.do(w.own(&SetDuty{NodeID: id, Duty: duty, For: time.Duration(1+w.random.Intn(60)) * time.Second}))
	if duty == datanode.DutyForgotten && e.Reply.Err == nil {
		w.requireKept()
	}
}

// wish has a file get another replication, or a balance begin or end, at random.
func (w *world) wish() {
	switch w.random.Intn(3) {
	case 0:
		w.do(w.as(1, &SetReplication{Path: w.path(), Replication: uint32(1 + w.random.Intn(2))}))
	case 1:
		w.do(w.own(&Balance{Action: BalanceStart, BalanceWish: BalanceWish{Threshold: limits.BalanceThresholdMin,
			Bandwidth: 1 << 20}}))
	case 2:
		w.do(w.own(&Balance{Action: BalanceStop}))
	}
}

// requireKept holds that every sealed chunk of which there is a replica has one on a node that is not forgotten.
func (w *world) requireKept() {
	forgotten := make(map[string]bool)
	for _, node := range w.nodes {
		forgotten[node] = true
	}
	for _, n := range read[ClusterStatusResult](w.harness, &ClusterStatus{}).Nodes {
		forgotten[n.NodeID] = false
	}
	for slot := range w.s.files.Limit() {
		record := w.s.files.Chunk(slot)
		if record.ID().IsZero() || record.Open() || w.lost[record.ID()] ||
			w.copies(record.ID(), record.Generation(), nil) == 0 {
			continue
		}
		require.NotZero(w.t, w.copies(record.ID(), record.Generation(), forgotten), "only forgotten nodes have %s",
			record.ID())
	}
}

// stopSome stops nodes at random until they are dead, and has each of them forgotten if it may be.
func (w *world) stopSome() (forgotten, refused int) {
	for _, id := range w.nodes {
		if w.up[id] && w.random.Intn(2) == 0 {
			w.up[id] = false
			w.do(w.own(&NodeGone{NodeID: id, Session: w.sessions[id]}))
		}
	}
	w.elapse(10 * time.Second)
	for _, id := range w.nodes {
		if w.up[id] {
			continue
		}
		if e := w.do(w.own(&SetDuty{NodeID: id, Duty: datanode.DutyForgotten})); e.Reply.Err != nil {
			refused++
			continue
		}
		forgotten++
		w.requireKept()
	}
	return forgotten, refused
}

// However many nodes stop, none is forgotten that has what no other has, and when they are back all is there.
func TestNoNodeIsForgottenThatIsTheLastHolder(t *testing.T) {
	forgotten, refused := 0, 0
	for seed := range int64(10) {
		w := newWorld(t, seed)
		w.punctual = true
		for range 20 {
			for range 6 {
				w.round()
			}
			some, others := w.stopSome()
			forgotten, refused = forgotten+some, refused+others
			for _, n := range w.nodes {
				if !w.up[n] && w.random.Intn(3) > 0 {
					w.join(n)
				}
			}
		}
		for _, n := range w.nodes {
			w.join(n)
		}
		w.elapse(5 * time.Second)
		require.Len(t, read[ClusterStatusResult](w.harness, &ClusterStatus{}).Nodes, len(w.nodes))
		w.requireNoPhantoms()
		w.same()
	}
	require.NotZero(t, forgotten)
	require.NotZero(t, refused)
	t.Logf("%d nodes were forgotten, %d wishes refused", forgotten, refused)
}

// copies counts the disks with a sealed chunk, but for those of the nodes that leave.
func (w *world) copies(id chunk.ID, generation chunk.Generation, leaving map[string]bool) (found int) {
	for node, disk := range w.disks {
		if r, there := disk[id]; there && !leaving[node] && r.State == chunk.Sealed && r.Generation == generation {
			found++
		}
	}
	return found
}

// dutiesHold compares what the namenode says of nodes out of service with all disks, and reports whether no chunk needs
// any of them.
func (w *world) dutiesHold() (done bool) {
	status := read[ClusterStatusResult](w.harness, &ClusterStatus{})
	leaving, gone := make(map[string]bool), []string(nil)
	done = true
	for _, n := range status.Nodes {
		leaving[n.NodeID] = n.Progress.Duty == datanode.DutyDecommission
		if leaving[n.NodeID] && n.Progress.Done {
			gone = append(gone, n.NodeID)
		}
		done = done && (n.Progress.Duty == datanode.DutyServe || n.Progress.Done)
	}
	files := w.s.files
	for slot := range files.Limit() {
		record := files.Chunk(slot)
		if record.ID().IsZero() || record.Open() || w.lost[record.ID()] {
			continue
		}
		for _, node := range gone {
			if r := w.disks[node][record.ID()]; r.State != chunk.Sealed || r.Generation != record.Generation() {
				continue
			}
			require.GreaterOrEqual(w.t, w.copies(record.ID(), record.Generation(), leaving),
				files.Inode(record).Replication(), "%s is said to be decommissioned, yet %s needs it", node,
				record.ID())
		}
	}
	return done
}

// Whatever operators want of nodes, files and the balance, in whatever order, and whichever nodes stop meanwhile:
// nothing is said to be decommissioned
// that is needed, it comes to an end, and then every chunk has its copies on nodes that stay.
func TestDutiesEndWithEveryChunkInItsPlace(t *testing.T) {
	moved := uint64(0)
	for seed := range int64(40) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := newWorld(t, seed)
			w.punctual, w.small = true, true // what a node never told, nobody can wait for
			for range 150 {
				w.round()
				if w.random.Intn(8) == 0 {
					w.command()
				}
				if w.random.Intn(6) == 0 {
					w.wish()
				}
				w.dutiesHold()
			}
			for client := byte(1); client <= 3; client++ { // no writer is left
				for _, f := range w.files {
					w.do(w.as(client, &Abandon{FileID: f.id}))
				}
			}
			w.files = nil
			for _, n := range w.nodes {
				w.join(n)
			}
			require.Eventually(t, func() bool {
				w.elapse(time.Minute)
				for _, n := range w.nodes { // what was late is told
					w.do(w.report(n, w.held(n)...))
				}
				w.obey()
				status := read[ClusterStatusResult](w.harness, &ClusterStatus{})
				balance := read[BalanceResult](w.harness, &Balance{Action: BalanceGet})
				return w.dutiesHold() && status.OpenFiles == 0 && status.UnderReplicated == 0 && !balance.Running
			}, time.Minute, time.Microsecond)
			w.same()
			moved += read[BalanceResult](w.harness, &Balance{Action: BalanceGet}).Moved.Chunks
		})
	}
	require.NotZero(t, moved, "no balance moved anything")
}

// After a failover nobody knows what a node in maintenance has that is away: what chunks lack may be there. It hides no
// loss that is known to be one, none while a serving node is as unknown, and none for long.
func TestAnAbsentNodeInMaintenanceHidesNoRealLoss(t *testing.T) {
	type failover struct {
		*harness
		chunks  []LocatedChunk
		present []string
	}
	// take has a namenode take over from another one; nodes are letters, some in maintenance, some present.
	take := func(t *testing.T, copies uint32, nodes, excused, present string) *failover {
		f := &failover{harness: newHarness(t, Config{DefaultChunkSize: 1 << 16, DefaultReplication: copies}),
			present: strings.Split(present, "")}
		f.start(len(nodes))
		for i := range 8 {
			f.chunks = append(f.chunks, f.write(1, fmt.Sprintf("/f%d", i), 1<<16, 100)...)
		}
		for _, id := range strings.Split(excused, "") {
			require.Nil(t, f.own(&SetDuty{NodeID: id, Duty: datanode.DutyMaintenance, For: time.Hour}).Reply.Err)
		}
		f.restart(f.present...)
		for _, id := range f.present {
			var held []chunk.Replica
			for _, c := range f.chunks {
				if slices.Contains(nodeIDs(c.Replicas), id) {
					held = append(held, sealedReplica(c.Chunk, c.Generation, 100))
				}
			}
			f.report(id, held...)
		}
		f.own(&SafeMode{Action: SafeModeLeave})
		return f
	}
	begin := func(t *testing.T) *failover { return take(t, 3, "abcde", "c", "abde") }
	// copied are the chunks that are copied while time goes by.
	copied := func(f *failover, d time.Duration, alive ...string) map[chunk.ID]bool {
		ids := make(map[chunk.ID]bool)
		for _, order := range bodies[datanode.CopyReplica](f.pass(d, alive...)) {
			ids[order.Chunk] = true
		}
		return ids
	}
	// on are the chunks that are on one node and not on c.
	on := func(f *failover, node string) map[chunk.ID]bool {
		ids := make(map[chunk.ID]bool)
		for _, c := range f.chunks {
			if nodes := nodeIDs(c.Replicas); slices.Contains(nodes, node) && !slices.Contains(nodes, "c") {
				ids[c.Chunk] = true
			}
		}
		require.NotEmpty(f.t, ids)
		return ids
	}

	t.Run("a replica that is lost since", func(t *testing.T) {
		f := begin(t)
		require.Empty(t, copied(f, time.Minute, f.present...))
		for id := range on(f, "d") {
			f.own(&Delta{NodeID: "d", Session: f.sessions["d"], Removed: []chunk.Replica{sealedReplica(id, 1, 100)}})
		}
		require.Equal(t, on(f, "d"), copied(f, time.Minute, f.present...))
	})
	t.Run("a node that dies since", func(t *testing.T) {
		f := begin(t)
		require.Empty(t, copied(f, time.Minute, f.present...))
		ids := copied(f, time.Minute, "a", "b", "e")
		for id := range on(f, "d") {
			require.Contains(t, ids, id)
		}
	})
	t.Run("a node that does not come either", func(t *testing.T) {
		f := take(t, 3, "abcde", "c", "abe")
		ids := copied(f, 2*time.Minute, f.present...)
		for id := range on(f, "d") {
			require.Contains(t, ids, id)
		}
	})
	t.Run("a node that comes back without its replicas", func(t *testing.T) {
		f := begin(t)
		f.own(&NodeGone{NodeID: "d", Session: f.sessions["d"]})
		require.Empty(t, copied(f, f.s.config.DeadAfter+time.Second, "a", "b", "e"), "its grace is not over")
		f.register("d")
		f.report("d")
		ids := copied(f, time.Minute, f.present...)
		for id := range on(f, "d") {
			require.Contains(t, ids, id)
		}
	})
	t.Run("a replica on a node that leaves", func(t *testing.T) {
		f := begin(t)
		require.Nil(t, f.own(&SetDuty{NodeID: "d", Duty: datanode.DutyDecommission}).Reply.Err)
		for id := range copied(f, 10*time.Second, f.present...) {
			require.Contains(t, on(f, "d"), id)
		}
		for id := range on(f, "d") {
			f.own(&Delta{NodeID: "d", Session: f.sessions["d"], Removed: []chunk.Replica{sealedReplica(id, 1, 100)}})
		}
		f.pass(time.Second, f.present...)
		away := 0
		for _, c := range f.chunks {
			nodes := nodeIDs(c.Replicas)
			if slices.Contains(nodes, "c") && !slices.Contains(nodes, "d") {
				away++
			}
		}
		require.Equal(t, away, read[RepairResult](f.harness, &Repair{}).Away)
	})
	t.Run("of two that are absent", func(t *testing.T) {
		f := take(t, 4, "abcdef", "ce", "abdf")
		require.Empty(t, copied(f, time.Minute, f.present...))
		lost := make(map[chunk.ID]bool) // of three that are present
		for _, c := range f.chunks {
			nodes := nodeIDs(c.Replicas)
			if slices.Contains(nodes, "d") && slices.Contains(nodes, "c") != slices.Contains(nodes, "e") {
				lost[c.Chunk] = true
				f.own(&Delta{NodeID: "d", Session: f.sessions["d"],
					Removed: []chunk.Replica{sealedReplica(c.Chunk, 1, 100)}})
			}
		}
		require.NotEmpty(t, lost)
		require.Equal(t, lost, copied(f, time.Minute, f.present...))
	})
	t.Run("for long", func(t *testing.T) {
		f := begin(t)
		require.Empty(t, copied(f, 9*time.Minute, f.present...))
		require.NotEmpty(t, copied(f, 2*time.Minute, f.present...))
	})
}
