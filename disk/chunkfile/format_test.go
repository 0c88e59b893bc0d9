package chunkfile

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

func goldenHeader() (Header, []byte) {
	h := Header{ID: testID(1), Layout: Layout{64 << 20}}
	b := make([]byte, SectorBytes)
	putHeader(b, h)
	return h, b
}

func goldenSlot() (slot, []byte) {
	s := slot{id: testID(1), index: 1, counter: 3, promised: 5, End: End{Generation: 4, Length: 70_000,
		Partial: 0x1122334455667788}}
	b := make([]byte, SectorBytes)
	putSlot(b, s)
	return s, b
}

// golden splits a sector into its used front and its sum; what is between must
// be zero.
func golden(t *testing.T, sector []byte, used int) string {
	t.Helper()
	require.True(t, IsZero(sector[used:SectorBytes-SumBytes]))
	return hex.EncodeToString(sector[:used]) + " " + hex.EncodeToString(sector[SectorBytes-SumBytes:])
}

func TestGoldenBytes(t *testing.T) {
	_, h := goldenHeader()
	require.Equal(t, goldenHeaderHex, golden(t, h, 48))
	_, s := goldenSlot()
	require.Equal(t, goldenSlotHex, golden(t, s, 72))
	name := Name{ID: testID(1), Generation: 0xabc}
	require.Equal(t, "019b7ca9-8c89-7001-8304-050607080901_abc.open", name.String())
	name.Sealed, name.Length = true, 70_000
	require.Equal(t, "chunks/01/019b7ca9-8c89-7001-8304-050607080901_abc_70000.chunk", name.Relative())
	require.Equal(t, "019b7ca98c88_00000007_019b7ca9-8c89-7001-8304-050607080901_abc_70000.chunk",
		ParkedName{At: testTime, Serial: 7, Name: name}.String())
}

func TestLayout(t *testing.T) {
	for size, offset := range map[int64]int64{
		blockBytes: 4096, 256 * blockBytes: 4096, 257 * blockBytes: 8192, 64 << 20: 12288, chunk.SizeMax: 135168,
	} {
		require.Equal(t, offset, Layout{size}.DataOffset(), "%d", size)
		require.NoError(t, CheckSize(size))
	}
	for _, size := range []int64{0, 1, blockBytes - 1, blockBytes + 1, chunk.SizeMax + blockBytes, -blockBytes} {
		require.ErrorIs(t, CheckSize(size), fault.Invalid, "%d", size)
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
		SealSector(bad)
		_, err := parseHeader(bad)
		require.ErrorIs(t, err, fault.Version, name)
	}
	for name, change := range map[string]func(b []byte){
		"chunk size":  func(b []byte) { b[32] = 1 },
		"data offset": func(b []byte) { b[40] = 1 },
	} {
		bad := append([]byte(nil), good...)
		change(bad)
		SealSector(bad)
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
	_, ok = parseSlot(good, 1, Header{ID: testID(2), Layout: h.Layout})
	require.False(t, ok, "of another chunk")
	_, ok = parseSlot(good, 1, Header{ID: h.ID, Layout: Layout{blockBytes}})
	require.False(t, ok, "longer than the chunk")
	_, ok = parseSlot(make([]byte, SectorBytes), 1, h)
	require.False(t, ok, "empty")
	for name, s := range map[string]slot{
		"negative length": {id: h.ID, index: 1, counter: 1, End: End{Length: -1}},
		"no counter":      {id: h.ID, index: 1},
	} {
		b := make([]byte, SectorBytes)
		putSlot(b, s)
		_, ok = parseSlot(b, 1, h)
		require.False(t, ok, name)
	}
}

func TestFileNamesAreRefused(t *testing.T) {
	id := testID(1).String()
	for _, text := range []string{
		"", ".open", ".chunk", id + ".open", id + "_0.open", id + "_01.open", id + "_A.open", id + "_1_5.open",
		id + "_1.chunk",
		id + "_1_.chunk", id + "_1_-5.chunk", id + "_1_05.chunk", id + "_1_5.chunk.tmp", id + "_1_9999999999999.chunk",
		"{" + id + "}_1.open", "x" + id + "_1.open", id + "_11111111111111111.open",
	} {
		_, ok := ParseName(text)
		require.False(t, ok, "%q", text)
		_, ok = ParseParkedName("019b7ca98c88_00000007_" + text)
		require.False(t, ok, "%q", text)
	}
	for _, text := range []string{"", "1_2_" + id + "_1.open", id + "_1.open", "019b7ca98c88_" + id + "_1.open"} {
		_, ok := ParseParkedName(text)
		require.False(t, ok, "%q", text)
	}
}

func FuzzHeader(f *testing.F) {
	_, good := goldenHeader()
	f.Add(good)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		sector := make([]byte, SectorBytes)
		copy(sector, b)
		if len(b) < SectorBytes { // let the fuzzer get past the checksum
			SealSector(sector)
		}
		h, err := parseHeader(sector)
		if err != nil {
			return
		}
		again := make([]byte, SectorBytes)
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
		sector := make([]byte, SectorBytes)
		copy(sector, b)
		if len(b) < SectorBytes {
			SealSector(sector)
		}
		s, ok := parseSlot(sector, index, h)
		if !ok {
			return
		}
		require.True(t, s.Length >= 0 && s.Length <= h.ChunkSize && s.counter > 0 && s.id == h.ID)
	})
}

func FuzzFileName(f *testing.F) {
	f.Add(Name{ID: testID(1), Generation: 3}.String())
	f.Add(Name{ID: testID(1), Generation: 3, Sealed: true, Length: 5}.String())
	f.Add(ParkedName{At: testTime, Serial: 7, Name: Name{ID: testID(1), Generation: 3}}.String())
	f.Fuzz(func(t *testing.T, text string) {
		if n, ok := ParseName(text); ok {
			require.Equal(t, text, n.String())
		}
		if p, ok := ParseParkedName(text); ok {
			require.Equal(t, text, p.String())
		}
	})
}

const (
	goldenHeaderHex = "57576368756e6b000100000000000100019b7ca98c897001830405060708090100000004000000000030000000000000 fbf666a9c6629dda"
	goldenSlotHex   = "5757736c6f7400000100000001000000019b7ca98c897001830405060708090103000000000000000400000000000000050000000000000070110100000000008877665544332211 f3c81932417ee02a"
)
