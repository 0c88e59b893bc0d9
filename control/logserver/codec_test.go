package logserver

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft-wal/types"
	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"
	"pgregory.net/rapid"

	"github.com/whispering-woods/ww/internal/fault"
)

// Values behind the golden bytes.
func goldenBatch() entry {
	return entry{kind: entryBatch, epoch: 7, firstTxid: 1001, records: [][]byte{[]byte("mkdir /a"), {0}, []byte("remove /a/b")}}
}
func goldenAcquire() entry { return entry{kind: entryAcquire, holder: "nn1 10.0.0.1:7700"} }
func goldenMachine() machine {
	m := machine{points: []point{{3, 1, 10}, {259, 2, 900}}, applied: 300}
	m.state = state{epoch: 3, holder: "nn2", lastTxid: 1003}
	return m
}

func TestGoldenBytes(t *testing.T) {
	batch, acquire, m := goldenBatch(), goldenAcquire(), goldenMachine()
	for name, got := range map[string][]byte{
		"entry_batch_v1":   batch.encode(),
		"entry_acquire_v1": acquire.encode(),
		"snapshot_v1":      m.encode(),
		"checkpoint_v1":    goldenCheckpoint(),
		"mark_v1":          mark{counter: 9, index: 1234, clean: true}.encode(),
	} {
		path := filepath.Join("testdata", "golden", name+".hex")
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		raw, err := hex.DecodeString(string(bytes.Join(bytes.Fields(want), nil)))
		require.NoError(t, err)
		require.Equal(t, raw, got, "%s: the format on disk has changed; got %x", name, got)
	}
	e, err := decodeEntry(batch.encode())
	require.NoError(t, err)
	require.Equal(t, batch, e)
	e, err = decodeEntry(acquire.encode())
	require.NoError(t, err)
	require.Equal(t, acquire, e)
	back, err := decodeMachine(m.encode())
	require.NoError(t, err)
	require.Equal(t, m, back)
	k, ok := decodeMark(mark{counter: 9, index: 1234, clean: true}.encode())
	require.True(t, ok)
	require.Equal(t, mark{counter: 9, index: 1234, clean: true}, k)
}

// resum makes a changed body valid again, to reach the checks behind the sum.
func resum(b []byte) []byte {
	body := b[:len(b)-8]
	return binary.LittleEndian.AppendUint64(bytes.Clone(body), xxh3.Hash(body))
}

func TestEntryRejects(t *testing.T) {
	g := goldenBatch()
	good := g.encode()
	change := func(offset int, value byte) []byte {
		b := bytes.Clone(good)
		b[offset] = value
		return b
	}
	for name, b := range map[string][]byte{
		"empty":           nil,
		"short":           good[:entryHeaderBytes],
		"magic":           resum(change(0, 'X')),
		"kind":            resum(change(5, 9)),
		"reserved":        resum(change(6, 1)),
		"length":          resum(change(8, 1)),
		"count too small": resum(change(12, 2)),
		"count too large": resum(change(12, 4)),
		"count huge":      resum(change(15, 0xff)),
		"no records":      resum(change(12, 0)),
		"record length":   resum(change(entryHeaderBytes+3, 0xff)),
		"record":          resum(change(entryHeaderBytes+recordHeaderBytes, 'X')),
		"moved":           resum(change(24, 0)), // the records' txids change, so their sums do not fit
		"sum":             change(len(good)-1, good[len(good)-1]^1),
		"one more":        append(bytes.Clone(good), 0),
		"version unsure":  change(4, 2),
	} {
		_, err := decodeEntry(b)
		require.ErrorIs(t, err, fault.CorruptData, name)
	}
	_, err := decodeEntry(resum(change(4, 2)))
	requireKind(t, fault.Version, err)
	_, err = decodeEntry(change(entryHeaderBytes+recordHeaderBytes+8+recordHeaderBytes, 1))
	require.ErrorContains(t, err, "txid 1002", "the bad record is named")
	for i := range good { // every single bit counts
		for bit := range 8 {
			_, err := decodeEntry(change(i, good[i]^1<<bit))
			require.Error(t, err, "byte %d bit %d", i, bit)
		}
	}
}

// TestMachineAgainstModel steps random entries through the machine and a
// plain model, and checks that every Tail position found by the sparse index
// leads to the record.
func TestMachineAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m machine
		var epoch, last uint64
		var log []entry
		for i := range rapid.IntRange(1, 700).Draw(t, "entries") {
			var e entry
			if rapid.IntRange(0, 20).Draw(t, "acquire") == 0 {
				e = entry{kind: entryAcquire, holder: "h"}
				epoch++
				require.NoError(t, m.apply(uint64(i+1), &e))
			} else {
				e = entry{kind: entryBatch, epoch: epoch + 1 - uint64(rapid.SampledFrom([]int{0, 1, 1, 1, 1, 2}).Draw(t, "epoch")),
					firstTxid: last + uint64(rapid.SampledFrom([]int{0, 1, 1, 1, 1, 2}).Draw(t, "gap")),
					records:   make([][]byte, rapid.IntRange(1, 3).Draw(t, "count"))}
				err := m.apply(uint64(i+1), &e)
				switch {
				case e.epoch < epoch:
					require.ErrorIs(t, err, fault.Fenced)
				case e.epoch > epoch:
					require.ErrorIs(t, err, fault.Protocol)
				case e.firstTxid != last+1:
					require.ErrorIs(t, err, fault.Gap)
				default:
					require.NoError(t, err)
					last += uint64(len(e.records))
				}
			}
			log = append(log, e)
			require.Equal(t, epoch, m.epoch)
			require.Equal(t, last, m.lastTxid)
		}
		back, err := decodeMachine(m.encode())
		require.NoError(t, err)
		require.Equal(t, m, back)
		if last == 0 {
			return
		}
		want := rapid.Uint64Range(1, last).Draw(t, "txid")
		p, ok := m.before(want)
		require.True(t, ok)
		require.Less(t, p.lastTxid, want)
		s := p.state()
		steps := 0
		for _, e := range log[p.index:] {
			steps++
			if s.step(&e) == nil && e.kind == entryBatch && s.lastTxid >= want {
				require.LessOrEqual(t, e.firstTxid, want)
				return
			}
		}
		t.Fatalf("txid %d is not behind %+v", want, p)
	})
}

func FuzzDecodeEntry(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := decodeEntry(b); err == nil {
			require.Equal(t, b, e.encode())
			require.NoError(t, e.check())
		}
		if len(b) >= 8 { // and behind the checksum
			b = resum(b)
			if e, err := decodeEntry(b); err == nil {
				require.Equal(t, b, e.encode())
			}
		}
	})
}

func FuzzDecodeSnapshot(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 8 {
			return
		}
		for _, b := range [][]byte{b, resum(b)} {
			if m, err := decodeMachine(b); err == nil {
				require.Equal(t, b, m.encode())
			}
		}
	})
}

func FuzzDecodeMark(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, ok := decodeMark(b); ok {
			require.Equal(t, b[:markUsedBytes], m.encode()[:markUsedBytes])
		}
	})
}

// FuzzScanSegment gives any bytes to the reader of raft-wal's files.
func FuzzScanSegment(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		info := types.SegmentInfo{ID: 0, BaseIndex: 1, MinIndex: 1, Codec: 1}
		entries := uint64(0)
		scan, err := scanBytes(info, b, func(frame) error { entries++; return nil })
		require.NoError(t, err)
		require.LessOrEqual(t, scan.end, int64(len(b)))
		require.LessOrEqual(t, scan.entries, entries)
		// What was called good stays good when the rest is cut off.
		again, err := scanBytes(info, b[:scan.end], func(frame) error { return nil })
		require.NoError(t, err)
		require.Equal(t, scan.entries, again.entries)
		require.Equal(t, scan.end, again.end)
	})
}
