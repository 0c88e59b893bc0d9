package actor

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/actor/codec"
	"github.com/whispering-woods/ww/internal/fault"
)

// goldenRecords reads one frame of each kind of record, with every field set.
func goldenRecords() (frames []codec.Frame, err error) {
	paths, err := filepath.Glob(filepath.Join("codec", "testdata", "golden", "*.hex"))
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		data, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			return nil, err
		}
		frame, _, err := codec.CutFrame(data)
		if err != nil {
			return nil, err
		}
		frames = append(frames, frame)
	}
	return frames, err
}

// TestTheTableHasEveryKindOfRecord: a row for each kind that has golden bytes,
// under its own kind, and no other.
func TestTheTableHasEveryKindOfRecord(t *testing.T) {
	frames, err := goldenRecords()
	require.NoError(t, err)
	golden := make(map[codec.Kind]bool)
	for _, frame := range frames {
		golden[frame.Kind] = true
	}
	for kind := range codec.Kind(255) {
		r := newRecord(kind)
		require.Equal(t, golden[kind], r != nil, "kind %d", kind)
		if r != nil {
			require.Equal(t, kind, r.Kind())
		}
		if answer := newAnswer(kind); answer != nil {
			require.Equal(t, kind, answerKind(answer))
		}
	}
	require.Zero(t, answerKind(&FormatResult{}))
	require.Zero(t, answerKind(nil))
}

// FuzzReplay feeds records that decode but need not fit to a small state: only
// errors may come of it, and a record that is taken leaves a sound state.
func FuzzReplay(f *testing.F) {
	frames, err := goldenRecords()
	require.NoError(f, err)
	for _, frame := range frames {
		f.Add(uint8(frame.Kind), frame.Payload)
	}
	h := newHarness(f, Config{DefaultReplication: 1, DefaultChunkSize: 1 << 16})
	h.start(3)
	ok[MkdirResult](h, 1, &Mkdir{Path: "/d"})
	h.write(1, "/d/f", 1<<16, 1<<16, 9)
	ok[CreateResult](h, 1, &Create{Path: "/open", ChunkCount: 2})
	ok[CreateResult](h, 1, &Create{Path: "/hidden", VisibleOnComplete: true, ChunkCount: 1})
	ok[AppendResult](h, 1, &Append{Path: "/d/f"})
	log := slices.Clone(h.log)
	// What could follow, and variations of what was: these fit nearly.
	h.slow = true
	ok[RenameResult](h, 1, &Rename{Source: "/d", Target: "/e"})
	ok[AddChunksResult](h, 1, &AddChunks{FileID: 4, FirstIndex: 2, Count: 1})
	h.as(1, &Complete{FileID: 5, Commits: []ChunkCommit{{Chunk: h.s.files.Chunk(h.s.files.At(h.s.tree.Find(5), 0)).ID(),
		Generation: 1, Length: 5, NodeIDs: []string{"a"}}}})
	ok[RecoverLeaseResult](h, 1, &RecoverLease{Path: "/e/f"})
	ok[RemoveResult](h, 1, &Remove{Path: "/open"})
	ok[TruncateResult](h, 1, &Truncate{Path: "/hidden", Length: 1})
	for _, r := range h.log {
		frame, _, err := codec.CutFrame(r)
		require.NoError(f, err)
		f.Add(uint8(frame.Kind), frame.Payload)
	}
	f.Fuzz(func(t *testing.T, kind uint8, payload []byte) {
		s, err := New(h.config)
		require.NoError(t, err)
		for i, r := range log {
			require.NoError(t, s.Replay(uint64(i+1), r))
		}
		if len(payload) > codec.RecordBytesMax {
			return
		}
		r, err := s.decoder.Record(codec.WriteFrame(nil, codec.Kind(kind), 1, payload))
		if err != nil {
			return
		}
		r.Header().Time = max(r.Header().Time, s.time)
		if _, err := s.applyRecord(r); err != nil {
			require.ErrorIs(t, err, fault.CorruptData)
			return
		}
		require.NoError(t, s.check())
		again, err := New(h.config)
		require.NoError(t, err)
		require.NoError(t, again.LoadCheckpoint(s.Checkpoint()))
	})
}
