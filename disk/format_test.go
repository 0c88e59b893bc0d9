package disk

import (
	"encoding/hex"
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

func goldenHeader() (header, []byte) {
	h := header{id: testID(1), chunkSize: 64 << 20}
	b := make([]byte, sectorBytes)
	putHeader(b, h)
	return h, b
}

func goldenSlot() (slot, []byte) {
	s := slot{id: testID(1), index: 1, counter: 3, generation: 4, promised: 5, length: 70_000, partial: 0x1122334455667788}
	b := make([]byte, sectorBytes)
	putSlot(b, s)
	return s, b
}

// golden splits a sector into its used front and its sum; what is between must
// be zero.
func golden(t *testing.T, sector []byte, used int) string {
	t.Helper()
	require.True(t, isZero(sector[used:sectorBytes-sumBytes]))
	return hex.EncodeToString(sector[:used]) + " " + hex.EncodeToString(sector[sectorBytes-sumBytes:])
}

func TestGoldenBytes(t *testing.T) {
	_, h := goldenHeader()
	require.Equal(t, goldenHeaderHex, golden(t, h, 48))
	_, s := goldenSlot()
	require.Equal(t, goldenSlotHex, golden(t, s, 72))
	require.Equal(t, goldenIdentityText, string(goldenIdentity().encode()))
	name := fileName{id: testID(1), generation: 0xabc}
	require.Equal(t, "019b7ca9-8c89-7001-8304-050607080901_abc.open", name.String())
	name.sealed, name.length = true, 70_000
	require.Equal(t, "chunks/01/019b7ca9-8c89-7001-8304-050607080901_abc_70000.chunk", name.relative())
	require.Equal(t, "019b7ca98c88_00000007_019b7ca9-8c89-7001-8304-050607080901_abc_70000.chunk",
		parkedName{at: testTime, serial: 7, name: name}.String())
}

func goldenIdentity() volumeIdentity {
	return volumeIdentity{Version: 1, NodeID: "n1", VolumeID: "v1", ClusterID: "c1", HighestEpoch: 7, HighestTxid: 99}
}

func TestLayout(t *testing.T) {
	for size, offset := range map[int64]int64{
		blockBytes: 4096, 256 * blockBytes: 4096, 257 * blockBytes: 8192, 64 << 20: 12288, chunk.SizeMax: 135168,
	} {
		require.Equal(t, offset, layoutOf(size).dataOffset, "%d", size)
		require.NoError(t, checkChunkSize(size))
	}
	for _, size := range []int64{0, 1, blockBytes - 1, blockBytes + 1, chunk.SizeMax + blockBytes, -blockBytes} {
		require.ErrorIs(t, checkChunkSize(size), fault.Invalid, "%d", size)
	}
}

func TestHeaderIsRefused(t *testing.T) {
	want, good := goldenHeader()
	got, err := parseHeader(good)
	require.NoError(t, err)
	require.Equal(t, want, got)
	for at := range good {
		bad := append([]byte(nil), good...)
		bad[at] ^= 1
		_, err := parseHeader(bad)
		require.ErrorIs(t, err, fault.CorruptData, "byte %d", at)
	}
	for name, change := range map[string]func(b []byte){
		"version":     func(b []byte) { b[8] = 2 },
		"block bytes": func(b []byte) { b[13] = 2 },
	} {
		bad := append([]byte(nil), good...)
		change(bad)
		sealSector(bad)
		_, err := parseHeader(bad)
		require.ErrorIs(t, err, fault.Version, name)
	}
	for name, change := range map[string]func(b []byte){
		"chunk size":  func(b []byte) { b[32] = 1 },
		"data offset": func(b []byte) { b[40] = 1 },
	} {
		bad := append([]byte(nil), good...)
		change(bad)
		sealSector(bad)
		_, err := parseHeader(bad)
		require.ErrorIs(t, err, fault.CorruptData, name)
	}
}

func TestSlotIsRefused(t *testing.T) {
	h, _ := goldenHeader()
	want, good := goldenSlot()
	got, ok := parseSlot(good, 1, h)
	require.True(t, ok)
	require.Equal(t, want, got)
	for at := range good {
		bad := append([]byte(nil), good...)
		bad[at] ^= 1
		_, ok := parseSlot(bad, 1, h)
		require.False(t, ok, "byte %d", at)
	}
	_, ok = parseSlot(good, 0, h)
	require.False(t, ok, "at another place")
	_, ok = parseSlot(good, 1, header{id: testID(2), chunkSize: h.chunkSize})
	require.False(t, ok, "of another chunk")
	_, ok = parseSlot(good, 1, header{id: h.id, chunkSize: blockBytes})
	require.False(t, ok, "longer than the chunk")
	_, ok = parseSlot(make([]byte, sectorBytes), 1, h)
	require.False(t, ok, "empty")
	for name, s := range map[string]slot{
		"negative length": {id: h.id, index: 1, counter: 1, length: -1},
		"no counter":      {id: h.id, index: 1},
	} {
		b := make([]byte, sectorBytes)
		putSlot(b, s)
		_, ok = parseSlot(b, 1, h)
		require.False(t, ok, name)
	}
}

func TestFileNamesAreRefused(t *testing.T) {
	id := testID(1).String()
	for _, text := range []string{
		"", ".open", ".chunk", id + ".open", id + "_0.open", id + "_01.open", id + "_A.open", id + "_1_5.open", id + "_1.chunk",
		id + "_1_.chunk", id + "_1_-5.chunk", id + "_1_05.chunk", id + "_1_5.chunk.tmp", id + "_1_9999999999999.chunk",
		"{" + id + "}_1.open", "x" + id + "_1.open", id + "_11111111111111111.open",
	} {
		_, ok := parseFileName(text)
		require.False(t, ok, "%q", text)
		_, ok = parseParkedName("019b7ca98c88_00000007_" + text)
		require.False(t, ok, "%q", text)
	}
	for _, text := range []string{"", "1_2_" + id + "_1.open", id + "_1.open", "019b7ca98c88_" + id + "_1.open"} {
		_, ok := parseParkedName(text)
		require.False(t, ok, "%q", text)
	}
}

func TestIdentityIsRefused(t *testing.T) {
	good := goldenIdentity().encode()
	got, err := parseIdentity(good)
	require.NoError(t, err)
	got.Sum = ""
	require.Equal(t, goldenIdentity(), got)
	for at := range len(good) - 1 {
		bad := append([]byte(nil), good...)
		bad[at] ^= 1
		if same, err := parseIdentity(bad); err == nil {
			same.Sum = ""
			require.Equal(t, goldenIdentity(), same, "byte %d", at)
		}
	}
	future := goldenIdentity()
	future.Version = 2
	_, err = parseIdentity(future.encode())
	require.ErrorIs(t, err, fault.Version)
	nobody := goldenIdentity()
	nobody.NodeID = ""
	_, err = parseIdentity(nobody.encode())
	require.ErrorIs(t, err, fault.CorruptData)
}

func FuzzHeader(f *testing.F) {
	_, good := goldenHeader()
	f.Add(good)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		sector := make([]byte, sectorBytes)
		copy(sector, b)
		if len(b) < sectorBytes { // let the fuzzer get past the checksum
			sealSector(sector)
		}
		h, err := parseHeader(sector)
		if err != nil {
			return
		}
		again := make([]byte, sectorBytes)
		putHeader(again, h)
		back, err := parseHeader(again)
		require.NoError(t, err)
		require.Equal(t, h, back)
	})
}

func FuzzSlot(f *testing.F) {
	_, good := goldenSlot()
	f.Add(good, 1)
	f.Add([]byte{}, 0)
	h, _ := goldenHeader()
	f.Fuzz(func(t *testing.T, b []byte, index int) {
		sector := make([]byte, sectorBytes)
		copy(sector, b)
		if len(b) < sectorBytes {
			sealSector(sector)
		}
		s, ok := parseSlot(sector, index, h)
		if !ok {
			return
		}
		require.True(t, s.length >= 0 && s.length <= h.chunkSize && s.counter > 0 && s.id == h.id)
	})
}

func FuzzRecoverFile(f *testing.F) {
	m := vfs.NewMem()
	seed, err := Open(testOptions(m))
	require.NoError(f, err)
	w := mustCreate(f, seed, testID(1))
	mustAppend(f, w, pattern(1, blockBytes+300), true)
	mustAppend(f, w, pattern(2, 10), false)
	require.NoError(f, seed.Close())
	whole, err := m.OpenFile(seed.lookup(testID(1)).path(), os.O_RDONLY, 0)
	require.NoError(f, err)
	info, err := whole.Stat()
	require.NoError(f, err)
	b := make([]byte, info.Size())
	require.NoError(f, readFull(whole, b, 0))
	f.Add(b)
	f.Add(b[:len(b)-200])
	f.Fuzz(func(t *testing.T, b []byte) {
		m := vfs.NewMem()
		file, err := m.OpenFile("/a", os.O_RDWR|os.O_CREATE, 0o644)
		require.NoError(t, err)
		_, err = file.WriteAt(b, 0)
		require.NoError(t, err)
		got, err := recoverFile(file, testID(1))
		if err != nil {
			require.True(t, errors.Is(err, errNeverSynced) || fault.KindOf(err) != 0, "%v", err)
			return
		}
		require.LessOrEqual(t, got.length, min(got.chunkSize, max(0, int64(len(b))-got.dataOffset)))
		if border := got.length / blockBytes * blockBytes; border < got.length {
			require.Equal(t, got.partial, xxh3.Hash(b[got.dataOffset+border:got.dataOffset+got.length]))
		}
	})
}

func FuzzFileName(f *testing.F) {
	f.Add(fileName{id: testID(1), generation: 3}.String())
	f.Add(fileName{id: testID(1), generation: 3, sealed: true, length: 5}.String())
	f.Add(parkedName{at: testTime, serial: 7, name: fileName{id: testID(1), generation: 3}}.String())
	f.Fuzz(func(t *testing.T, text string) {
		if n, ok := parseFileName(text); ok {
			require.Equal(t, text, n.String())
		}
		if p, ok := parseParkedName(text); ok {
			require.Equal(t, text, p.String())
		}
	})
}

func FuzzIdentity(f *testing.F) {
	f.Add(goldenIdentity().encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := parseIdentity(b)
		if err != nil {
			return
		}
		back, err := parseIdentity(v.encode())
		require.NoError(t, err)
		require.Equal(t, v, back)
	})
}

const (
	goldenHeaderHex    = "57576368756e6b000100000000000100019b7ca98c897001830405060708090100000004000000000030000000000000 fbf666a9c6629dda"
	goldenSlotHex      = "5757736c6f7400000100000001000000019b7ca98c897001830405060708090103000000000000000400000000000000050000000000000070110100000000008877665544332211 f3c81932417ee02a"
	goldenIdentityText = "{\n  \"version\": 1,\n  \"node_id\": \"n1\",\n  \"volume_id\": \"v1\",\n  \"cluster_id\": \"c1\",\n  \"highest_epoch\": 7,\n  \"highest_txid\": 99,\n  \"sum\": \"b4757de112a0320e\"\n}\n"
)
