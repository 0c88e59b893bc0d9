package actor

import (
	"bytes"
	"fmt"
	"math/rand"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
)

// world is a small cluster that lives at random: clients write, append, crash;
// datanodes store, obey orders, stop, lose replicas and come back. It watches
// over the rules of deletion.
type world struct {
	*harness
	random *rand.Rand
	nodes  []string
	up     map[string]bool
	disks  map[string]map[chunk.ID]chunk.Replica
	files  []writing
	lost   map[chunk.ID]bool // the world itself destroyed a replica
	orders []step.Message
	trace  bytes.Buffer
	// punctual nodes tell of each change at once.
	punctual bool
	// small nodes, of unequal size, can be balanced.
	small bool
}

// writing is a file that a client has open.
type writing struct {
	client byte
	id     uint64
	chunks []LocatedChunk
}

func newWorld(t testing.TB, seed int64) *world {
	w := &world{harness: newHarness(t,
		Config{DefaultChunkSize: 1 << 16, DefaultReplication: 2, DeleteGrace: 20 * time.Second,
			RepairGrace:    5 * time.Second,
			LeaseSoftLimit: 10 * time.Second, LeaseHardLimit: 30 * time.Second, CopyTimeout: 10 * time.Second,
			RecoverWait: 2 * time.Second, TrashExpiry: time.Second}),
		random: rand.New(rand.NewSource(seed)), up: make(map[string]bool),
		disks: make(map[string]map[chunk.ID]chunk.Replica), lost: make(map[chunk.ID]bool)}
	w.start(4)
	for _, id := range []string{"a", "b", "c", "d"} {
		w.nodes = append(w.nodes, id)
		w.up[id] = true
		w.disks[id] = make(map[chunk.ID]chunk.Replica)
	}
	return w
}

func (w *world) path() string {
	names := []string{"x", "y", "z"}
	p := "/" + names[w.random.Intn(3)]
	for w.random.Intn(2) == 0 && len(p) < 6 {
		p += "/" + names[w.random.Intn(3)]
	}
	return p
}

// do runs a request and notes what came of it for comparison between runs.
func (w *world) do(e Effects) Effects {
	w.orders = append(w.orders, e.Messages...)
	fmt.Fprintf(&w.trace, "%d %v %+v\n", len(e.Records), e.Reply.Err, e.Reply.Result)
	for _, m := range e.Messages {
		fmt.Fprintf(&w.trace, "  %s %d %+v\n", m.NodeID, m.AfterTxid, m.Body)
	}
	return e
}

func (w *world) store(node string, r chunk.Replica) {
	if !w.up[node] {
		return
	}
	w.disks[node][r.ID] = r
	if w.random.Intn(4) > 0 || w.punctual { // else the delta is late: the next report tells
		w.do(w.stored(node, r))
	}
}

func (w *world) round() {
	client := byte(1 + w.random.Intn(3))
	switch w.random.Intn(16) {
	case 0:
		w.do(w.as(client, &Mkdir{Path: w.path(), Parents: w.random.Intn(2) == 0}))
	case 1, 2, 3:
		e := w.do(w.as(client, &Create{Path: w.path(), Parents: true, Overwrite: w.random.Intn(2) == 0,
			VisibleOnComplete: w.random.Intn(2) == 0, ChunkCount: uint32(w.random.Intn(3))}))
		if r, is := e.Reply.Result.(*CreateResult); is && e.Reply.Err == nil {
			for _, c := range r.Chunks {
				for _, n := range c.Replicas {
					w.store(n.NodeID, chunk.Replica{ID: c.Chunk, Generation: c.Generation,
						Length: int64(w.random.Intn(100)), State: chunk.Open})
				}
			}
			w.files = append(w.files, writing{client: client, id: r.Info.FileID, chunks: r.Chunks})
		}
	case 4, 5, 6, 7:
		w.finish()
	case 8:
		e := w.do(w.as(client, &Append{Path: w.path(), RecoverLease: w.random.Intn(2) == 0}))
		if r, is := e.Reply.Result.(*AppendResult); is && e.Reply.Err == nil {
			f := writing{client: client, id: r.Info.FileID}
			if r.HasLast {
				for _, n := range r.Last.Replicas {
					w.store(n.NodeID, chunk.Replica{ID: r.Last.Chunk, Generation: r.Last.Generation,
						Length: r.Last.Length, State: chunk.Open})
				}
				f.chunks = []LocatedChunk{r.Last}
			}
			w.files = append(w.files, f)
		}
	case 9:
		w.do(w.as(client, &Rename{Source: w.path(), Target: w.path(), Overwrite: true}))
	case 10:
		w.leaveDisk()
		if w.random.Intn(3) == 0 {
			w.do(w.as(client, &Remove{Path: w.path(), Recursive: true, ToTrash: client == 1, User: "ann"}))
		}
	case 11:
		w.breakPipeline()
	case 12:
		switch w.random.Intn(3) {
		case 0:
			w.do(w.as(client, &Truncate{Path: w.path(), Length: int64(w.random.Intn(60))}))
		case 1:
			w.do(w.as(client, &RecoverLease{Path: w.path()}))
		case 2:
			w.do(w.own(&RenewLeases{Client: ClientID{client}}))
		}
	case 13:
		w.disturb()
	default:
		w.elapse(time.Duration(w.random.Intn(8000)) * time.Millisecond)
	}
	w.obey()
}

// finish completes a file, or forgets it as a crashed client would.
func (w *world) finish() {
	if len(w.files) == 0 {
		return
	}
	at := w.random.Intn(len(w.files))
	f := w.files[at]
	w.files = slices.Delete(w.files, at, at+1)
	if w.random.Intn(5) == 0 {
		if w.random.Intn(2) == 0 {
			w.do(w.as(f.client, &Abandon{FileID: f.id}))
		}
		return
	}
	var commits []ChunkCommit
	for i, c := range f.chunks {
		length := int64(1 << 16)
		if i == len(f.chunks)-1 {
			length = max(c.Length, int64(w.random.Intn(200)))
		}
		commit := ChunkCommit{Chunk: c.Chunk, Generation: c.Generation, Length: length}
		for _, n := range c.Replicas {
			if r, there := w.disks[n.NodeID][c.Chunk]; w.up[n.NodeID] && there && r.Generation == c.Generation &&
				r.State == chunk.Open {
				w.disks[n.NodeID][c.Chunk] = sealedReplica(c.Chunk, c.Generation, length)
				commit.NodeIDs = append(commit.NodeIDs, n.NodeID)
			}
		}
		commits = append(commits, commit)
	}
	e := w.do(w.as(f.client, &Complete{FileID: f.id, Commits: commits}))
	if e.Reply.Err == nil {
		for _, c := range commits {
			for _, n := range c.NodeIDs {
				w.store(n, w.disks[n][c.Chunk])
			}
		}
	}
}

func (w *world) breakPipeline() {
	if len(w.files) == 0 {
		return
	}
	f := &w.files[w.random.Intn(len(w.files))]
	if len(f.chunks) == 0 {
		return
	}
	c := &f.chunks[len(f.chunks)-1]
	failed := c.Replicas[w.random.Intn(len(c.Replicas))].NodeID
	e := w.do(w.as(f.client, &RecoverPipeline{FileID: f.id, Chunk: c.Chunk, Generation: c.Generation,
		FailedNodes: []string{failed}}))
	r, is := e.Reply.Result.(*RecoverPipelineResult)
	if !is || e.Reply.Err != nil {
		return
	}
	c.Generation = r.Generation
	c.Replicas = append(slices.Clone(r.Survivors), r.Replacements...)
	c.Length = max(c.Length, int64(w.random.Intn(50)))
	for _, n := range c.Replicas {
		w.store(n.NodeID, chunk.Replica{ID: c.Chunk, Generation: c.Generation, Length: c.Length, State: chunk.Open})
	}
	if w.random.Intn(4) > 0 {
		w.do(w.as(f.client, &UpdatePipeline{FileID: f.id, Chunk: c.Chunk, Generation: c.Generation, Length: c.Length,
			NodeIDs: nodeIDs(c.Replicas)}))
	}
}

// disturb stops or starts a node, loses or corrupts a replica, restarts the
// namenode.
func (w *world) disturb() {
	id := w.nodes[w.random.Intn(len(w.nodes))]
	switch w.random.Intn(6) {
	case 5: // it comes back without something that was there a moment ago
		if r, there := w.someReplica(id); there {
			w.lost[r.ID] = true
			w.do(w.own(&NodeGone{NodeID: id, Session: w.sessions[id]}))
			w.up[id] = false
			delete(w.disks[id], r.ID)
			w.join(id)
		}
	case 0:
		if w.up[id] {
			w.up[id] = false
			w.do(w.own(&NodeGone{NodeID: id, Session: w.sessions[id]}))
		}
	case 1:
		w.join(id)
	case 2:
		if r, there := w.someReplica(id); there && w.up[id] {
			w.lost[r.ID] = true
			delete(w.disks[id], r.ID)
			w.do(w.own(&Delta{NodeID: id, Session: w.sessions[id], Removed: []chunk.Replica{r}}))
		}
	case 3:
		if r, there := w.someReplica(id); there {
			w.do(w.own(&ReportBadReplica{Chunk: r.ID, Generation: r.Generation, NodeID: id}))
		}
	case 4:
		w.orders = nil
		w.restart()
		for _, n := range w.nodes {
			if w.up[n] {
				w.join(n)
			}
		}
		w.do(w.own(&SafeMode{Action: SafeModeLeave}))
	}
}

func (w *world) someReplica(id string) (chunk.Replica, bool) {
	held := w.held(id)
	if len(held) == 0 {
		return chunk.Replica{}, false
	}
	return held[w.random.Intn(len(held))], true
}

// held lists a node's disk in order.
// leaveDisk has some replicas of a node be on a disk that is to be removed, or no more.
func (w *world) leaveDisk() {
	id := w.nodes[w.random.Intn(len(w.nodes))]
	for _, r := range w.held(id) {
		if r.State == chunk.Sealed && w.random.Intn(3) == 0 {
			r.Leaving = !r.Leaving
			w.store(id, r)
		}
	}
}

func (w *world) held(id string) (replicas []chunk.Replica) {
	for _, r := range w.disks[id] {
		replicas = append(replicas, r)
	}
	slices.SortFunc(replicas, func(a, b chunk.Replica) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return replicas
}

func (w *world) join(id string) {
	if !w.up[id] { // what was open when it stopped holds a prefix now
		for _, r := range w.held(id) {
			if r.State == chunk.Open {
				r.State = chunk.Recovered
				w.disks[id][r.ID] = r
			}
		}
	}
	w.up[id] = true
	w.do(w.register(id))
	w.do(w.report(id, w.held(id)...))
}

func (w *world) elapse(d time.Duration) {
	for end := w.mono + d; w.mono < end; {
		w.mono += w.s.config.TickInterval
		for _, id := range w.nodes {
			if w.up[id] {
				w.do(w.own(&Heartbeat{NodeID: id, Session: w.sessions[id], Volumes: w.volumes(id)}))
			}
		}
		w.do(w.own(&Tick{}))
		w.obey()
	}
}

// volumes of a node have room for everything; small ones say that they hold little in all.
func (w *world) volumes(id string) []datanode.VolumeState {
	state := volumes()
	if w.small {
		state[0].CapacityBytes = int64(1+slices.Index(w.nodes, id)) << 17
	}
	return state
}

// obey carries out the orders to nodes that are up; some get lost.
func (w *world) obey() {
	for len(w.orders) > 0 {
		m := w.orders[0]
		w.orders = w.orders[1:]
		_, question := m.Body.(*datanode.TellReplicas) // one that is lost is asked again after a report only
		if !w.up[m.NodeID] || !question && w.random.Intn(10) == 0 {
			continue
		}
		switch d := m.Body.(type) {
		case *datanode.SendReport:
			w.do(w.report(m.NodeID, w.held(m.NodeID)...))
		case *datanode.CopyReplica:
			result := &CopyResult{NodeID: m.NodeID, Session: w.sessions[m.NodeID],
				CopyResult: datanode.CopyResult{Chunk: d.Chunk, Generation: d.Generation,
					Error: "no source gave a good copy"}}
			for _, source := range d.Sources {
				r, there := w.disks[source.NodeID][d.Chunk]
				if w.up[source.NodeID] && there && r.State == chunk.Sealed && r.Generation == d.Generation {
					if old, exists := w.disks[m.NodeID][d.Chunk]; !exists || old.State == chunk.Corrupt ||
						old.Generation < r.Generation || old.Leaving {
						require.Equal(w.t, d.Length, r.Length)
						r.Leaving = false
						w.store(m.NodeID, r)
					}
					result.Error = ""
					break
				}
				if w.random.Intn(8) == 0 { // right or wrong, its node will verify it
					result.BadSources = append(result.BadSources, source.NodeID)
				}
			}
			w.do(w.own(result))
		case *datanode.RecoverChunk:
			w.recover(m.NodeID, d)
		case *datanode.VerifyReplica:
			r, there := w.disks[m.NodeID][d.Chunk]
			if !there || r.Generation != d.Generation {
				continue
			}
			result := &VerifyResult{NodeID: m.NodeID, Session: w.sessions[m.NodeID],
				VerifyResult: datanode.VerifyResult{Chunk: d.Chunk, Generation: d.Generation}}
			if w.random.Intn(4) == 0 {
				w.lost[d.Chunk] = true
				result.Bad, result.Error = true, "checksum mismatch"
				if w.random.Intn(2) == 0 { // else its disk does not give its bytes
					r.State = chunk.Corrupt
					w.store(m.NodeID, r)
				}
			}
			w.do(w.own(result))
		case *datanode.TellReplicas:
			delta := &Delta{NodeID: m.NodeID, Session: w.sessions[m.NodeID]}
			for _, r := range d.Replicas {
				if found, there := w.disks[m.NodeID][r.ID]; there {
					delta.Stored = append(delta.Stored, found)
				} else {
					delta.Removed = append(delta.Removed, r)
				}
			}
			w.do(w.own(delta))
		case *datanode.DeleteReplicas:
			for _, r := range d.Replicas {
				w.delete(m.NodeID, r)
			}
		}
	}
}

func (w *world) recover(primary string, d *datanode.RecoverChunk) {
	length := int64(-1)
	var holders []string
	nobody := true
	for _, h := range d.Replicas {
		r, there := w.disks[h.NodeID][d.Chunk]
		nobody = nobody && w.up[h.NodeID] && !there
		if !w.up[h.NodeID] || !there || r.Generation < d.MinimumGeneration || r.Generation >= d.Generation {
			continue
		}
		holders = append(holders, h.NodeID)
		if length < 0 || r.Length < length {
			length = r.Length
		}
	}
	if d.Length >= 0 {
		length = d.Length
	}
	result := &RecoverResult{NodeID: primary, Session: w.sessions[primary],
		RecoverResult: datanode.RecoverResult{Chunk: d.Chunk, Generation: d.Generation, Length: max(length, 0),
			NodeIDs: holders}}
	if nobody {
		result.Length = 0
	}
	if len(holders) == 0 && !nobody || w.random.Intn(5) == 0 {
		result.Error = "no"
		w.do(w.own(result))
		return
	}
	for _, h := range holders {
		w.disks[h][d.Chunk] = sealedReplica(d.Chunk, d.Generation, length)
	}
	w.do(w.own(result))
	for _, h := range holders {
		w.store(h, w.disks[h][d.Chunk])
	}
}

// delete obeys an order and watches that the last good replica of a chunk that
// is in the namespace never goes.
func (w *world) delete(node string, order chunk.Replica) {
	r, there := w.disks[node][order.ID]
	if !there || r.Generation != order.Generation {
		return
	}
	slot := w.s.files.Find(order.ID)
	if slot != 0 {
		c := w.s.files.Chunk(slot)
		require.False(w.t, c.Open(), "a replica of an open chunk is deleted")
		good := 0
		for n, disk := range w.disks {
			if q, has := disk[order.ID]; has && n != node && q.State == chunk.Sealed && !q.Leaving &&
				q.Generation == c.Generation() && q.Length == c.Length() {
				good++
			}
		}
		require.Positive(w.t, good, "the last good replica of %s is deleted on %s", order.ID, node)
	}
	delete(w.disks[node], order.ID)
	w.do(w.own(&Delta{NodeID: node, Session: w.sessions[node], Removed: []chunk.Replica{r}}))
}

// requireNoPhantoms: what a namenode believes of the nodes that are up is on their disks.
func (w *world) requireNoPhantoms() {
	for slot := namespace.ChunkSlot(1); slot < w.s.files.Limit(); slot++ {
		c := w.s.files.Chunk(slot)
		if c.ID().IsZero() || c.Open() {
			continue
		}
		nodes, _, _ := w.s.replicas.OpenChunks.Located(slot)
		for _, node := range nodes {
			id := w.s.replicas.Nodes.ID(node)
			if found := w.disks[id][c.ID()]; w.up[id] {
				found.Leaving = false
				require.Equal(w.t, sealedReplica(c.ID(), c.Generation(), c.Length()), found, "on node %s", id)
			}
		}
	}
}

// TestRandomLife runs worlds of several seeds, each twice: the same commands
// must have the same effects, and the log must give the same state.
func TestRandomLife(t *testing.T) {
	seeds, rounds := int64(12), 250
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			var first []byte
			for run := range 2 {
				w := newWorld(t, seed)
				for range rounds {
					w.round()
				}
				w.elapse(5 * time.Second)
				w.requireNoPhantoms()
				w.same()
				trace := append(bytes.Clone(w.trace.Bytes()), w.s.Checkpoint()...)
				if run == 0 {
					first = trace
				} else {
					require.True(t, bytes.Equal(first, trace), "two runs of one seed differ")
				}
			}
		})
	}
}
