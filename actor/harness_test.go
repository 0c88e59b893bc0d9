package actor

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
)

// bench drives one State as a shell would, checks its invariants after every
// step, and follows its log with a second State that must hold the same.
type harness struct {
	t        testing.TB
	config   Config
	s        *State
	follower *State
	log      [][]byte
	now      int64
	mono     time.Duration
	random   uint64
	sequence map[ClientID]uint64
	session  uint64
	sessions map[string]uint64
	racks    map[string]string // of nodes that registered with one
	// slow skips the checks that cost time.
	slow bool
	// mute: nodes that are asked in a pass do not answer; else they have what a writer says that they have.
	mute bool
}

func newHarness(t testing.TB, config Config) *harness {
	h := &harness{t: t, config: config, now: 1_700_000_000_000, sequence: make(map[ClientID]uint64),
		sessions: make(map[string]uint64), racks: make(map[string]string)}
	h.s = h.fresh()
	h.follower = h.fresh()
	return h
}

func (h *harness) fresh() *State {
	s, err := New(h.config)
	require.NoError(h.t, err)
	return s
}

// step runs a command and keeps its records.
func (h *harness) step(c Command) Effects {
	h.t.Helper()
	h.now++
	h.random++
	c.Now, c.Mono = h.now, h.mono
	binary.LittleEndian.PutUint64(c.Random[:], h.random)
	e := h.s.Step(c)
	for i, r := range e.Records {
		require.Equal(h.t, uint64(len(h.log)+1), e.FirstTxid+uint64(i))
		h.log = append(h.log, r)
		if !h.slow {
			require.NoError(h.t, h.follower.Replay(uint64(len(h.log)), r))
		}
	}
	require.Equal(h.t, h.s.Txid(), uint64(len(h.log)))
	require.LessOrEqual(h.t, e.Reply.AfterTxid, h.s.Txid())
	if !h.slow {
		require.NoError(h.t, h.s.check(), "after %T %+v", c.Request, c.Request)
		require.NoError(h.t, h.follower.check())
	}
	return e
}

// own runs a request of the shell.
func (h *harness) own(r Request) Effects { h.t.Helper(); return h.step(Command{Request: r}) }

// as runs a client's mutation under its next sequence.
func (h *harness) as(client byte, r Request) Effects {
	h.t.Helper()
	id := ClientID{client}
	h.sequence[id]++
	return h.step(Command{Client: id, Sequence: h.sequence[id], OldestPending: h.sequence[id], Request: r})
}

// ok is as for a mutation that must succeed.
func ok[T any](h *harness, client byte, r Request) *T {
	h.t.Helper()
	e := h.as(client, r)
	if e.Reply.Err != nil {
		h.t.Fatalf("%T %+v: %v", r, r, e.Reply.Err)
	}
	result, is := e.Reply.Result.(*T)
	require.True(h.t, is, "result is %T", e.Reply.Result)
	return result
}

// read runs a request that must succeed.
func read[T any](h *harness, r Request) *T {
	h.t.Helper()
	e := h.own(r)
	if e.Reply.Err != nil {
		h.t.Fatalf("%T %+v: %v", r, r, e.Reply.Err)
	}
	return e.Reply.Result.(*T)
}

// start formats a cluster with nodes a, b, c, … that have reported nothing.
func (h *harness) start(nodes int) {
	h.t.Helper()
	h.own(&Format{ClusterID: "cluster-1"})
	e := h.own(&BecomeActive{Epoch: 1})
	require.Nil(h.t, e.Reply.Err)
	for i := range nodes {
		h.register(string(rune('a' + i)))
		h.report(string(rune('a' + i)))
	}
}

func (h *harness) register(id string) Effects { h.t.Helper(); return h.registerAs(id, "") }

// registerAs is register of a node with a name.
func (h *harness) registerAs(id, name string) Effects {
	h.t.Helper()
	h.session++
	h.sessions[id] = h.session
	return h.own(&RegisterNode{Session: h.session, NodeID: id, Address: id + ":1", Rack: h.racks[id], Name: name,
		Volumes: volumes(), DurableTxid: h.s.Txid()})
}

func volumes() []datanode.VolumeState {
	return []datanode.VolumeState{{ID: "v", Healthy: true, CapacityBytes: 1 << 40, FreeBytes: 1 << 39}}
}

func (h *harness) report(id string, replicas ...chunk.Replica) Effects {
	h.t.Helper()
	h.session++
	return h.own(&ReportPage{NodeID: id, Session: h.sessions[id], ReportID: h.session, Last: true, Replicas: replicas})
}

func (h *harness) stored(id string, replicas ...chunk.Replica) Effects {
	h.t.Helper()
	return h.own(&Delta{NodeID: id, Session: h.sessions[id], Stored: replicas})
}

// pass lets time go by in ticks, while the nodes named keep beating.
func (h *harness) pass(d time.Duration, alive ...string) (messages []step.Message) {
	h.t.Helper()
	tick := h.s.config.TickInterval
	for end := h.mono + d; h.mono < end; {
		h.mono += min(tick, end-h.mono)
		h.now += tick.Milliseconds()
		for _, id := range alive {
			messages = append(messages,
				h.own(&Heartbeat{NodeID: id, Session: h.sessions[id], Volumes: volumes()}).Messages...)
		}
		messages = append(messages, h.answer(h.own(&Tick{}).Messages, alive)...)
		for h.s.Behind() {
			messages = append(messages, h.answer(h.own(&Continue{}).Messages, alive)...)
		}
	}
	return messages
}

// answer has the nodes that are alive answer the questions among messages, and returns the other messages.
func (h *harness) answer(messages []step.Message, alive []string) (others []step.Message) {
	for _, m := range slices.Clone(messages) {
		question, is := m.Body.(*datanode.TellReplicas)
		if !is || h.mute {
			others = append(others, m)
			continue
		}
		if !slices.Contains(alive, m.NodeID) {
			continue
		}
		var found []chunk.Replica
		for _, r := range question.Replicas {
			found = append(found, sealedReplica(r.ID, r.Generation, h.s.files.Chunk(h.s.files.Find(r.ID)).Length()))
		}
		before := h.random // what follows does not depend on whether a node had to be asked
		others = append(others, h.stored(m.NodeID, found...).Messages...)
		h.random = before
	}
	return others
}

// write makes a whole file of chunks with the lengths given, on the nodes that
// the namenode chose, which tell of their replicas.
func (h *harness) write(client byte, path string, chunkSize int64, lengths ...int64) []LocatedChunk {
	h.t.Helper()
	created := ok[CreateResult](h, client, &Create{Path: path, ChunkSize: chunkSize, ChunkCount: uint32(len(lengths)),
		VisibleOnComplete: true, Overwrite: true})
	commits := make([]ChunkCommit, len(lengths))
	for i, c := range created.Chunks {
		commits[i] = ChunkCommit{Chunk: c.Chunk, Generation: c.Generation, Length: lengths[i],
			NodeIDs: nodeIDs(c.Replicas)}
	}
	ok[CompleteResult](h, client, &Complete{FileID: created.Info.FileID, Commits: commits})
	for i, c := range created.Chunks {
		for _, r := range c.Replicas {
			h.stored(r.NodeID, sealedReplica(c.Chunk, c.Generation, lengths[i]))
		}
	}
	return created.Chunks
}

func sealedReplica(id chunk.ID, generation chunk.Generation, length int64) chunk.Replica {
	return chunk.Replica{ID: id, Generation: generation, Length: length, State: chunk.Sealed}
}

func nodeIDs(replicas []chunk.Location) []string {
	ids := make([]string, len(replicas))
	for i, r := range replicas {
		ids[i] = r.NodeID
	}
	return ids
}

// restart replays the log into a new State and makes it active; the nodes named
// register again.
func (h *harness) restart(nodes ...string) {
	h.t.Helper()
	h.s = h.fresh()
	for i, r := range h.log {
		require.NoError(h.t, h.s.Replay(uint64(i+1), r))
	}
	epoch := h.s.epoch + 1
	require.Nil(h.t, h.own(&BecomeActive{Epoch: epoch}).Reply.Err)
	for _, id := range nodes {
		require.Nil(h.t, h.register(id).Reply.Err)
	}
}

// same checks that the follower, a replay of the whole log, and a load of the
// checkpoint all hold the same state.
func (h *harness) same() {
	h.t.Helper()
	want := h.s.Checkpoint()
	if !h.slow {
		require.True(h.t, bytes.Equal(want, h.follower.Checkpoint()), "the follower differs")
	}
	replayed := h.fresh()
	for i, r := range h.log {
		require.NoError(h.t, replayed.Replay(uint64(i+1), r))
	}
	require.True(h.t, bytes.Equal(want, replayed.Checkpoint()), "the replayed state differs")
	loaded := h.fresh()
	require.NoError(h.t, loaded.LoadCheckpoint(want))
	require.NoError(h.t, loaded.check())
	require.True(h.t, bytes.Equal(want, loaded.Checkpoint()), "the loaded state differs")
}

// deletions lists the delete orders among messages: "node chunk@generation".
func deletions(messages []step.Message) (orders []string) {
	for _, m := range messages {
		if d, is := m.Body.(*datanode.DeleteReplicas); is {
			for _, r := range d.Replicas {
				orders = append(orders, fmt.Sprintf("%s %s@%d", m.NodeID, r.ID, r.Generation))
			}
		}
	}
	return orders
}

// bodies picks the messages of one type.
func bodies[T any](messages []step.Message) (found []*T) {
	for _, m := range messages {
		if b, is := m.Body.(*T); is {
			found = append(found, b)
		}
	}
	return found
}

func testID(n byte) chunk.ID {
	return chunk.NewID(1_700_000_000_000, [10]byte{n, 1, 2, 3, 4, 5, 6, 7, 8, n})
}
