package entry

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/internal/fault"
)

// Values behind the golden bytes.
func goldenBatch() Entry {
	return Entry{Kind: Batch, Epoch: 7, FirstTxid: 1001,
		Records: [][]byte{[]byte("mkdir /a"), {0}, []byte("remove /a/b")}}
}
func goldenAcquire() Entry { return Entry{Kind: Acquire, Holder: "nn1 10.0.0.1:7700"} }

func TestGoldenBytes(t *testing.T) {
	for name, e := range map[string]Entry{"entry_batch_v1": goldenBatch(), "entry_acquire_v1": goldenAcquire()} {
		requireGolden(t, name, e.Encode())
		back, err := Decode(e.Encode())
		require.NoError(t, err)
		require.Equal(t, e, back)
	}
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

func TestEntryRejects(t *testing.T) {
	g := goldenBatch()
	good := g.Encode()
	change := func(offset int, value byte) []byte {
		b := bytes.Clone(good)
		b[offset] = value
		return b
	}
	for name, b := range map[string][]byte{
		"empty":           nil,
		"short":           good[:headerBytes],
		"magic":           resum(change(0, 'X')),
		"kind":            resum(change(5, 9)),
		"reserved":        resum(change(6, 1)),
		"length":          resum(change(8, 1)),
		"count too small": resum(change(12, 2)),
		"count too large": resum(change(12, 4)),
		"count huge":      resum(change(15, 0xff)),
		"no records":      resum(change(12, 0)),
		"record length":   resum(change(headerBytes+3, 0xff)),
		"record":          resum(change(headerBytes+recordHeaderBytes, 'X')),
		"moved":           resum(change(24, 0)), // the records' txids change, so their sums do not fit
		"sum":             change(len(good)-1, good[len(good)-1]^1),
		"one more":        append(bytes.Clone(good), 0),
		"version unsure":  change(4, 2),
	} {
		_, err := Decode(b)
		require.ErrorIs(t, err, fault.CorruptData, name)
	}
	_, err := Decode(resum(change(4, 2)))
	require.ErrorIs(t, err, fault.Version)
	_, err = Decode(change(headerBytes+recordHeaderBytes+8+recordHeaderBytes, 1))
	require.ErrorContains(t, err, "txid 1002", "the bad record is named")
	for i := range good { // every single bit counts
		for bit := range 8 {
			_, err := Decode(change(i, good[i]^1<<bit))
			require.Error(t, err, "byte %d bit %d", i, bit)
		}
	}
}

func FuzzDecodeEntry(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := Decode(b); err == nil {
			require.Equal(t, b, e.Encode())
			require.NoError(t, e.Check())
		}
		if len(b) >= 8 { // and behind the checksum
			b = resum(b)
			if e, err := Decode(b); err == nil {
				require.Equal(t, b, e.Encode())
			}
		}
	})
}
