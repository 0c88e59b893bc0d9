package checkpoint

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/control/logserver/entry"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
	"github.com/whispering-woods/ww/test/simdisk"
)

func goldenHead() Head {
	return Head{Txid: 1003, Epoch: 3, Created: 1_700_000_000_123, Index: 259, Term: 4,
		State: entry.State{Epoch: 2, Holder: "nn2", LastTxid: 900},
		Members: raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "log1",
			Address: "10.0.0.1:7711"}}})}
}

// goldenCheckpoint is a whole file with two pieces.
func goldenCheckpoint() []byte {
	head := goldenHead()
	m := simdisk.NewMem()
	file, err := m.OpenFile("/f", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		panic(err)
	}
	w := &Writer{fs: m, path: "/f", file: file}
	err = w.Begin(&head)
	for offset, data := range []string{0: "w", 1: "hispering woods"} {
		err = errors.Join(err, receivePiece(w, DataPiece([]byte(data), uint64(offset)).GetData()))
	}
	if err = errors.Join(err, w.finish()); err != nil {
		panic(err)
	}
	b := make([]byte, w.position)
	if _, err := file.ReadAt(b, 0); err != nil {
		panic(err)
	}
	return b
}

// readCheckpoint reads a whole file.
func readCheckpoint(b []byte) (head Head, content []byte, err error) {
	c, err := newReader(bytes.NewReader(b))
	if err != nil {
		return head, nil, err
	}
	for {
		piece, err := c.next()
		if errors.Is(err, io.EOF) {
			return c.head, content, nil
		}
		if err != nil {
			return head, nil, err
		}
		content = append(content, piece...)
	}
}

func TestGoldenCheckpoint(t *testing.T) {
	requireGolden(t, "checkpoint_v1", goldenCheckpoint())
}

// requireGolden compares bytes with the golden ones of a format.
func requireGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	want, err := os.ReadFile(filepath.Join("testdata", "golden", name+".hex"))
	require.NoError(t, err)
	raw, err := hex.DecodeString(string(bytes.Join(bytes.Fields(want), nil)))
	require.NoError(t, err)
	require.Equal(t, raw, got, "%s: the format on disk has changed; got %x", name, got)
}

// resum makes a changed body valid again, to reach the checks behind the sum.
func resum(b []byte) []byte {
	body := b[:len(b)-8]
	return binary.LittleEndian.AppendUint64(bytes.Clone(body), xxh3.Hash(body))
}

func TestEveryDamagedByteOfACheckpointIsFound(t *testing.T) {
	good := goldenCheckpoint()
	head, content, err := readCheckpoint(good)
	require.NoError(t, err)
	require.Equal(t, goldenHead(), head)
	require.Equal(t, "whispering woods", string(content))
	for i := range good {
		for _, bit := range []byte{1, 0x80} {
			b := bytes.Clone(good)
			b[i] ^= bit
			_, _, err := readCheckpoint(b)
			require.ErrorIs(t, err, fault.CorruptData, "byte %d", i)
		}
		_, _, err := readCheckpoint(good[:i])
		require.ErrorIs(t, err, fault.CorruptData, "cut to %d bytes", i)
	}
	_, _, err = readCheckpoint(append(bytes.Clone(good), 0))
	require.ErrorIs(t, err, fault.CorruptData)
	newer := head.encode()
	newer[4]++
	_, _, err = readCheckpoint(resum(newer))
	require.ErrorIs(t, err, fault.Version)
	for name, change := range map[string]func(*Head){
		"no txid":                func(h *Head) { h.Txid = 0 },
		"no epoch":               func(h *Head) { h.Epoch = 0 },
		"no index":               func(h *Head) { h.Index = 0 },
		"no term":                func(h *Head) { h.Term = 0 },
		"state behind its txid":  func(h *Head) { h.State.LastTxid = h.Txid + 1 },
		"state behind its epoch": func(h *Head) { h.State.Epoch = h.Epoch + 1 },
	} {
		h := goldenHead()
		change(&h)
		_, _, err = readCheckpoint(h.encode())
		require.ErrorIs(t, err, fault.CorruptData, name)
		require.ErrorContains(t, err, "contradicts", name)
	}
}

func FuzzReadCheckpoint(f *testing.F) {
	f.Add(goldenCheckpoint())
	f.Fuzz(func(t *testing.T, raw []byte) {
		head, content, err := readCheckpoint(raw)
		if err != nil {
			require.Contains(t, []fault.Kind{fault.CorruptData, fault.Version}, fault.KindOf(err))
		} else {
			require.True(t, bytes.HasPrefix(raw, head.encode()))
			require.Less(t, len(content), len(raw))
		}
		if len(raw) < fixedBytes+8 {
			return
		}
		// And behind the head's checksum.
		if head, _, err := ReadHead(bytes.NewReader(resum(raw))); err == nil {
			require.True(t, bytes.HasPrefix(resum(raw), head.encode()))
			_, _ = head.Configuration()
		}
	})
}

const logDirectory = "/log"

// openMem are the checkpoints of a directory in memory.
func openMem(t *testing.T, fsys vfs.FS) *Store {
	t.Helper()
	require.NoError(t, fsys.MkdirAll(logDirectory, 0o755))
	c, err := OpenStore(fsys, logDirectory, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return c
}

// store writes and publishes a checkpoint, as an upload does, and prunes.
func storeIn(store *Store, txid uint64) error {
	writer, err := store.Create()
	if err != nil {
		return err
	}
	defer writer.Discard()
	head := goldenHead()
	head.Txid, head.Index = txid, txid
	head.State.LastTxid = txid
	if err := writer.Begin(&head); err != nil {
		return err
	}
	for offset, data := range [][]byte{0: {byte(txid)}, 1: bytes.Repeat([]byte{byte(txid)}, 9000)} {
		if err := receivePiece(writer, DataPiece(data, uint64(offset)).GetData()); err != nil {
			return err
		}
	}
	if err := writer.finish(); err != nil {
		return err
	}
	if _, err := store.Publish(writer, false, func(*Head) error { return nil }); err != nil {
		return err
	}
	return store.Retire(func() (uint64, error) { return 1, nil }, func(uint64, File) error { return nil })
}

// intact returns the txids of the checkpoints that verify, the newest first.
func intact(t *testing.T, fsys vfs.FS) []uint64 {
	t.Helper()
	files, err := List(fsys, logDirectory, Verify)
	require.NoError(t, err)
	var out []uint64
	for _, f := range slices.Backward(files) {
		if f.Usable(0) {
			out = append(out, f.Head.Txid)
		}
	}
	return out
}

// TestACheckpointSurvivesPowerFailures cuts the power at every call to the disk
// while the third checkpoint is stored: two good ones are there at any time, the
// acknowledged one for sure, and the next start goes on.
func TestACheckpointSurvivesPowerFailures(t *testing.T) {
	mem := simdisk.NewMem()
	store := openMem(t, mem)
	require.NoError(t, mem.SyncDir("/"))
	require.NoError(t, storeIn(store, 100))
	require.NoError(t, storeIn(store, 200))
	require.Equal(t, []uint64{200, 100}, intact(t, mem))
	points := 0
	check := func(acknowledged bool) {
		points++
		for _, policy := range []simdisk.CrashPolicy{{Mode: simdisk.CrashDropUnsynced}, {Mode: simdisk.CrashKeepAll},
			{Mode: simdisk.CrashTornLast, Seed: 1},
			{Mode: simdisk.CrashSubset, Seed: 1}, {Mode: simdisk.CrashSubset, Seed: 2},
			{Mode: simdisk.CrashSubset, Seed: 3}} {
			after := mem.CrashClone(policy)
			found := intact(t, after)
			require.GreaterOrEqual(t, len(found), 2, "%v at point %d: %v", policy, points, found)
			if acknowledged {
				require.Equal(t, []uint64{300, 200}, found[:2])
			}
			again := openMem(t, after)
			require.NoError(t, storeIn(again, 400))
			require.EqualValues(t, 400, intact(t, after)[0])
			list, err := after.ReadDir(filepath.Join(logDirectory, Directory))
			require.NoError(t, err)
			for _, item := range list {
				require.NotContains(t, item.Name(), temporarySuffix)
			}
		}
	}
	watched := simdisk.NewFaulty(mem)
	for _, op := range []simdisk.Op{simdisk.OpOpen, simdisk.OpWrite, simdisk.OpSync, simdisk.OpRename,
		simdisk.OpSyncDir, simdisk.OpRemove} {
		watched.Inject(simdisk.Rule{Op: op, Before: func() { check(false) }})
	}
	store.fs = watched
	require.NoError(t, storeIn(store, 300))
	check(true)
	require.Greater(t, points, 8)
}

// TestADiskErrorLosesNoCheckpoint fails each call in turn: the upload is refused,
// or done, and what was there stays.
func TestADiskErrorLosesNoCheckpoint(t *testing.T) {
	for _, op := range []simdisk.Op{simdisk.OpOpen, simdisk.OpWrite, simdisk.OpSync, simdisk.OpRename,
		simdisk.OpSyncDir, simdisk.OpRead,
		simdisk.OpRemove} {
		failed := 0
		for nth := 1; nth < 30; nth++ {
			mem := simdisk.NewMem()
			store := openMem(t, mem)
			require.NoError(t, storeIn(store, 100))
			require.NoError(t, storeIn(store, 200))
			faulty := simdisk.NewFaulty(mem)
			faulty.Inject(simdisk.Rule{Op: op, From: nth, Times: 1, Err: syscall.EIO})
			store.fs = faulty
			err := storeIn(store, 300)
			name := fmt.Sprintf("%v %d: %v", op, nth, err)
			if err != nil {
				failed++
				require.ErrorIs(t, err, fault.Disk, name)
			} else {
				require.EqualValues(t, 300, intact(t, mem)[0], name)
			}
			require.Subset(t, append(intact(t, mem), 300, 100), []uint64{200}, name)
			require.GreaterOrEqual(t, len(intact(t, mem)), 2, name)
			store.fs = mem
			require.NoError(t, storeIn(store, 400), name)
			require.EqualValues(t, 400, intact(t, mem)[0], name)
		}
		require.Positive(t, failed, "%v", op)
	}
}
