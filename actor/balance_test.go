package actor

import (
	"fmt"
	"math/rand"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/actor/replicas"
	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
)

// uneven is a cluster of datanodes of their own sizes that obey at once, to balance.
type uneven struct {
	*harness
	random   *rand.Rand
	nodes    []string
	capacity map[string]int64
	up       map[string]bool
	disks    map[string]map[chunk.ID]chunk.Replica
	ordered  []ordered        // copies, by time
	spread   map[chunk.ID]int // racks of each chunk at the beginning
	dying    bool
	other    map[string]int64 // bytes of something else on the disk of a node
	fails    map[string]bool  // nodes that cannot copy
	hangs    map[string]bool  // nodes that do not answer an order to copy
	ofChunk  map[chunk.ID][]ordered
	suspect  map[string]bool // nodes whose disks have errors
}

type ordered struct {
	at     time.Duration
	target string
	source string
	bytes  int64
}

const unevenChunk = 1 << 16

// newUneven fills a cluster of nodes named a, b, … of some capacities, in chunks; the racks are those of the names.
func newUneven(t testing.TB, seed int64, racks string, capacities ...int64) *uneven {
	f := &uneven{harness: newHarness(t, Config{DefaultChunkSize: unevenChunk, DefaultReplication: 3,
		DeleteGrace: 20 * time.Second, RepairGrace: 5 * time.Second, CopyTimeout: 20 * time.Second}),
		random: rand.New(rand.NewSource(seed)), capacity: make(map[string]int64), up: make(map[string]bool),
		disks: make(map[string]map[chunk.ID]chunk.Replica), fails: make(map[string]bool),
		ofChunk: make(map[chunk.ID][]ordered), spread: make(map[chunk.ID]int)}
	f.own(&Format{ClusterID: "cluster-1"})
	f.own(&BecomeActive{Epoch: 1})
	for i, chunks := range capacities {
		id := string(rune('a' + i))
		f.nodes, f.racks[id], f.capacity[id] = append(f.nodes, id), "/"+racks[i:i+1], chunks*unevenChunk
		f.disks[id] = make(map[chunk.ID]chunk.Replica)
		f.join(id)
	}
	f.own(&SafeMode{Action: SafeModeLeave})
	f.elapse(40 * time.Second) // the grace of a namenode that begins
	return f
}

func (f *uneven) volumes(id string) []datanode.VolumeState {
	free := f.capacity[id] - f.other[id]
	for _, r := range f.disks[id] {
		free -= r.Length
	}
	state := datanode.VolumeState{ID: "v", Healthy: true, CapacityBytes: f.capacity[id], FreeBytes: free}
	if f.suspect[id] {
		state.Health = datanode.VolumeSuspect
	}
	return []datanode.VolumeState{state}
}

func (f *uneven) join(id string) {
	f.session++
	f.sessions[id], f.up[id] = f.session, true
	f.own(&RegisterNode{Session: f.session, NodeID: id, Address: id + ":1", Rack: f.racks[id],
		Volumes: f.volumes(id), DurableTxid: f.s.Txid()})
	var held []chunk.Replica
	for _, r := range f.disks[id] {
		held = append(held, r)
	}
	f.report(id, held...)
}

// fill stores a file of count chunks on the nodes named, the first of the others in turn.
func (f *uneven) fill(path string, count int, nodes func(i int) []string) {
	created := ok[CreateResult](f.harness, 1, &Create{Path: path, ChunkCount: uint32(count), VisibleOnComplete: true})
	commits := make([]ChunkCommit, count)
	for i, c := range created.Chunks {
		commits[i] = ChunkCommit{Chunk: c.Chunk, Generation: c.Generation, Length: unevenChunk, NodeIDs: nodes(i)}
		racks := make(map[string]bool)
		for _, id := range nodes(i) {
			racks[f.racks[id]] = true
			f.disks[id][c.Chunk] = sealedReplica(c.Chunk, c.Generation, unevenChunk)
		}
		f.spread[c.Chunk] = len(racks)
	}
	ok[CompleteResult](f.harness, 1, &Complete{FileID: created.Info.FileID, Commits: commits})
	for _, c := range commits {
		for _, id := range c.NodeIDs {
			f.stored(id, f.disks[id][c.Chunk])
		}
	}
}

// elapse lets time go by; the nodes that are up obey, and no chunk has fewer confirmed copies at any moment.
func (f *uneven) elapse(d time.Duration) {
	for end := f.mono + d; f.mono < end; {
		f.mono += f.s.config.TickInterval
		f.now += f.s.config.TickInterval.Milliseconds()
		for _, id := range f.nodes {
			if f.up[id] {
				f.obey(f.own(&Heartbeat{NodeID: id, Session: f.sessions[id], Volumes: f.volumes(id)}).Messages)
			}
		}
		f.obey(f.own(&Tick{}).Messages)
	}
}

func (f *uneven) obey(messages []step.Message) {
	for _, m := range append([]step.Message(nil), messages...) {
		id := m.NodeID
		if !f.up[id] {
			continue
		}
		switch order := m.Body.(type) {
		case *datanode.CopyReplica:
			f.ordered = append(f.ordered, ordered{f.mono, id, order.Sources[0].NodeID, order.Length})
			f.ofChunk[order.Chunk] = append(f.ofChunk[order.Chunk], f.ordered[len(f.ordered)-1])
			if f.hangs[id] {
				continue
			}
			result := datanode.CopyResult{Chunk: order.Chunk, Generation: order.Generation}
			if f.fails[id] || !f.up[order.Sources[0].NodeID] {
				result.Error = "no"
				f.obey(f.own(&CopyResult{NodeID: id, Session: f.sessions[id], CopyResult: result}).Messages)
				continue
			}
			f.disks[id][order.Chunk] = sealedReplica(order.Chunk, order.Generation, order.Length)
			f.obey(f.stored(id, f.disks[id][order.Chunk]).Messages)
		case *datanode.DeleteReplicas:
			for _, r := range order.Replicas {
				f.requireOthers(id, r.ID)
				found := f.disks[id][r.ID]
				delete(f.disks[id], r.ID)
				f.obey(f.own(&Delta{NodeID: id, Session: f.sessions[id], Removed: []chunk.Replica{found}}).Messages)
			}
		case *datanode.TellReplicas:
			for _, r := range order.Replicas {
				if found, has := f.disks[id][r.ID]; has {
					f.obey(f.stored(id, found).Messages)
				}
			}
		}
	}
}

// requireOthers holds that a replica is deleted only while as many others as wanted are on nodes that are up, and on
// as many racks as at the beginning; repair may have put them elsewhere since a node died.
func (f *uneven) requireOthers(node string, id chunk.ID) {
	f.t.Helper()
	others := 0
	racks := make(map[string]bool)
	for n, disk := range f.disks {
		if _, has := disk[id]; has && n != node && f.up[n] {
			others++
			racks[f.racks[n]] = true
		}
	}
	require.GreaterOrEqual(f.t, others, 3, "%s on %s is deleted", id, node)
	if !f.dying {
		require.GreaterOrEqual(f.t, len(racks), f.spread[id], "%s on %s is deleted", id, node)
	}
}

func (f *uneven) balance(action BalanceAction, threshold float64, bandwidth int64) replicas.BalanceStatus {
	f.t.Helper()
	return read[BalanceResult](f.harness, &Balance{Action: action,
		BalanceWish: replicas.BalanceWish{Threshold: threshold, Bandwidth: bandwidth}}).BalanceStatus
}

// settle lets a balance come to its end.
func (f *uneven) settle() replicas.BalanceStatus {
	f.t.Helper()
	for range 2000 {
		f.elapse(time.Second)
		if status := f.balance(BalanceGet, 0, 0); !status.Running {
			return status
		}
	}
	require.FailNow(f.t, "the balance does not end", "%+v", f.balance(BalanceGet, 0, 0))
	return replicas.BalanceStatus{}
}

// percent is how full a node's disk is.
func (f *uneven) percent(id string) float64 {
	return 100 * float64(len(f.disks[id])*unevenChunk) / float64(f.capacity[id])
}

// on the first nodes of a list, three of them, in turn.
func inTurn(nodes string, copies int) func(int) []string {
	return func(i int) (chosen []string) {
		for c := range copies {
			chosen = append(chosen, nodes[(i+c)%len(nodes):][:1])
		}
		return chosen
	}
}

func TestABalanceMakesUnevenNodesEven(t *testing.T) {
	f := newUneven(t, 1, "rrrrrrr", 200, 200, 200, 200, 400, 100, 300)
	f.fill("/f", 200, inTurn("abcd", 3)) // a to d are at 75 %, the others are empty
	planned := f.balance(BalancePlan, 5, 1<<20)
	require.NotEmpty(t, planned.Moves)
	require.False(t, planned.Running)
	require.Empty(t, f.ordered, "a plan moves nothing")
	require.True(t, f.balance(BalanceStart, 5, 1<<20).Running)
	require.Equal(t, "another balance runs, with a threshold of 5 and 1048576 bytes per second",
		f.own(&Balance{Action: BalanceStart, BalanceWish: replicas.BalanceWish{Threshold: 6, Bandwidth: 1 << 20}}).
			Reply.Err.Reason)
	ended := f.settle()
	require.True(t, ended.Even, ended.Ended)
	require.True(t, planned.More, "each chunk is planned once")
	require.GreaterOrEqual(t, int(ended.Moved.Chunks), len(planned.Moves))
	require.GreaterOrEqual(t, int64(ended.Moved.Bytes), planned.LeftBytes)
	require.LessOrEqual(t, float64(ended.Moved.Bytes), 1.2*float64(planned.LeftBytes), "hardly more than needed")
	for _, id := range f.nodes {
		require.InDelta(t, 37.5, f.percent(id), 5, "%s", id)
	}
	f.elapse(time.Minute)
	total := 0
	for _, id := range f.nodes {
		total += len(f.disks[id])
	}
	require.Equal(t, 600, total, "no chunk has more replicas than wanted")
	f.requireBound(1 << 20)
	f.same()
}

// requireBound holds the bound of bytes per second to and from each node, over all spans of time.
func (f *uneven) requireBound(bandwidth int64) {
	f.t.Helper()
	for _, id := range f.nodes {
		for i, first := range f.ordered {
			bytes := int64(0)
			for _, o := range f.ordered[i:] {
				if o.target == id || o.source == id {
					bytes += o.bytes
				}
				allowed := float64(bandwidth)*(o.at-first.at+time.Second).Seconds() + unevenChunk
				if float64(bytes) > allowed {
					require.LessOrEqual(f.t, float64(bytes), allowed, "%s, %v to %v", id, first.at, o.at)
				}
			}
		}
	}
}

func TestABalanceHoldsItsBandwidth(t *testing.T) {
	f := newUneven(t, 1, "rrrr", 100, 100, 100, 100)
	f.fill("/f", 80, inTurn("abc", 3))
	began := f.mono
	f.balance(BalanceStart, 5, 2*unevenChunk)
	ended := f.settle()
	require.True(t, ended.Even, ended.Ended)
	f.requireBound(2 * unevenChunk)
	// d takes at least 55 chunks, two per second.
	require.Greater(t, f.mono-began, 25*time.Second)
	require.Less(t, f.mono-began, time.Minute)
}

func TestABalanceKeepsTheSpreadOverRacks(t *testing.T) {
	f := newUneven(t, 1, "rrsssr", 100, 100, 100, 100, 400, 400)
	// Two replicas in one rack, one in another: on a, b (rack r) and c or d (rack s).
	f.fill("/f", 80, func(i int) []string { return []string{"a", "b", "cd"[i%2:][:1]} })
	f.balance(BalanceStart, 3, 1<<20)
	ended := f.settle()
	require.True(t, ended.Even, ended.Ended)
	for id := range f.disks["e"] {
		racks := make(map[string]bool)
		for _, n := range f.nodes {
			if _, has := f.disks[n][id]; has {
				racks[f.racks[n]] = true
			}
		}
		require.GreaterOrEqual(t, len(racks), 2)
	}
}

// Chunks that cannot leave their rack stay; the balance ends and says so.
func TestABalanceEndsWhenNothingCanMove(t *testing.T) {
	f := newUneven(t, 1, "rrrr", 100, 100, 100, 100)
	f.fill("/f", 60, inTurn("abc", 3))
	f.fails["d"] = true
	f.balance(BalanceStart, 5, 1<<20)
	ended := f.settle()
	require.False(t, ended.Even)
	require.Equal(t, "nothing more can move; copies failed to d:1 (5 in a row)", ended.Ended)
	require.Zero(t, ended.Moved.Chunks)
	require.Len(t, f.ordered, ended.Failed)

	f.fails["d"] = false
	f.balance(BalanceStart, 5, 1<<20)
	require.True(t, f.settle().Even)

	g := newUneven(t, 1, "rrst", 100, 100, 100, 100)
	g.fill("/f", 60, func(int) []string { return []string{"a", "c", "d"} }) // b shares the rack of a
	g.balance(BalanceStart, 5, 1<<20)
	require.True(t, g.settle().Even == false && len(g.disks["a"]) < 60, "a and b are even, c and d cannot be")
	require.Contains(t, g.balance(BalanceGet, 0, 0).Ended, "have no place on an emptier datanode")
	require.Len(t, g.disks["c"], 60)
}

// A replica on a good disk does not go for one on a disk that has errors.
func TestABalanceMovesNothingToSuspectDisks(t *testing.T) {
	f := newUneven(t, 1, "rrrr", 100, 100, 100, 100)
	f.fill("/f", 60, inTurn("abc", 3))
	f.suspect = map[string]bool{"d": true}
	f.elapse(time.Second)
	f.balance(BalanceStart, 5, 1<<20)
	ended := f.settle()
	require.Equal(t, "nothing more can move; none were made to d:1 (its disks are suspect)", ended.Ended)
	require.Empty(t, f.ordered)

	f.suspect["d"] = false
	f.elapse(time.Second)
	f.balance(BalanceStart, 5, 1<<20)
	require.True(t, f.settle().Even)
}

// A replica goes from where the move began, also if another disk has less room left.
func TestABalanceTakesTheReplicaOfTheSource(t *testing.T) {
	f := newUneven(t, 1, "rrrr", 100, 200, 200, 200)
	f.other = map[string]int64{"b": 130 * unevenChunk}
	f.fill("/f", 60, inTurn("abc", 3))
	f.balance(BalanceStart, 5, 1<<20)
	ended := f.settle()
	require.True(t, ended.Even, ended.Ended)
	require.InDelta(t, ended.Mean, f.percent("a"), 5)
}

func TestABalanceStops(t *testing.T) {
	f := newUneven(t, 1, "rrrr", 100, 100, 100, 100)
	f.fill("/f", 60, inTurn("abc", 3))
	f.balance(BalanceStart, 5, unevenChunk)
	f.elapse(5 * time.Second)
	stopped := f.balance(BalanceStop, 0, 0)
	require.False(t, stopped.Running)
	require.Equal(t, "an operator stopped it", stopped.Ended)
	moved := len(f.ordered)
	require.NotZero(t, moved)
	f.elapse(time.Minute)
	require.Len(t, f.ordered, moved)
	for _, wish := range []replicas.BalanceWish{{Threshold: 0, Bandwidth: 1 << 20},
		{Threshold: 101, Bandwidth: 1 << 20}, {Threshold: 5, Bandwidth: 1}} {
		require.NotNil(t, f.own(&Balance{Action: BalanceStart, BalanceWish: wish}).Reply.Err, "%+v", wish)
	}
}

// Nodes die and come back while a balance runs: repair goes first, no chunk loses a replica to it, and it ends.
func TestABalanceEndsWhileNodesDie(t *testing.T) {
	for seed := range int64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			f := newUneven(t, seed, "rrrrrrr", 90, 90, 90, 90, 90, 180, 180)
			f.fill("/f", 60, inTurn("abcde", 3))
			f.dying = true
			f.balance(BalanceStart, 5, 4*unevenChunk)
			for range 12 {
				f.elapse(time.Duration(f.random.Intn(8)) * time.Second)
				id := f.nodes[f.random.Intn(len(f.nodes))]
				if f.up[id] {
					f.up[id] = false
					f.own(&NodeGone{NodeID: id, Session: f.sessions[id]})
					f.elapse(time.Duration(f.random.Intn(20)) * time.Second)
				}
				for _, n := range f.nodes {
					if !f.up[n] {
						f.join(n)
					}
				}
			}
			f.settle()
			f.balance(BalanceStart, 5, 4*unevenChunk) // it may have ended while a node was away
			ended := f.settle()
			require.True(t, ended.Even, ended.Ended)
			f.elapse(3 * time.Minute)
			require.Zero(t, read[ClusterStatusResult](f.harness, &ClusterStatus{}).UnderReplicated)
		})
	}
}

// A chunk that moves to a node that hangs has one replica left: it is copied elsewhere at once. What the node says
// later does no harm.
func TestTheLastReplicaDoesNotWaitForAMove(t *testing.T) {
	f := newUneven(t, 1, "rrrrr", 4, 4, 4, 4, 4)
	f.fill("/f", 2, inTurn("abc", 3))
	f.suspect = map[string]bool{"e": true} // nothing moves to it
	f.hangs = map[string]bool{"d": true}
	f.elapse(time.Second)
	f.balance(BalanceStart, 1, 1<<20)
	f.elapse(time.Second)
	moves := f.balance(BalanceGet, 0, 0).Moves
	require.NotEmpty(t, moves)
	for _, id := range []string{"b", "c"} {
		f.up[id] = false
		f.own(&NodeGone{NodeID: id, Session: f.sessions[id]})
	}
	f.dying = true
	f.elapse(f.s.config.DeadAfter + time.Second)
	for _, m := range moves {
		orders := f.ofChunk[m.Chunk]
		require.Len(t, orders, 2, "%s has one replica, on a", m.Chunk)
		require.Equal(t, "d", orders[0].target)
		require.Equal(t, "e", orders[1].target)
	}

	late := moves[0].Chunk
	f.disks["d"][late] = f.disks["a"][late]
	f.obey(f.stored("d", f.disks["d"][late]).Messages)
	for _, m := range moves[1:] {
		f.own(&CopyResult{NodeID: "d", Session: f.sessions["d"],
			CopyResult: datanode.CopyResult{Chunk: m.Chunk, Generation: f.disks["a"][m.Chunk].Generation, Error: "no"}})
	}
	f.hangs = nil
	f.join("b")
	f.join("c")
	f.elapse(5 * time.Minute)
	require.Zero(t, read[ClusterStatusResult](f.harness, &ClusterStatus{}).UnderReplicated)
	total := 0
	for _, id := range f.nodes {
		total += len(f.disks[id])
	}
	require.Equal(t, 6, total)
	f.same()
}
