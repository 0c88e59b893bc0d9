package actor

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

func testID(n byte) chunk.ID {
	return chunk.NewID(1_700_000_000_000, [10]byte{n, 1, 2, 3, 4, 5, 6, 7, 8, n})
}

// samples is one record of each type with every field set.
func samples() []record {
	h := header{Time: 1_700_000_000_123, Client: ClientID{0xc1, 15: 0x1c}, Sequence: 7, Oldest: 5}
	own := header{Time: 1_700_000_000_124}
	chunks := []placement{{ID: testID(1), Nodes: []uint16{1, 2, 300}}, {ID: testID(2), Nodes: []uint16{3}}}
	return []record{
		&formatRecord{1, own, "0190b3a4-0000-7000-8000-000000000001"},
		&epochRecord{1, own, 1 << 40},
		&nodeRecord{1, own, 2, "node-b", "10.0.0.2:7720"},
		&mkdirRecord{1, h, 1, 2, []string{"a", "bücher"}},
		&createRecord{1, h, 3, 4, []string{"x"}, "f", 3, 1024, true, true, 9, "/a/x/f", "host:17", chunks},
		&addChunksRecord{1, h, 5, []sealing{{0, 1, 1 << 26}, {1, 3, 17}}, true, 2, chunks[1:]},
		&completeRecord{1, h, 5, []sealing{{0, 1, 1 << 26}}, 1, 3, "f", 9},
		&abandonRecord{1, h, 5},
		&appendRecord{1, h, 5, "f", "host:18", true, 4, []uint16{2, 1}},
		&recoverPipelineRecord{1, h, 5, 2, 6, []uint16{1}, []uint16{4, 5}},
		&updatePipelineRecord{1, h, 5, 2, 6, 65536, []uint16{1, 4, 5}},
		&renameRecord{1, h, 5, 3, "f", 1, "g", 8},
		&removeRecord{1, h, 5, 1, "g"},
		&recoverLeaseRecord{1, own, 5, true, 2, 7},
		&recoveredRecord{1, own, 5, 2, 7, 99},
		&truncateRecord{1, h, 5, "f", 1 << 33, true},
	}
}

// TestGoldenRecords holds the bytes of version 1 of every record type. A file
// is never changed once it was in a release.
func TestGoldenRecords(t *testing.T) {
	seen := make(map[uint8]bool)
	for _, r := range samples() {
		seen[r.kind()] = true
		name := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%T", r), "*actor."), "Record")
		t.Run(name, func(t *testing.T) {
			frame, err := newFrameEncoder().encode(r.kind(), r)
			require.NoError(t, err)
			path := filepath.Join("testdata", "golden", fmt.Sprintf("%02d_%s_v1.hex", r.kind(), name))
			if os.Getenv("WW_GOLDEN") == "write" {
				if _, err := os.Stat(path); os.IsNotExist(err) {
					require.NoError(t, os.WriteFile(path, []byte(hex.EncodeToString(frame)+"\n"), 0o644))
				}
			}
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			golden, err := hex.DecodeString(strings.TrimSpace(string(text)))
			require.NoError(t, err)
			require.Equal(t, golden, frame)
			back, err := newFrameDecoder().decodeRecord(golden)
			require.NoError(t, err)
			require.Equal(t, r, back)
		})
	}
	for kind := range 128 {
		require.Equal(t, newRecord(uint8(kind)) != nil, seen[uint8(kind)], "kind %d", kind)
		if r := newRecord(uint8(kind)); r != nil {
			require.Equal(t, uint8(kind), r.kind())
		}
	}
}

// TestRecordsStartWithVersionAndHead: every record type has the two in front.
func TestRecordsStartWithVersionAndHead(t *testing.T) {
	for _, r := range samples() {
		v := reflect.ValueOf(r).Elem()
		require.Equal(t, "Version", v.Type().Field(0).Name)
		require.Equal(t, "Head", v.Type().Field(1).Name)
		require.Equal(t, &v.Field(1).Addr().Interface().(*header).Time, &r.head().Time)
	}
}

// TestEncodeAllocatesNothing: in the steady state a record costs no allocation
// but its share of an arena.
func TestEncodeAllocatesNothing(t *testing.T) {
	e := newFrameEncoder()
	r := samples()[4]
	const many = 1000 // a count per run is rounded down
	encode := func() {
		for range many {
			if _, err := e.encode(r.kind(), r); err != nil {
				t.Fatal(err)
			}
		}
	}
	require.Less(t, testing.AllocsPerRun(20, encode)/many, 0.05)
}

// seal makes a frame around a payload, with a right sum.
func sealFrame(kind, version uint8, flags uint16, payload []byte) []byte {
	frame := make([]byte, frameHeaderBytes, frameHeaderBytes+len(payload))
	binary.LittleEndian.PutUint32(frame, uint32(len(payload)))
	frame[4], frame[5] = kind, version
	binary.LittleEndian.PutUint16(frame[6:], flags)
	frame = append(frame, payload...)
	binary.LittleEndian.PutUint64(frame[8:], frameSum(frame))
	return frame
}

func TestDecodeRefusesDamage(t *testing.T) {
	d := newFrameDecoder()
	good, err := newFrameEncoder().encode(kindRemove, &removeRecord{Version: 1, Inode: 5, Parent: 1, Name: "x"})
	require.NoError(t, err)
	payload := good[frameHeaderBytes:]
	for bit := range len(good) * 8 {
		bad := append([]byte(nil), good...)
		bad[bit/8] ^= 1 << (bit % 8)
		_, err := d.decodeRecord(bad)
		require.ErrorIs(t, err, fault.CorruptData, "bit %d", bit)
	}
	for n := range good {
		_, err := d.decodeRecord(good[:n])
		require.ErrorIs(t, err, fault.CorruptData, "%d bytes", n)
	}
	for name, c := range map[string]struct {
		data []byte
		kind fault.Kind
	}{
		"bytes after the frame":   {append(append([]byte(nil), good...), 0), fault.CorruptData},
		"bytes after the payload": {sealFrame(kindRemove, 1, 0, append(append([]byte(nil), payload...), 0)), fault.CorruptData},
		"flags":                   {sealFrame(kindRemove, 1, 1, payload), fault.Version},
		"version 0":               {sealFrame(kindRemove, 0, 0, payload), fault.CorruptData},
		"newer version":           {sealFrame(kindRemove, 2, 0, payload), fault.Version},
		"unknown kind":            {sealFrame(99, 1, 0, payload), fault.Version},
		"checkpoint frame":        {sealFrame(kindCheckpointHead, 1, 0, payload), fault.Version},
		"no array":                {sealFrame(kindRemove, 1, 0, []byte{0xc0}), fault.CorruptData},
		"empty":                   {sealFrame(kindRemove, 1, 0, nil), fault.CorruptData},
		"huge list":               {sealFrame(kindMkdir, 1, 0, []byte{0x95, 1, 0xc0, 1, 2, 0xdd, 0x7f, 0xff, 0xff, 0xff}), fault.CorruptData},
		"huge text":               {sealFrame(kindFormat, 1, 0, []byte{0x93, 1, 0xc0, 0xdb, 0x7f, 0xff, 0xff, 0xff}), fault.CorruptData},
		"number out of range":     {sealFrame(kindNode, 1, 0, []byte{0x95, 1, 0xc0, 0xce, 0xff, 0xff, 0xff, 0xff, 0xa1, 'x', 0xa1, 'y'}), fault.CorruptData},
		"length above the limit":  {[]byte{0xff, 0xff, 0xff, 0x7f, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, fault.CorruptData},
	} {
		_, err := d.decodeRecord(c.data)
		require.ErrorIs(t, err, c.kind, name)
	}
	// The decoder is as good as new after all that.
	_, err = d.decodeRecord(good)
	require.NoError(t, err)
}

// TestFieldsMayBeAdded: a reader skips elements that it does not know and leaves
// missing ones zero; that is how a version grows.
func TestFieldsMayBeAdded(t *testing.T) {
	d := newFrameDecoder()
	r, err := d.decodeRecord(sealFrame(kindAbandon, 1, 0, []byte{0x94, 1, 0xc0, 5, 0x93, 1, 2, 3}))
	require.NoError(t, err)
	require.Equal(t, &abandonRecord{Version: 1, File: 5}, r)
	r, err = d.decodeRecord(sealFrame(kindAbandon, 1, 0, []byte{0x92, 1, 0xc0}))
	require.NoError(t, err)
	require.Equal(t, &abandonRecord{Version: 1}, r)
}

func FuzzDecodeRecord(f *testing.F) {
	e := newFrameEncoder()
	for _, r := range samples() {
		frame, err := e.encode(r.kind(), r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame[4], frame[frameHeaderBytes:])
	}
	f.Fuzz(func(t *testing.T, kind uint8, payload []byte) {
		if len(payload) > recordBytesMax {
			return
		}
		// The sum is made right, so that the fuzzer gets at the payload; then the
		// raw bytes, as a torn log gives them.
		d := newFrameDecoder()
		_, _ = d.decodeRecord(payload)
		frame := sealFrame(kind, 1, 0, payload)
		r, err := d.decodeRecord(frame)
		if err != nil {
			require.NotZero(t, fault.KindOf(err))
			return
		}
		// What was read can be written and read again.
		again, err := newFrameEncoder().encode(kind, r)
		require.NoError(t, err)
		back, err := d.decodeRecord(again)
		require.NoError(t, err)
		twice, err := newFrameEncoder().encode(kind, back)
		require.NoError(t, err)
		require.Equal(t, again, twice)
	})
}

// FuzzReplay feeds records that decode but need not fit to a small state: only
// errors may come of it, and a record that is taken leaves a sound state.
func FuzzReplay(f *testing.F) {
	e := newFrameEncoder()
	for _, r := range samples() {
		frame, err := e.encode(r.kind(), r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame[4], frame[frameHeaderBytes:])
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
	h.as(1, &Complete{FileID: 5, Commits: []ChunkCommit{{Chunk: h.s.files.Chunk(h.s.files.At(h.s.tree.Find(5), 0)).ID(), Generation: 1, Length: 5, NodeIDs: []string{"a"}}}})
	ok[RecoverLeaseResult](h, 1, &RecoverLease{Path: "/e/f"})
	ok[RemoveResult](h, 1, &Remove{Path: "/open"})
	ok[TruncateResult](h, 1, &Truncate{Path: "/hidden", Length: 1})
	for _, r := range h.log {
		f.Add(r[4], r[frameHeaderBytes:])
	}
	f.Fuzz(func(t *testing.T, kind uint8, payload []byte) {
		s, err := New(h.config)
		require.NoError(t, err)
		for i, r := range log {
			require.NoError(t, s.Replay(uint64(i+1), r))
		}
		if len(payload) > recordBytesMax {
			return
		}
		r, err := s.decoder.decodeRecord(sealFrame(kind, 1, 0, payload))
		if err != nil {
			return
		}
		r.head().Time = max(r.head().Time, s.time)
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
