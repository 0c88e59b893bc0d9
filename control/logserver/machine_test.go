package logserver

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"
	"pgregory.net/rapid"

	"github.com/whispering-woods/ww/control/logserver/entry"
	"github.com/whispering-woods/ww/internal/fault"
)

func goldenMachine() machine {
	m := machine{points: []entry.Point{{Index: 3, Epoch: 1, LastTxid: 10}, {Index: 259, Epoch: 2, LastTxid: 900}},
		applied: 300}
	m.State = entry.State{Epoch: 3, Holder: "nn2", LastTxid: 1003}
	return m
}

func TestGoldenSnapshot(t *testing.T) {
	m := goldenMachine()
	requireGolden(t, "snapshot_v1", m.encode())
	back, err := decodeMachine(m.encode())
	require.NoError(t, err)
	require.Equal(t, m, back)
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

// TestMachineAgainstModel steps random entries through the machine and a
// plain model, and checks that every Tail position found by the sparse index
// leads to the record.
func TestMachineAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tested machine
		var epoch, last uint64
		var log []entry.Entry
		for i := range rapid.IntRange(1, 700).Draw(t, "entries") {
			var stepped entry.Entry
			if rapid.IntRange(0, 20).Draw(t, "acquire") == 0 {
				stepped = entry.Entry{Kind: entry.Acquire, Holder: "h"}
				epoch++
				require.NoError(t, tested.apply(uint64(i+1), &stepped))
			} else {
				stepped = entry.Entry{Kind: entry.Batch,
					Epoch: epoch + 1 - uint64(rapid.SampledFrom([]int{0, 1, 1, 1, 1,
						2}).Draw(t, "epoch")),
					FirstTxid: last + uint64(rapid.SampledFrom([]int{0, 1, 1, 1, 1, 2}).Draw(t, "gap")),
					Records:   make([][]byte, rapid.IntRange(1, 3).Draw(t, "count"))}
				err := tested.apply(uint64(i+1), &stepped)
				switch {
				case stepped.Epoch < epoch:
					require.ErrorIs(t, err, fault.Fenced)
				case stepped.Epoch > epoch:
					require.ErrorIs(t, err, fault.Protocol)
				case stepped.FirstTxid != last+1:
					require.ErrorIs(t, err, fault.Gap)
				default:
					require.NoError(t, err)
					last += uint64(len(stepped.Records))
				}
			}
			log = append(log, stepped)
			require.Equal(t, epoch, tested.Epoch)
			require.Equal(t, last, tested.LastTxid)
		}
		back, err := decodeMachine(tested.encode())
		require.NoError(t, err)
		require.Equal(t, tested, back)
		if last == 0 {
			return
		}
		want := rapid.Uint64Range(1, last).Draw(t, "txid")
		point, ok := tested.before(want)
		require.True(t, ok)
		require.Less(t, point.LastTxid, want)
		s := point.State()
		steps := 0
		for _, e := range log[point.Index:] {
			steps++
			if s.Step(&e) == nil && e.Kind == entry.Batch && s.LastTxid >= want {
				require.LessOrEqual(t, e.FirstTxid, want)
				return
			}
		}
		t.Fatalf("txid %d is not behind %+v", want, point)
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
