package actor

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/whispering-woods/ww/actor/codec"
	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/invariants"
	"github.com/whispering-woods/ww/internal/queue"
)

const (
	// scalePageReplicas is what a datanode puts into one page of a report (control/agent, pageReplicas).
	scalePageReplicas = 4096
	scaleBeat         = time.Second
	scaleFilesPerDir  = 1000
	scaleRemoved      = 1 // directory that a client removes
	// scaleStepMost is how long a step may take: a heartbeat that waits behind it is no later than that.
	scaleStepMost = 50 * time.Millisecond
	// scaleWorkMost is what it may do, in units of step.Context.Work: assessments of 2^16 chunks.
	scaleWorkMost = 1 << 19
	// scaleReportsMost is how many nodes may report at a time.
	scaleReportsMost = 8
)

// TestScale loads a namespace, has many simulated datanodes register and report at once, loses one of them, and has
// all of them register again. It drives the real state machine; what it simulates is the shell's mailbox: a datanode's
// stream has one command in it at a time, and time goes by as the steps take it.
//
// A small slice runs always, and counts work instead of time. SCALE_NODES and SCALE_CHUNKS make it large (make scale);
// then the longest step and the lateness of heartbeats are measured, printed and bounded.
func TestScale(t *testing.T) {
	nodes, chunks, timed := 50, 100_000, false
	if text := os.Getenv("SCALE_CHUNKS"); text != "" {
		var err error
		chunks, err = strconv.Atoi(text)
		require.NoError(t, err)
		nodes, err = strconv.Atoi(cmp.Or(os.Getenv("SCALE_NODES"), "1000"))
		require.NoError(t, err)
		timed = true
	}
	if invariants.Enabled && !timed {
		nodes, chunks = 20, 20_000
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	f := newFleet(t, nodes, chunks, timed)

	f.phase("load", func() { f.load() })
	f.phase("activate", func() {
		f.own("BecomeActive", &BecomeActive{Epoch: 2})
		f.untilIdle()
	})
	f.phase("register", func() {
		f.registerAll()
		f.until(func() bool { return f.reported() == nodes && !f.s.replicas.SafeMode.On() })
		f.untilIdle()
	})
	require.Zero(t, f.status().UnderReplicated)
	require.Zero(t, f.status().Missing)
	f.run(f.s.config.RepairGrace)

	f.phase("snapshot", func() { f.snapshot() })
	f.phase("requests", func() { f.requests() })
	f.run(scaleBeat)
	f.phase("lose one", func() { f.loseOne() })
	f.phase("register again", func() {
		for i := range f.nodes {
			if n := &f.nodes[i]; !n.lost {
				f.own("NodeGone", &NodeGone{NodeID: n.id, Session: n.session})
			}
		}
		f.registerAll()
		f.until(func() bool { return f.reported() == nodes })
		f.untilIdle()
	})
	require.Zero(t, f.status().UnderReplicated)
	require.Zero(t, f.status().Missing)
	f.print()
}

// fleet is a namenode's state with simulated datanodes.
type fleet struct {
	t     *testing.T
	s     *State
	timed bool

	now     int64
	mono    time.Duration
	random  uint64
	session uint64
	chunks  int
	nodes   []fleetNode
	byID    map[string]*fleetNode
	mailbox queue.FIFO[mail]
	tick    time.Duration // when the next one is due
	odd     bool

	name     string // of the phase
	steps    map[string]*stepTimes
	lateness []time.Duration // of heartbeats in this phase
	sequence uint64
}

// fleetNode is one datanode and its stream.
type fleetNode struct {
	id       string
	session  uint64
	volumes  []datanode.VolumeState
	replicas []uint32 // chunks, by number
	lost     bool
	waits    bool          // a command is in the mailbox
	wants    bool          // a report was asked for
	running  bool          // a report is being sent
	next     int           // of replicas, to be reported
	page     uint32        // number of the next page
	beat     time.Duration // when the next heartbeat is due
	arrived  []chunk.Replica
}

// mail is a command in the mailbox.
type mail struct {
	node    *fleetNode
	kind    string
	request Request
	due     time.Duration
}

type stepTimes struct {
	count    int
	sum, max time.Duration
}

func newFleet(t *testing.T, nodes, chunks int, timed bool) *fleet {
	s, err := New(Config{})
	require.NoError(t, err)
	f := &fleet{t: t, s: s, timed: timed, now: 1_800_000_000_000, chunks: chunks,
		nodes: make([]fleetNode, nodes), byID: make(map[string]*fleetNode), steps: make(map[string]*stepTimes)}
	for i := range f.nodes {
		n := &f.nodes[i]
		n.id, n.volumes = fmt.Sprintf("node-%04d", i), volumes()
		n.replicas = make([]uint32, 0, 3*chunks/nodes*11/10)
		f.byID[n.id] = n
	}
	for number := range chunks {
		for _, node := range f.holders(number) {
			f.nodes[node].replicas = append(f.nodes[node].replicas, uint32(number))
		}
	}
	return f
}

// holders are the three nodes of a chunk.
func (f *fleet) holders(number int) (holders [3]int) {
	random := step.NewRandom([16]byte{1, byte(number), byte(number >> 8), byte(number >> 16), byte(number >> 24)})
	for i := range holders {
		for {
			if holders[i] = random.Below(len(f.nodes)); !slices.Contains(holders[:i], holders[i]) {
				break
			}
		}
	}
	return holders
}

func scaleID(number int) chunk.ID {
	random := step.NewRandom([16]byte{2, byte(number), byte(number >> 8), byte(number >> 16), byte(number >> 24)})
	return random.ChunkID(1_700_000_000_000 + int64(number))
}

func scaleReplica(number int) chunk.Replica { return sealedReplica(scaleID(number), 1, 4096) }

// load reads a checkpoint of files with one chunk each.
func (f *fleet) load() {
	before := heapBytes()
	reader, writer := io.Pipe()
	go func() { _ = writer.CloseWithError(f.writeCheckpoint(writer)) }()
	require.NoError(f.t, f.s.ReadCheckpoint(reader, int64(f.chunks)*70))
	require.Equal(f.t, f.chunks, f.s.files.Chunks())
	f.t.Logf("%d bytes of heap per file of one chunk, before any replica is known", (heapBytes()-before)/f.chunks)
}

// threadTime is the CPU time of this thread: that of a step does not depend on what else the machine does.
func threadTime(t *testing.T) time.Duration {
	var now unix.Timespec
	require.NoError(t, unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now))
	return time.Duration(now.Nano())
}

func heapBytes() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func (f *fleet) writeCheckpoint(w io.Writer) error {
	c := codec.NewCheckpointWriter(w)
	directories := (f.chunks + scaleFilesPerDir - 1) / scaleFilesPerDir
	first := uint64(namespace.RootID + 1)
	c.Frame(codec.KindCheckpointHead, &codec.CheckpointHead{Version: codec.Version, ClusterID: "scale", Created: 1,
		Epoch: 1, Txid: 1, Time: 1, NextInode: first + uint64(directories+f.chunks)})
	nodes := codec.CheckpointNodes{Version: codec.Version}
	for i := range f.nodes {
		nodes.Nodes = append(nodes.Nodes, codec.CheckpointNode{ID: f.nodes[i].id, Address: f.nodes[i].id + ":7720"})
	}
	c.Frame(codec.KindCheckpointNodes, &nodes)
	page := codec.CheckpointFiles{Version: codec.Version}
	put := func(inode codec.CheckpointInode) {
		if page.Inodes = append(page.Inodes, inode); len(page.Inodes) == codec.CheckpointPageItems {
			c.Frame(codec.KindCheckpointFiles, &page)
			page.Inodes = page.Inodes[:0]
		}
	}
	put(codec.CheckpointInode{ID: namespace.RootID, Flags: namespace.FlagDirectory})
	for i := range directories {
		put(codec.CheckpointInode{ID: first + uint64(i), Parent: namespace.RootID, Name: fmt.Sprintf("d%06d", i),
			Flags: namespace.FlagDirectory})
	}
	for i := range f.chunks {
		put(codec.CheckpointInode{ID: first + uint64(directories+i), Parent: first + uint64(i/scaleFilesPerDir),
			Name: fmt.Sprintf("f%08d", i), Flags: namespace.FlagCompleted, Blocks: 1, Replication: 3,
			Chunks: []codec.CheckpointChunk{{ID: scaleID(i), Generation: 1, Promised: 1, Length: 4096}}})
	}
	if len(page.Inodes) > 0 {
		c.Frame(codec.KindCheckpointFiles, &page)
	}
	return c.End(uint64(1+directories+f.chunks), uint64(f.chunks))
}

// own steps a request of the shell.
func (f *fleet) own(kind string, r Request) Effects { return f.step(kind, Command{Request: r}) }

// step runs a command, lets the time go by that it takes, and hands its messages to the nodes.
func (f *fleet) step(kind string, c Command) Effects {
	f.random++
	c.Now, c.Mono = f.now+f.mono.Milliseconds(), f.mono
	binary.LittleEndian.PutUint64(c.Random[:], f.random)
	began := threadTime(f.t)
	e := f.s.Step(c)
	took := threadTime(f.t) - began
	times := f.steps[f.name+" "+kind]
	if times == nil {
		times = &stepTimes{}
		f.steps[f.name+" "+kind] = times
	}
	times.count, times.sum, times.max = times.count+1, times.sum+took, max(times.max, took)
	require.Less(f.t, f.s.step.Work, scaleWorkMost, "%s %s", f.name, kind)
	if f.timed {
		f.mono += took
	} else {
		f.mono += 100 * time.Microsecond
	}
	require.Nil(f.t, e.Reply.Err, "%T", c.Request)
	for _, m := range e.Messages {
		f.deliver(m)
	}
	return e
}

// deliver hands a message to its node.
func (f *fleet) deliver(m step.Message) {
	n := f.byID[m.NodeID]
	switch body := m.Body.(type) {
	case *datanode.SendReport:
		n.wants = true
	case *datanode.CopyReplica:
		n.arrived = append(n.arrived, chunk.Replica{ID: body.Chunk, Generation: body.Generation, Length: body.Length,
			State: chunk.Sealed})
	}
}

// mail puts what the nodes have to say into the mailbox, one command of each.
func (f *fleet) mail() {
	reporting := 0
	for i := range f.nodes {
		n := &f.nodes[i]
		if n.running {
			reporting++
		}
		if n.lost || n.waits || n.session == 0 {
			continue
		}
		m := mail{node: n, due: f.mono}
		switch {
		case n.beat <= f.mono:
			m.kind, m.due = "Heartbeat", n.beat
			m.request = &Heartbeat{NodeID: n.id, Session: n.session, Volumes: n.volumes}
			n.beat += scaleBeat
		case n.running || n.wants:
			m.kind, m.request = "ReportPage", n.nextPage()
		case len(n.arrived) > 0:
			m.kind, m.request = "Delta", &Delta{NodeID: n.id, Session: n.session, Stored: n.arrived}
			n.arrived = nil
		default:
			continue
		}
		n.waits = true
		f.mailbox.Push(m)
	}
	require.LessOrEqual(f.t, reporting, scaleReportsMost)
}

func (n *fleetNode) nextPage() *ReportPage {
	if !n.running {
		n.running, n.wants, n.next, n.page = true, false, 0, 0
	}
	most := min(scalePageReplicas, len(n.replicas)-n.next)
	page := &ReportPage{NodeID: n.id, Session: n.session, ReportID: 1, Page: n.page,
		Last: n.next+most == len(n.replicas), Replicas: make([]chunk.Replica, most)}
	for i, number := range n.replicas[n.next : n.next+most] {
		page.Replicas[i] = scaleReplica(int(number))
	}
	n.next, n.page, n.running = n.next+most, n.page+1, !page.Last
	return page
}

// turn is one turn of the shell's loop.
func (f *fleet) turn() {
	f.mail()
	switch {
	case f.tick <= f.mono:
		f.tick = f.mono + f.s.config.TickInterval
		f.own("Tick", &Tick{})
	case f.s.Behind() && f.odd: // the shell chooses between it and the mailbox by chance
		f.odd = false
		f.own("Continue", &Continue{})
	case f.mailbox.Len() > 0:
		f.odd = true
		m := f.mailbox.Pop()
		f.step(m.kind, Command{Request: m.request})
		m.node.waits = false
		if m.kind == "Heartbeat" {
			f.lateness = append(f.lateness, f.mono-m.due)
		}
	case f.s.Behind():
		f.own("Continue", &Continue{})
	default: // nothing to do: until something is due
		next := f.tick
		for i := range f.nodes {
			if n := &f.nodes[i]; !n.lost && n.session != 0 {
				next = min(next, n.beat)
			}
		}
		f.mono = max(f.mono, next)
	}
}

// until runs the shell's loop until something holds.
func (f *fleet) until(holds func() bool) {
	f.t.Helper()
	end := f.mono + 10*time.Minute
	for !holds() {
		f.turn()
		require.Less(f.t, f.mono, end)
	}
}

func (f *fleet) run(d time.Duration) {
	end := f.mono + d
	f.until(func() bool { return f.mono >= end })
}

// untilIdle waits until all chunks are assessed.
func (f *fleet) untilIdle() { f.until(func() bool { return !f.s.replicas.Overview().Counting }) }

// registerAll has all nodes register at once; their heartbeats are spread over a second.
func (f *fleet) registerAll() {
	for i := range f.nodes {
		n := &f.nodes[i]
		f.session++
		n.session, n.running, n.wants, n.lost = f.session, false, false, false
		f.own("RegisterNode", &RegisterNode{Session: n.session, NodeID: n.id, Address: n.id + ":7720",
			Volumes: n.volumes, DurableTxid: f.s.Txid()})
		n.beat = f.mono
	}
}

func (f *fleet) reported() int { return len(f.nodes) - f.s.replicas.Overview().Unreported }

func (f *fleet) status() *ClusterStatusResult {
	return f.own("ClusterStatus", &ClusterStatus{}).Reply.Result.(*ClusterStatusResult)
}

// loseOne is the loss of a node with all of its replicas: all are copied.
func (f *fleet) loseOne() {
	lost := &f.nodes[len(f.nodes)/2]
	lost.lost = true
	f.run(f.s.config.DeadAfter + time.Second)
	f.untilIdle()
	planned := f.mono
	kept := slices.DeleteFunc(slices.Clone(lost.replicas), func(number uint32) bool {
		return number/scaleFilesPerDir == scaleRemoved
	})
	require.EqualValues(f.t, len(kept), f.status().UnderReplicated)
	f.until(func() bool { return f.s.replicas.Overview().UnderReplicated == 0 })
	f.t.Logf("%d chunks copied in %v of the namenode's time", len(lost.replicas), f.mono-planned)
}

func (f *fleet) snapshot() {
	began := threadTime(f.t)
	snapshot := f.s.Snapshot()
	took := threadTime(f.t) - began
	f.steps[f.name] = &stepTimes{count: 1, sum: took, max: took}
	runtime.KeepAlive(snapshot)
}

// catchUp steps what is due beside the requests that do not wait for the mailbox: nodes would be taken for dead.
func (f *fleet) catchUp() {
	for f.mail(); f.mailbox.Len() > 0 || f.tick <= f.mono; f.mail() {
		f.turn()
	}
}

// as steps a mutation of a client.
func (f *fleet) as(client byte, kind string, r Request) any {
	f.catchUp()
	f.sequence++
	return f.step(kind, Command{Client: ClientID{client}, Sequence: f.sequence, OldestPending: f.sequence,
		Request: r}).Reply.Result
}

// requests are those of clients that cost most.
func (f *fleet) requests() {
	created := f.as(1, "Create", &Create{Path: "/large", ChunkCount: 256, VisibleOnComplete: true}).(*CreateResult)
	f.as(1, "Abandon", &Abandon{FileID: created.Info.FileID})
	opened := make([]uint64, f.chunks/100)
	for i := range opened {
		opened[i] = f.as(1, "Create one",
			&Create{Path: fmt.Sprintf("/open-%d", i), ChunkCount: 1}).(*CreateResult).Info.FileID
	}
	for range 10 {
		f.own("RenewLeases", &RenewLeases{Client: ClientID{1}})
		f.status()
	}
	for _, file := range opened {
		f.as(1, "Abandon", &Abandon{FileID: file})
	}
	f.as(1, "Remove", &Remove{Path: fmt.Sprintf("/d%06d", scaleRemoved), Recursive: true})
}

func (f *fleet) phase(name string, do func()) {
	f.name, f.lateness = name, f.lateness[:0]
	from, began := f.mono, time.Now()
	do()
	text := fmt.Sprintf("%-16s %8v of the namenode's time, %8v in all, heap %d MiB", name,
		(f.mono - from).Round(time.Millisecond), time.Since(began).Round(time.Millisecond), heapBytes()>>20)
	if len(f.lateness) > 0 {
		slices.Sort(f.lateness)
		late := f.lateness[len(f.lateness)*99/100]
		text += fmt.Sprintf(", heartbeats p50 %v p99 %v max %v", f.lateness[len(f.lateness)/2], late,
			f.lateness[len(f.lateness)-1])
		if f.timed {
			assert.Less(f.t, late, f.s.config.StaleAfter/3, "heartbeats in %s", name)
		}
	}
	f.t.Log(text)
}

func (f *fleet) print() {
	for _, kind := range slices.Sorted(maps.Keys(f.steps)) {
		times := f.steps[kind]
		f.t.Logf("%-32s %8d steps, mean %10v, longest %10v", kind, times.count,
			times.sum/time.Duration(times.count), times.max)
		if f.timed {
			assert.Less(f.t, times.max, scaleStepMost, "%s", kind)
		}
	}
}
