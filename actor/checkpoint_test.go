package actor

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/actor/codec"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
	"github.com/whispering-woods/ww/internal/msgpack"
)

// fullHarness holds something of everything that a checkpoint can hold.
func fullHarness(t testing.TB) *harness {
	h := newHarness(t, Config{DefaultReplication: 2, DefaultChunkSize: 1 << 16})
	h.start(4)
	ok[MkdirResult](h, 1, &Mkdir{Path: "/d/e", Parents: true})
	h.write(1, "/d/f", 1<<16, 1<<16, 1<<16, 9)
	h.write(2, "/d/e/g", 1<<17, 5)
	h.write(2, "/empty", 1<<16)
	open := ok[CreateResult](h, 3, &Create{Path: "/open", ChunkCount: 2, ClientName: "three:3"})
	ok[RecoverPipelineResult](h, 3, &RecoverPipeline{FileID: open.Info.FileID, Chunk: open.Chunks[0].Chunk,
		Generation: 1, FailedNodes: []string{open.Chunks[0].Replicas[0].NodeID}})
	ok[UpdatePipelineResult](h, 3, &UpdatePipeline{FileID: open.Info.FileID, Chunk: open.Chunks[0].Chunk, Generation: 2,
		Length: 77, NodeIDs: []string{"a", "b"}})
	ok[CreateResult](h, 4, &Create{Path: "/d/hidden", VisibleOnComplete: true, Overwrite: true, ChunkCount: 1})
	ok[AppendResult](h, 5, &Append{Path: "/d/e/g", ClientName: "five:5"})
	h.write(6, "/cut", 1<<16, 100)
	ok[TruncateResult](h, 6, &Truncate{Path: "/cut", Length: 10})
	ok[RenameResult](h, 6, &Rename{Source: "/d/e", Target: "/z"})
	ok[RemoveResult](h, 7, &Remove{Path: "/empty"})
	gone := ok[CreateResult](h, 7, &Create{Path: "/gone"})
	ok[AbandonResult](h, 7, &Abandon{FileID: gone.Info.FileID})
	kept := ok[CreateResult](h, 8, &Create{Path: "/kept", ChunkCount: 1})
	ok[AddChunksResult](h, 8, &AddChunks{FileID: kept.Info.FileID, FirstIndex: 1, Count: 1})
	ok[CreateResult](h, 9, &Create{Path: "/lost", ChunkCount: 1})
	ok[RecoverLeaseResult](h, 9, &RecoverLease{Path: "/lost"})
	return h
}

func TestCheckpointRoundTrip(t *testing.T) {
	h := fullHarness(t)
	h.same()
	loaded := h.fresh()
	require.NoError(t, loaded.LoadCheckpoint(h.s.Checkpoint()))
	require.Equal(t, h.s.Txid(), loaded.Txid())
	require.Equal(t, h.s.ClusterID(), loaded.ClusterID())

	// A loaded state goes on like the original: the same log leads both to the
	// same bytes, and a retry gets the first answer.
	before := len(h.log)
	ok[MkdirResult](h, 1, &Mkdir{Path: "/later"})
	h.write(2, "/d/later", 1<<16, 1<<16, 3)
	for i, r := range h.log[before:] {
		require.NoError(t, loaded.Replay(uint64(before+i+1), r))
	}
	require.True(t, bytes.Equal(h.s.Checkpoint(), loaded.Checkpoint()))
	require.NoError(t, loaded.check())
	for client := byte(3); client <= 9; client++ {
		want, found, _ := h.s.answers.Lookup(ClientID{client}, h.sequence[ClientID{client}])
		require.True(t, found)
		got, found, _ := loaded.answers.Lookup(ClientID{client}, h.sequence[ClientID{client}])
		require.True(t, found)
		require.Equal(t, want, got)
	}
	require.Error(t, loaded.LoadCheckpoint(h.s.Checkpoint()), "a state that is not empty")
}

// TestCheckpointOfLargeThings crosses the borders of frames: many chunks in a
// file, many inodes, many answers of a client, long paths of hidden files.
func TestCheckpointOfLargeThings(t *testing.T) {
	h := newHarness(t, Config{DefaultReplication: 1, DefaultChunkSize: 1 << 16})
	h.slow = true
	h.start(1)
	for _, chunks := range []int{codec.CheckpointPageItems - 1, codec.CheckpointPageItems,
		codec.CheckpointPageItems + 1, 3*codec.CheckpointPageItems + 5} {
		created := ok[CreateResult](h, 1, &Create{Path: fmt.Sprintf("/chunks-%d", chunks)})
		for at := 0; at < chunks; at += limits.ChunksPerCallMax {
			ok[AddChunksResult](h, 1, &AddChunks{FileID: created.Info.FileID, FirstIndex: uint32(at),
				Count: uint32(min(limits.ChunksPerCallMax, chunks-at))})
		}
	}
	for i := range 2*codec.CheckpointPageItems + 1 {
		ok[MkdirResult](h, 2, &Mkdir{Path: fmt.Sprintf("/directory-%d", i)})
	}
	for i := range 9 {
		deep := strings.Repeat("/"+strings.Repeat("x", limits.NameBytesMax), 900) + fmt.Sprintf("/%d", i)
		ok[CreateResult](h, 3, &Create{Path: deep, Parents: i == 0, VisibleOnComplete: true})
	}
	id := ClientID{4}
	for i := range 600 {
		e := h.step(Command{Client: id, Sequence: uint64(i + 1), OldestPending: 1,
			Request: &Create{Path: fmt.Sprintf("/many-%d", i), ChunkCount: 20}})
		require.Nil(t, e.Reply.Err)
	}
	require.NoError(t, h.s.check())
	h.same()
}

// TestSnapshotBesideTheActor encodes a snapshot in another goroutine while the
// state goes on; run with -race.
func TestSnapshotBesideTheActor(t *testing.T) {
	h := newHarness(t, Config{DefaultReplication: 1, DefaultChunkSize: 1 << 16})
	h.slow = true
	h.start(1)
	for i := range 1500 {
		h.write(1, fmt.Sprintf("/f-%d", i), 1<<16, 1<<16, 5)
	}
	want := h.s.Checkpoint()
	snapshot := h.s.Snapshot()
	var got bytes.Buffer
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := snapshot.Encode(&got); err != nil {
			t.Error(err)
		}
	})
	for i := range 1500 {
		switch i % 3 {
		case 0:
			ok[RemoveResult](h, 1, &Remove{Path: fmt.Sprintf("/f-%d", i)})
		case 1:
			ok[RenameResult](h, 1, &Rename{Source: fmt.Sprintf("/f-%d", i), Target: fmt.Sprintf("/g-%d", i)})
		default:
			ok[AppendResult](h, 1, &Append{Path: fmt.Sprintf("/f-%d", i)})
		}
	}
	wg.Wait()
	require.True(t, bytes.Equal(want, got.Bytes()))
	require.NoError(t, h.s.check())
	h.same()
}

func TestLoadCheckpointRefusesDamage(t *testing.T) {
	h := fullHarness(t)
	good := h.s.Checkpoint()
	for at := range good {
		bad := bytes.Clone(good)
		bad[at] ^= 0x10
		err := h.fresh().LoadCheckpoint(bad)
		require.Error(t, err, "byte %d", at)
		require.NotZero(t, fault.KindOf(err), "%v", err)
	}
	for n := range len(good) {
		require.ErrorIs(t, h.fresh().LoadCheckpoint(good[:n]), fault.CorruptData, "%d bytes", n)
	}
	require.ErrorIs(t, h.fresh().LoadCheckpoint(append(bytes.Clone(good), 0)), fault.CorruptData)
	// A frame that is left out or doubled is found by the end's sum.
	for _, twice := range []bool{false, true} {
		for from := 0; from < len(good); {
			_, rest, err := codec.CutFrame(good[from:])
			require.NoError(t, err)
			size := len(good) - from - len(rest)
			bad := append(bytes.Clone(good[:from]), good[from+size:]...)
			if twice {
				bad = append(bytes.Clone(good[:from+size]), good[from:]...)
			}
			require.Error(t, h.fresh().LoadCheckpoint(bad), "frame at %d", from)
			from += size
		}
	}
}

// withSum is the payload of an end with another sum.
func withSum(end []byte, sum uint64) []byte {
	var r msgpack.Reader
	r.Reset(end)
	r.Struct(5)
	return msgpack.Writer(nil).Array(5).Uint(r.Uint64()).Uint(r.Uint64()).Uint(r.Uint64()).Uint(r.Uint64()).Uint(sum)
}

func FuzzLoadCheckpoint(f *testing.F) {
	h := fullHarness(f)
	good := h.s.Checkpoint()
	var frames []codec.Frame
	for rest := good; len(rest) > 0; {
		var frame codec.Frame
		var err error
		frame, rest, err = codec.CutFrame(rest)
		require.NoError(f, err)
		f.Add(uint8(len(frames)), uint8(frame.Kind), frame.Payload)
		frames = append(frames, frame)
	}
	f.Fuzz(func(t *testing.T, at, kind uint8, payload []byte) {
		if len(payload) > codec.RecordBytesMax {
			return
		}
		// One frame is replaced; sums are made right, so that the fuzzer gets
		// behind them.
		n := int(at) % len(frames)
		var data []byte
		var sum xxh3.Hasher
		for i := range frames {
			frame := codec.WriteFrame(nil, frames[i].Kind, 1, frames[i].Payload)
			if i == n {
				frame = codec.WriteFrame(nil, codec.Kind(kind), 1, payload)
			} else if frames[i].Kind == codec.KindCheckpointEnd {
				frame = codec.WriteFrame(nil, frames[i].Kind, 1, withSum(frames[i].Payload, sum.Sum64()))
			}
			_, _ = sum.Write(frame[:16]) // the header
			data = append(data, frame...)
		}
		s, err := New(h.config)
		require.NoError(t, err)
		if err := s.LoadCheckpoint(data); err != nil {
			require.NotZero(t, fault.KindOf(err))
			return
		}
		require.NoError(t, s.check())
		again, err := New(h.config)
		require.NoError(t, err)
		require.NoError(t, again.LoadCheckpoint(s.Checkpoint()))
	})
}

// TestGoldenCheckpoint: a checkpoint of version 1 is read, and written again
// byte for byte. The file is never changed once it was in a release.
func TestGoldenCheckpoint(t *testing.T) {
	s := goldenCheckpoint(t, "checkpoint_v1.hex", fullHarness)
	require.Equal(t, "cluster-1", s.ClusterID())
	require.Equal(t, 5, s.leases.Count())
}

// A forgotten datanode is a duty like others; checkpoints without one are as they were.
func TestGoldenCheckpointOfAForgottenDatanode(t *testing.T) {
	s := goldenCheckpoint(t, "checkpoint_forgotten_v1.hex", func(t testing.TB) *harness {
		h := newHarness(t, Config{})
		h.start(3)
		h.pass(10*time.Second, "a", "c")
		require.Nil(t, h.own(&SetDuty{NodeID: "b", Duty: datanode.DutyForgotten}).Reply.Err)
		h.same()
		return h
	})
	require.Equal(t, datanode.DutyForgotten, s.replicas.Duties.Of(2).Duty)
	require.Len(t, s.replicas.Nodes.Status(), 2)
}

// Names stand in a frame of their own; checkpoints without one are as they were.
func TestGoldenCheckpointWithNames(t *testing.T) {
	s := goldenCheckpoint(t, "checkpoint_names_v1.hex", func(t testing.TB) *harness {
		h := newHarness(t, Config{})
		h.start(3)
		h.registerAs("b", "büro-2")
		h.same()
		return h
	})
	require.Equal(t, "büro-2", s.replicas.Names.Of(2))
	require.Empty(t, s.replicas.Names.Of(1))
}

// goldenCheckpoint loads a golden file, which is made of a harness if it is to be written and is not there.
func goldenCheckpoint(t *testing.T, name string, full func(testing.TB) *harness) *State {
	path := filepath.Join("testdata", "golden", name)
	if _, err := os.Stat(path); os.Getenv("WW_GOLDEN") == "write" && os.IsNotExist(err) {
		require.NoError(t, os.WriteFile(path, []byte(hex.EncodeToString(full(t).s.Checkpoint())+"\n"), 0o644))
	}
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	golden, err := hex.DecodeString(strings.TrimSpace(string(text)))
	require.NoError(t, err)
	s, err := New(Config{})
	require.NoError(t, err)
	require.NoError(t, s.LoadCheckpoint(golden))
	require.NoError(t, s.check())
	require.Equal(t, golden, s.Checkpoint())
	return s
}

// LoadCheckpoint restores the state that data encodes into an empty State.
func (s *State) LoadCheckpoint(data []byte) error {
	return s.ReadCheckpoint(bytes.NewReader(data), int64(len(data)))
}
