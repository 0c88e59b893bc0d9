package actor

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/actor/replicas"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

func TestNothingIsServedBeforeActive(t *testing.T) {
	h := newHarness(t, Config{})
	require.Equal(t, fault.NotActive, h.as(1, &Mkdir{Path: "/a"}).Reply.Err.Kind)
	require.Equal(t, fault.NotActive, h.own(&Stat{Path: "/"}).Reply.Err.Kind)
	require.Equal(t, fault.NotActive, h.own(&BecomeActive{Epoch: 1}).Reply.Err.Kind)
	require.Equal(t, fault.NotActive, h.register("a").Reply.Err.Kind)
	h.own(&ClusterStatus{})
	e := h.own(&Format{})
	require.Len(t, e.Reply.Result.(*FormatResult).ClusterID, 36)
	require.Equal(t, fault.Exists, h.own(&Format{}).Reply.Err.Kind)
	require.Equal(t, fault.NotActive, h.as(1, &Mkdir{Path: "/a"}).Reply.Err.Kind)
	require.Equal(t, fault.NotActive, h.own(&ReportBadReplica{}).Reply.Err.Kind)
	require.Equal(t, fault.NotActive, h.own(&RenewLeases{}).Reply.Err.Kind)
	require.Equal(t, fault.NotActive, h.own(&SafeMode{Action: SafeModeLeave}).Reply.Err.Kind)
	require.Nil(t, h.own(&Stat{Path: "/"}).Reply.Err)
	require.Equal(t, fault.NotActive, h.register("a").Reply.Err.Kind, "a standby cannot log a new node")
	require.Nil(t, h.own(&BecomeActive{Epoch: 3}).Reply.Err)
	require.True(t, h.s.step.Active)
	require.Equal(t, fault.Fenced, h.own(&BecomeActive{Epoch: 3}).Reply.Err.Kind)
	require.ErrorIs(t, h.s.Replay(h.s.Txid()+1, h.log[0]), fault.Internal, "an active state does not replay")
	h.own(&StepDown{})
	require.Equal(t, fault.NotActive, h.as(1, &Mkdir{Path: "/a"}).Reply.Err.Kind)
	require.ErrorIs(t, h.s.Replay(h.s.Txid()+2, h.log[0]), fault.Gap)
	require.ErrorIs(t, h.s.Replay(h.s.Txid()+1, h.log[0]), fault.CorruptData, "a second format")
	require.Error(t, h.fresh().Replay(1, h.log[1]), "a log that does not begin with format")
}

func TestRegistrationIsRefused(t *testing.T) {
	h := newHarness(t, Config{})
	h.start(1)
	register := func(change func(*RegisterNode)) *fault.Error {
		r := &RegisterNode{Session: 99, NodeID: "x", Address: "x:1", DurableTxid: h.s.Txid()}
		change(r)
		return h.own(r).Reply.Err
	}
	for name, c := range map[string]struct {
		kind   fault.Kind
		change func(*RegisterNode)
	}{
		"another cluster": {fault.Invalid, func(r *RegisterNode) { r.ClusterID = "other" }},
		"newer epoch":     {fault.Fenced, func(r *RegisterNode) { r.HighestEpoch = 2 }},
		"longer log":      {fault.Fenced, func(r *RegisterNode) { r.HighestTxid = r.DurableTxid + 1 }},
		"no id":           {fault.Invalid, func(r *RegisterNode) { r.NodeID = "" }},
		"long id":         {fault.Invalid, func(r *RegisterNode) { r.NodeID = strings.Repeat("x", 256) }},
		"bad id":          {fault.Invalid, func(r *RegisterNode) { r.NodeID = "\xff" }},
		"no address":      {fault.Invalid, func(r *RegisterNode) { r.Address = "" }},
		"many volumes": {fault.Invalid, func(r *RegisterNode) {
			r.Volumes = make([]datanode.VolumeState,
				limits.VolumesPerNodeMax+1)
		}},
	} {
		err := register(c.change)
		require.NotNil(t, err, name)
		require.Equal(t, c.kind, err.Kind, name)
	}
	require.Nil(t, register(func(r *RegisterNode) {
		r.ClusterID, r.HighestEpoch, r.HighestTxid = "cluster-1", 1,
			r.DurableTxid
	}))
	// A second registration takes over; the first stream's messages are refused. One from another address is that of
	// another process: it has to wait until the first is silent, or its stream broke.
	require.Nil(t, h.own(&Heartbeat{NodeID: "x", Session: 99}).Reply.Err)
	err := register(func(r *RegisterNode) { r.Session, r.Address = 100, "x:2" })
	require.NotNil(t, err)
	require.Equal(t, fault.Exists, err.Kind)
	require.Contains(t, err.Error(), "x:1")
	require.Contains(t, err.Error(), "x:2")
	require.Nil(t, h.own(&Heartbeat{NodeID: "x", Session: 99}).Reply.Err)
	h.mono += h.s.config.StaleAfter
	require.Nil(t, register(func(r *RegisterNode) { r.Session, r.Address = 100, "x:2" }))
	require.Equal(t, fault.Closed, h.own(&Heartbeat{NodeID: "x", Session: 99}).Reply.Err.Kind)
	require.Equal(t, fault.Closed, h.own(&NodeGone{NodeID: "x", Session: 99}).Reply.Err.Kind)
	require.Equal(t, fault.Closed, h.own(&Delta{NodeID: "y", Session: 1}).Reply.Err.Kind)
	status := read[ClusterStatusResult](h, &ClusterStatus{})
	require.Equal(t, "x:2", status.Nodes[1].Address)
	require.True(t, status.Nodes[1].Live)
	// Only a new id or address costs a record.
	before := len(h.log)
	require.Nil(t, register(func(r *RegisterNode) { r.Session, r.Address = 101, "x:2" }))
	require.Equal(t, before, len(h.log))
	h.same()
}

func TestReportInPages(t *testing.T) {
	h := newHarness(t, Config{DefaultReplication: 1, DefaultChunkSize: 1 << 16})
	h.start(2)
	chunks := h.write(1, "/f", 1<<16, 1<<16, 1<<16, 1<<16, 10)
	holder := chunks[0].Replicas[0].NodeID
	h.report(holder) // nothing, though it has just told of them
	require.Empty(t, read[LocateResult](h, &Locate{Path: "/f"}).Chunks[0].Replicas)
	h.pass(11*time.Second, "a", "b")
	var all []chunk.Replica
	for _, c := range chunks {
		length := int64(1 << 16)
		if c.Index == 3 {
			length = 10
		}
		all = append(all, sealedReplica(c.Chunk, 1, length))
	}
	h.report("a", all...)
	h.report("b", all...)
	page := func(id uint64, n uint32, last bool, replicas ...chunk.Replica) Effects {
		return h.own(&ReportPage{NodeID: "a", Session: h.sessions["a"], ReportID: id, Page: n, Last: last,
			Replicas: replicas})
	}
	holds := func() (indexes []uint32) {
		for _, c := range read[LocateResult](h, &Locate{Path: "/f"}).Chunks {
			for _, r := range c.Replicas {
				if r.NodeID == "a" {
					indexes = append(indexes, c.Index)
				}
			}
		}
		return indexes
	}
	require.Equal(t, []uint32{0, 1, 2, 3}, holds())
	// Deltas in between are newer than the pages: chunk 0 goes although a later
	// page lists it, chunk 1 stays although none does.
	require.Nil(t, page(7, 0, false, all[3]).Reply.Err)
	h.own(&Delta{NodeID: "a", Session: h.sessions["a"], Stored: all[1:2], Removed: all[:1]})
	require.Nil(t, page(7, 1, false, all[0]).Reply.Err)
	require.Equal(t, []uint32{1, 2, 3}, holds(), "nothing goes before the last page")
	require.Nil(t, page(7, 2, true).Reply.Err)
	require.Equal(t, []uint32{1, 3}, holds())

	// Pages out of order, of another report, without a first one: the report is
	// dropped, the node is asked again, nothing is lost.
	for _, bad := range []struct {
		id   uint64
		page uint32
	}{{8, 1}, {9, 2}, {8, 0}} {
		if bad.page == 0 {
			require.Nil(t, page(8, 0, false).Reply.Err)
			bad.id, bad.page = 9, 1
		}
		e := page(bad.id, bad.page, true)
		require.Equal(t, fault.Protocol, e.Reply.Err.Kind)
		require.Len(t, bodies[datanode.SendReport](e.Messages), 1)
	}
	// A stream that breaks takes its report with it.
	require.Nil(t, page(10, 0, false).Reply.Err)
	h.own(&NodeGone{NodeID: "a", Session: h.sessions["a"]})
	h.register("a")
	require.Equal(t, fault.Protocol, page(10, 1, true).Reply.Err.Kind)
	require.Equal(t, []uint32{1, 3}, holds())

	// Nonsense in a report has no effect; too much of it is refused.
	require.Nil(t, page(11, 0, true, all[1], all[3], chunk.Replica{},
		chunk.Replica{ID: testID(1), Length: -1, State: 1}, chunk.Replica{ID: testID(1), State: 9}).Reply.Err)
	require.Zero(t, h.s.replicas.Counts().Misplaced)
	require.Equal(t, fault.Invalid,
		page(12, 0, true, make([]chunk.Replica, limits.ReplicasPerMessageMax+1)...).Reply.Err.Kind)
	require.Equal(t, fault.Invalid, h.own(&Delta{NodeID: "a", Session: h.sessions["a"],
		Stored: make([]chunk.Replica, limits.ReplicasPerMessageMax+1)}).Reply.Err.Kind)
}

func TestNodesGoStaleThenDead(t *testing.T) {
	h := newHarness(t, Config{})
	h.start(2)
	of := func(id string) replicas.Liveness { return h.s.replicas.Nodes.Liveness(id) }
	h.pass(2900*time.Millisecond, "a")
	require.Equal(t, replicas.NodeLive, of("b"))
	h.pass(100*time.Millisecond, "a")
	require.Equal(t, replicas.NodeStale, of("b"))
	h.own(&Heartbeat{NodeID: "b", Session: h.sessions["b"], Volumes: volumes()})
	require.Equal(t, replicas.NodeLive, of("b"))
	h.own(&NodeGone{NodeID: "b", Session: h.sessions["b"]})
	require.Equal(t, replicas.NodeStale, of("b"), "at once when the stream breaks")
	h.pass(10*time.Second, "a")
	require.Equal(t, replicas.NodeDead, of("b"))
	require.Equal(t, replicas.NodeLive, of("a"))
	h.register("b")
	require.Equal(t, replicas.NodeLive, of("b"))
}

// TestReadsWaitForWhatTheySaw: a reply depends on the last change of what it
// was made from, and on nothing else.
func TestReadsWaitForWhatTheySaw(t *testing.T) {
	h := newHarness(t, Config{DefaultReplication: 1})
	h.start(1)
	ok[MkdirResult](h, 1, &Mkdir{Path: "/a/b", Parents: true})
	made := h.s.Txid()
	ok[MkdirResult](h, 1, &Mkdir{Path: "/c"})
	second := h.s.Txid()
	after := func(r Request) uint64 { return h.own(r).Reply.AfterTxid }
	// The root changed with /c.
	require.Equal(t, second, after(&Stat{Path: "/a/b"}))
	f := ok[CreateResult](h, 1, &Create{Path: "/a/b/f", ChunkCount: 1})
	created := h.s.Txid()
	require.Equal(t, second, after(&Stat{Path: "/c"}))
	require.Equal(t, second, after(&Stat{Path: "/nothing"}), "that nothing is there was seen in the root")
	require.Equal(t, created, after(&Stat{Path: "/a/b/f"}))
	require.Equal(t, created, after(&Stat{Path: "/a/b/nothing"}))
	ok[AddChunksResult](h, 1, &AddChunks{FileID: f.Info.FileID, FirstIndex: 1, Count: 1})
	require.Equal(t, h.s.Txid(), after(&Locate{Path: "/a/b/f"}))
	require.Equal(t, h.s.Txid(), after(&Locate{FileID: f.Info.FileID}))
	require.Equal(t, h.s.Txid(), after(&List{Path: "/a/b"}))
	require.Less(t, after(&List{Path: "/a"}), h.s.Txid())
	require.Equal(t, h.s.Txid(), after(&Summary{Path: "/"}))
	require.Greater(t, made, uint64(0))
	// A refused mutation saw the state too.
	require.Equal(t, h.s.Txid(), h.as(1, &Mkdir{Path: "/c"}).Reply.AfterTxid)
}

func TestLocateRefuses(t *testing.T) {
	h := newHarness(t, Config{DefaultReplication: 1})
	h.start(1)
	ok[MkdirResult](h, 1, &Mkdir{Path: "/d"})
	h.write(1, "/f", 1<<16, 5)
	for _, c := range []struct {
		r    *Locate
		kind fault.Kind
	}{
		{&Locate{Path: "/d"}, fault.IsDirectory}, {&Locate{Path: "/x"}, fault.NotFound},
		{&Locate{FileID: 77}, fault.NotFound},
		{&Locate{FileID: namespace.RootID}, fault.NotFound}, {&Locate{Path: "/f", FileID: 3}, fault.Invalid},
		{&Locate{Path: "/f", Offset: -1}, fault.Invalid},
	} {
		require.Equal(t, c.kind, h.own(c.r).Reply.Err.Kind, "%+v", c.r)
	}
	require.Equal(t, fault.Invalid, h.own(&List{Path: "/", After: strings.Repeat("x", 256)}).Reply.Err.Kind)
	require.Len(t, read[LocateResult](h, &Locate{Path: "/f", Length: 1 << 62}).Chunks, 1)
	require.Empty(t, read[LocateResult](h, &Locate{Path: "/f", Offset: 1 << 62, Length: 1 << 62}).Chunks)
}

func TestFullNodesGetNothing(t *testing.T) {
	h := newHarness(t, Config{DefaultReplication: 2, DefaultChunkSize: 1 << 20})
	h.start(3)
	full := []datanode.VolumeState{{Healthy: true, CapacityBytes: 1 << 30, FreeBytes: 1<<20 - 1},
		{Healthy: false, CapacityBytes: 1 << 40, FreeBytes: 1 << 40}}
	h.own(&Heartbeat{NodeID: "a", Session: h.sessions["a"], Volumes: full})
	for i := range 10 {
		created := ok[CreateResult](h, 1, &Create{Path: fmt.Sprintf("/%d", i), ChunkCount: 1})
		require.ElementsMatch(t, []string{"b", "c"}, nodeIDs(created.Chunks[0].Replicas))
	}
	h.own(&Heartbeat{NodeID: "b", Session: h.sessions["b"], Volumes: full})
	refused := h.as(1, &Create{Path: "/x", ChunkCount: 1}).Reply.Err
	require.Equal(t, fault.NoSpace, refused.Kind)
	require.Contains(t, refused.Reason, "1 live datanode has room for 1048576 bytes above datanode.reserve: a ")
	require.Contains(t, refused.Reason, "has 1048575 bytes on its emptiest disk, b ")
	require.Nil(t, h.as(1, &Create{Path: "/x"}).Reply.Err, "an empty file needs no room")

	// A chunk whose writer knows that it gets less needs less room.
	small := ok[CreateResult](h, 1, &Create{Path: "/small", ChunkCount: 1, ChunkBytesMax: 1<<20 - 1,
		Replication: 3})
	require.Len(t, small.Chunks[0].Replicas, 3)
	file := ok[CreateResult](h, 1, &Create{Path: "/later"}).Info.FileID
	add := &AddChunks{FileID: file, Count: 1}
	require.Equal(t, fault.NoSpace, h.as(1, add).Reply.Err.Kind)
	add.ChunkBytesMax = 1 << 30 // more than a chunk is a chunk
	require.Equal(t, fault.NoSpace, h.as(1, add).Reply.Err.Kind)
	add.ChunkBytesMax = 4
	require.Len(t, ok[AddChunksResult](h, 1, add).Chunks, 1)
}

// A node on a machine that is pressed gets fewer chunks, and is read last.
func TestPressedNodesGetLess(t *testing.T) {
	h := newHarness(t, Config{DefaultReplication: 1, DefaultChunkSize: 1 << 16})
	h.start(3)
	volumes := []datanode.VolumeState{{Healthy: true, CapacityBytes: 1 << 40, FreeBytes: 1 << 40, BusyPermille: 700}}
	system := datanode.SystemLoad{CPUPermille: 100, StalledPermille: 950, SentBytesPerSecond: 7}
	counts := make(map[string]int)
	for i := range 300 {
		for id, session := range h.sessions {
			beat := &Heartbeat{NodeID: id, Session: session, Volumes: volumes}
			if id == "b" {
				beat.Load.System = system
			}
			h.own(beat)
		}
		created := ok[CreateResult](h, 1, &Create{Path: fmt.Sprintf("/%d", i), ChunkCount: 1})
		counts[nodeIDs(created.Chunks[0].Replicas)[0]]++
	}
	require.Less(t, counts["b"], 60, counts)
	c := h.write(1, "/read", 1<<16, 10)[0]
	for range 20 {
		replicas := read[LocateResult](h, &Locate{Path: "/read"}).Chunks[0].Replicas
		require.Len(t, replicas, len(c.Replicas))
	}
	status := read[ClusterStatusResult](h, &ClusterStatus{}).Nodes
	require.Equal(t, system, status[1].System)
	require.EqualValues(t, 700, status[1].Volumes[0].BusyPermille)
}

func TestConfigIsChecked(t *testing.T) {
	for name, c := range map[string]Config{
		"replication": {DefaultReplication: limits.ReplicationMax + 1}, "chunk size": {DefaultChunkSize: 1000},
		"leases": {LeaseSoftLimit: time.Hour},
		"nodes":  {StaleAfter: time.Minute}, "grace": {RepairGrace: -1}, "timeout": {CopyTimeout: -1},
		"copies":    {Repair: RepairLimits{Streams: -1}},
		"safe mode": {SafeModeShare: 1001}, "placement": {Placement: "best"},
	} {
		_, err := New(c)
		require.Error(t, err, name)
	}
}

// TestManyReplicas: more than three nodes of a chunk spill over and come back.
func TestManyReplicas(t *testing.T) {
	h := newHarness(t, Config{DefaultReplication: 5, DefaultChunkSize: 1 << 16})
	h.start(7)
	c := h.write(1, "/f", 1<<16, 10)[0]
	require.Len(t, read[LocateResult](h, &Locate{Path: "/f"}).Chunks[0].Replicas, 5)
	for _, r := range c.Replicas {
		h.own(&Delta{NodeID: r.NodeID, Session: h.sessions[r.NodeID],
			Removed: []chunk.Replica{sealedReplica(c.Chunk, 1, 10)}})
	}
	require.Equal(t, uint64(1), read[ClusterStatusResult](h, &ClusterStatus{}).Missing)
	for _, id := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		h.stored(id, sealedReplica(c.Chunk, 1, 10))
	}
	require.Len(t, read[LocateResult](h, &Locate{Path: "/f"}).Chunks[0].Replicas, 7)
	// Two too many go, one at a time.
	require.Len(t, deletions(h.pass(2*time.Second, "a", "b", "c", "d", "e", "f", "g")), 2)
	require.Len(t, read[LocateResult](h, &Locate{Path: "/f"}).Chunks[0].Replicas, 5)
}

// TestNodeWithoutDisksIsDead: a node that says that none of its volumes is in service does not count, however often it
// registers, and its chunks are copied without waiting for it to be silent.
func TestNodeWithoutDisksIsDead(t *testing.T) {
	h := newHarness(t, Config{DefaultReplication: 3, DefaultChunkSize: 1 << 20})
	h.start(4)
	written := h.write(1, "/f", 1<<20, 10)[0]
	lost := written.Replicas[0].NodeID
	broken := []datanode.VolumeState{{ID: "v", CapacityBytes: 1 << 40, Health: datanode.VolumeFailed}}
	h.own(&Heartbeat{NodeID: lost, Session: h.sessions[lost], Volumes: broken})
	others := slices.DeleteFunc([]string{"a", "b", "c", "d"}, func(id string) bool { return id == lost })
	h.pass(time.Second, others...)
	require.Equal(t, uint64(1), read[ClusterStatusResult](h, &ClusterStatus{}).UnderReplicated)
	for range 3 {
		h.session++
		h.sessions[lost] = h.session
		h.own(&RegisterNode{Session: h.session, NodeID: lost, Address: lost + ":1", Volumes: broken,
			DurableTxid: h.s.Txid()})
		h.pass(time.Second, others...)
		require.Equal(t, uint64(1), read[ClusterStatusResult](h, &ClusterStatus{}).UnderReplicated)
	}
	h.own(&Heartbeat{NodeID: lost, Session: h.sessions[lost], Volumes: volumes()})
	h.stored(lost, sealedReplica(written.Chunk, 1, 10))
	h.pass(time.Second, others...)
	require.Zero(t, read[ClusterStatusResult](h, &ClusterStatus{}).UnderReplicated, "its disk is back")
}

// A node that registers again and again is told apart from one that is live; after ten quiet minutes it is live again.
func TestANodeThatRegistersAgainAndAgainIsFlapping(t *testing.T) {
	h := newHarness(t, Config{})
	h.start(2)
	state := func() replicas.NodeStatus { return read[ClusterStatusResult](h, &ClusterStatus{}).Nodes[0] }
	require.Equal(t, "a:1", state().Name, "a node without a name is called by its address")
	for range 3 {
		require.Equal(t, datanode.NodeLive, state().State)
		h.own(&NodeGone{NodeID: "a", Session: h.sessions["a"]})
		require.Equal(t, datanode.NodeStale, state().State)
		h.pass(time.Second, "b")
		h.register("a")
	}
	require.Equal(t, datanode.NodeFlapping, state().State)
	require.Equal(t, 4, state().Registrations)
	h.pass(10*time.Minute, "a", "b")
	require.Equal(t, datanode.NodeLive, state().State)
	require.Zero(t, state().Registrations)
	h.pass(time.Minute, "b")
	require.Equal(t, datanode.NodeDead, state().State)
}

// TestReportsAreComparedTogether: two nodes that lost everything report while there are more chunks than one step
// compares. One pass over them serves both, and the nodes are complete when it has been around for each.
func TestReportsAreComparedTogether(t *testing.T) {
	h := newHarness(t, Config{DefaultReplication: 2, DefaultChunkSize: 1 << 16})
	h.slow = true
	h.start(2)
	lengths := make([]int64, 250)
	for i := range lengths {
		lengths[i] = 1 << 16
	}
	for i := 0; h.s.files.Limit() < 20_000; i++ {
		h.write(1, fmt.Sprintf("/f%d", i), 1<<16, lengths...)
	}
	h.report("a")
	h.report("b")
	require.Positive(t, read[ClusterStatusResult](h, &ClusterStatus{}).UnderReplicated)
	h.pass(2*time.Second, "a", "b")
	status := read[ClusterStatusResult](h, &ClusterStatus{})
	require.Equal(t, status.Chunks, status.Missing)
	require.False(t, h.s.replicas.Nodes.ReportsMissing())
	require.NoError(t, h.s.check())
}

// A node that is away keeps its name over a restart of the namenode; what it tells anew, and no more, is logged.
func TestNamesOutliveTheNamenode(t *testing.T) {
	h := newHarness(t, Config{})
	h.start(2)
	name := func(id string) string { return h.s.replicas.Nodes.StatusOf(h.s.replicas.Nodes.Find(id)).Name }
	require.Len(t, h.registerAs("a", "rack7").Records, 1)
	require.Empty(t, h.registerAs("a", "rack7").Records, "nothing is new")
	require.Equal(t, "rack7", name("a"))
	h.restart("b")
	require.Equal(t, "rack7", name("a"))
	require.Equal(t, "b:1", name("b"))
	h.same()
	require.Len(t, h.registerAs("a", strings.Repeat("x", 300)+"\xff").Records, 1, "too long a name is cut")
	require.Len(t, name("a"), limits.TextBytesMax)
	require.Len(t, h.registerAs("a", "").Records, 1)
	h.restart("b")
	require.Equal(t, "a:1", name("a"))
	h.same()
}

// A deletion that is taken back because the replica is needed after all: its node is asked for this one, and need not
// report in full for it.
func TestADeletionThatIsTakenBackAsksForTheReplica(t *testing.T) {
	h := newHarness(t, Config{DefaultChunkSize: 1 << 16})
	h.start(5)
	h.pass(time.Minute, "a", "b", "c", "d", "e")
	written := h.write(1, "/f", 1<<16, 100)[0]
	holders := nodeIDs(written.Replicas)
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		if !slices.Contains(holders, id) {
			h.stored(id, sealedReplica(written.Chunk, 1, 100))
			holders = append(holders, id)
			break
		}
	}
	orders := deletions(h.pass(time.Second, "a", "b", "c", "d", "e"))
	require.Len(t, orders, 1)
	ordered := orders[0][:1]
	h.mute = true
	kept := slices.DeleteFunc([]string{"a", "b", "c", "d", "e"}, func(id string) bool {
		return id == holders[0] && id != ordered || id == holders[1] && holders[0] == ordered
	})
	require.Len(t, kept, 4)
	messages := h.pass(h.s.config.ResendAfter+time.Second, kept...)
	require.Empty(t, deletions(messages), "another holder is dead")
	require.Empty(t, bodies[datanode.SendReport](messages))
	for _, m := range messages {
		if question, is := m.Body.(*datanode.TellReplicas); is {
			require.Equal(t, ordered, m.NodeID)
			require.Equal(t, []chunk.Replica{{ID: written.Chunk, Generation: 1}}, question.Replicas)
		}
	}
	require.Len(t, bodies[datanode.TellReplicas](messages), 1)
	h.stored(ordered, sealedReplica(written.Chunk, 1, 100))
	require.Zero(t, read[ClusterStatusResult](h, &ClusterStatus{}).UnderReplicated)
}

// A node is needed for what it has of a chunk of which nobody told yet that it is whole somewhere.
func TestWhatOnlyAWriterNamedStandsForNothing(t *testing.T) {
	h := newHarness(t, Config{DefaultChunkSize: 1 << 16})
	h.start(5)
	h.pass(time.Second, "a", "b", "c", "d", "e") // all chunks are assessed
	h.mute = true
	created := ok[CreateResult](h, 1, &Create{Path: "/f", ChunkCount: 1, VisibleOnComplete: true})
	named := created.Chunks[0]
	ok[CompleteResult](h, 1, &Complete{FileID: created.Info.FileID, Commits: []ChunkCommit{{Chunk: named.Chunk,
		Generation: named.Generation, Length: 100, NodeIDs: nodeIDs(named.Replicas)}}})
	other := "a"
	for slices.Contains(nodeIDs(named.Replicas), other) {
		other = string(rune(other[0] + 1))
	}
	h.stored(other, sealedReplica(named.Chunk, named.Generation, 99)) // not as it should be, but there
	require.Nil(t, h.own(&SetDuty{NodeID: other, Duty: datanode.DutyDecommission}).Reply.Err)
	h.pass(time.Second, "a", "b", "c", "d", "e")
	progress := h.s.replicas.Nodes.StatusOf(h.s.replicas.Nodes.Find(other)).Progress
	require.Equal(t, 1, progress.Needed)
	require.False(t, progress.Done)
	for _, id := range nodeIDs(named.Replicas) {
		h.stored(id, sealedReplica(named.Chunk, named.Generation, 100))
	}
	h.pass(time.Second, "a", "b", "c", "d", "e")
	require.True(t, h.s.replicas.Nodes.StatusOf(h.s.replicas.Nodes.Find(other)).Progress.Done)
}

// Chunks that are being written on too few nodes are counted as they come, change, and go.
func TestOpenChunksOnTooFewNodesAreCounted(t *testing.T) {
	h := newHarness(t, Config{DefaultChunkSize: 1 << 16})
	h.start(3)
	h.pass(time.Second, "a", "b", "c")
	few := func() uint64 { return read[ClusterStatusResult](h, &ClusterStatus{}).UnderReplicated }
	file := ok[CreateResult](h, 1, &Create{Path: "/f", ChunkCount: 1})
	first := file.Chunks[0]
	require.Zero(t, few())
	without := func(gone string) {
		r := ok[RecoverPipelineResult](h, 1, &RecoverPipeline{FileID: file.Info.FileID, Chunk: first.Chunk,
			Generation: first.Generation, FailedNodes: []string{gone}})
		first.Generation = r.Generation
		ok[UpdatePipelineResult](h, 1, &UpdatePipeline{FileID: file.Info.FileID, Chunk: first.Chunk,
			Generation: r.Generation, NodeIDs: append(nodeIDs(r.Survivors), nodeIDs(r.Replacements)...)})
	}
	without("c")
	require.EqualValues(t, 1, few())
	h.own(&NodeGone{NodeID: "c", Session: h.sessions["c"]})
	ok[CreateResult](h, 2, &Create{Path: "/g", ChunkCount: 1})
	require.EqualValues(t, 2, few())
	h.stored("a", chunk.Replica{ID: testID(1), Generation: 1, State: chunk.Open}) // of no chunk
	require.EqualValues(t, 2, few())
	h.register("d")
	h.report("d")
	h.stored("d", chunk.Replica{ID: first.Chunk, Generation: first.Generation, State: chunk.Open})
	require.EqualValues(t, 1, few(), "d has it as well")
	h.stored("d", chunk.Replica{ID: first.Chunk, Generation: first.Generation, State: chunk.Corrupt})
	require.EqualValues(t, 2, few())
	ok[RemoveResult](h, 2, &Remove{Path: "/g"})
	require.EqualValues(t, 1, few())
}

// The last good replica is on a node that leaves, and all others have older ones: a copy takes the place of one of
// them.
func TestACopyFromALeavingNodeReplacesAStaleReplica(t *testing.T) {
	h := newHarness(t, Config{DefaultChunkSize: 1 << 16, DefaultReplication: 2, WriteCopiesMin: 1})
	h.start(3)
	h.pass(time.Second, "a", "b", "c")
	file := ok[CreateResult](h, 1, &Create{Path: "/f", ChunkCount: 1})
	first := file.Chunks[0]
	kept := first.Replicas[0].NodeID
	for _, id := range []string{"a", "b", "c"} {
		h.stored(id, chunk.Replica{ID: first.Chunk, Generation: first.Generation, State: chunk.Open})
	}
	require.Nil(t, h.own(&SetDuty{NodeID: kept, Duty: datanode.DutyDecommission}).Reply.Err)
	r := ok[RecoverPipelineResult](h, 1, &RecoverPipeline{FileID: file.Info.FileID, Chunk: first.Chunk,
		Generation: first.Generation, FailedNodes: slices.DeleteFunc([]string{"a", "b", "c"},
			func(id string) bool { return id == kept })})
	ok[UpdatePipelineResult](h, 1, &UpdatePipeline{FileID: file.Info.FileID, Chunk: first.Chunk,
		Generation: r.Generation, NodeIDs: []string{kept}})
	ok[CompleteResult](h, 1, &Complete{FileID: file.Info.FileID, Commits: []ChunkCommit{{Chunk: first.Chunk,
		Generation: r.Generation, Length: 100, NodeIDs: []string{kept}}}})
	h.stored(kept, sealedReplica(first.Chunk, r.Generation, 100))
	copies := bodies[datanode.CopyReplica](h.pass(2*time.Minute, "a", "b", "c"))
	require.NotEmpty(t, copies)
	require.Equal(t, r.Generation, copies[0].Generation)
}
