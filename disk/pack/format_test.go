package pack

import (
	"bytes"
	"encoding/hex"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

const (
	blockBytes = DataBytesMax
	chunkSize  = 3 * blockBytes
)

func goldenSegment() segmentName { return segmentName{sequence: 7, key: 0x1122334455667788} }

func goldenRecord() (Record, []byte) {
	r := Record{
		ID: testID(1), Generation: 4, ChunkSize: 64 << 20, Length: 4096, Sum: 0xaabbccddeeff0011, Offset: 5120,
		durable: 512,
		removed: time.UnixMilli(testTime.UnixMilli()),
	}
	b := make([]byte, chunkfile.SectorBytes)
	putRecord(b, goldenSegment(), r)
	return r, b
}

const (
	goldenSegmentHex = "57577061636b0000010000000002000007000000000000008877665544332211 c71d1eca7b7dab8a"
	goldenRecordHex  = "57577265636f72640100000000100000019b7ca98c8970018304050607080901040000000000000000000004000000001100ffeeddccbbaa070000000000000000140000000000000002000000000000888ca97c9b010000 5ab1087c58940790"
)

// golden splits a sector into its used front and its sum; what is between must
// be zero.
func golden(t *testing.T, sector []byte, used int) string {
	t.Helper()
	require.True(t, chunkfile.IsZero(sector[used:chunkfile.SectorBytes-chunkfile.SumBytes]))
	return hex.EncodeToString(sector[:used]) + " " +
		hex.EncodeToString(sector[chunkfile.SectorBytes-chunkfile.SumBytes:])
}

func TestGoldenPackBytes(t *testing.T) {
	b := make([]byte, chunkfile.SectorBytes)
	putSegmentHeader(b, goldenSegment())
	require.Equal(t, goldenSegmentHex, golden(t, b, 32))
	require.NoError(t, parseSegmentHeader(b, goldenSegment()))
	want, b := goldenRecord()
	require.Equal(t, goldenRecordHex, golden(t, b, 88))
	got, err := parseRecord(b, goldenSegment(), want.Offset)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, "0000000000000007_1122334455667788.pack", goldenSegment().String())
	for length, room := range map[int64]int64{0: 512, 1: 1024, 512: 1024, 513: 1536, 4096: 4608,
		blockBytes: recordBytesMax} {
		require.Equal(t, room, RecordBytes(length), "%d", length)
	}
}

func TestSegmentHeaderIsRefused(t *testing.T) {
	good := make([]byte, chunkfile.SectorBytes)
	putSegmentHeader(good, goldenSegment())
	for at := range good {
		bad := bytes.Clone(good)
		bad[at] ^= 1
		require.ErrorIs(t, parseSegmentHeader(bad, goldenSegment()), fault.CorruptData, "byte %d", at)
	}
	require.ErrorIs(t, parseSegmentHeader(good, segmentName{sequence: 8, key: goldenSegment().key}), fault.CorruptData)
	for _, at := range []int{8, 13} {
		bad := bytes.Clone(good)
		bad[at]++
		chunkfile.SealSector(bad)
		require.ErrorIs(t, parseSegmentHeader(bad, goldenSegment()), fault.Version, "byte %d", at)
	}
}

func TestRecordHeaderIsRefused(t *testing.T) {
	r, good := goldenRecord()
	for at := range good {
		bad := bytes.Clone(good)
		bad[at] ^= 1
		_, err := parseRecord(bad, goldenSegment(), r.Offset)
		require.ErrorIs(t, err, fault.CorruptData, "byte %d", at)
	}
	for name, n := range map[string]segmentName{
		"of another segment": {sequence: 8, key: goldenSegment().key}, "with another key": {sequence: 7, key: 1},
	} {
		_, err := parseRecord(good, n, r.Offset)
		require.ErrorIs(t, err, fault.CorruptData, name)
	}
	_, err := parseRecord(good, goldenSegment(), r.Offset+512)
	require.ErrorIs(t, err, fault.CorruptData, "at another place")
	for name, change := range map[string]func(r *Record){
		"no id":            func(r *Record) { r.ID = chunk.ID{} },
		"no generation":    func(r *Record) { r.Generation = 0 },
		"chunk size":       func(r *Record) { r.ChunkSize = 5 },
		"too long":         func(r *Record) { r.Length = blockBytes + 1 },
		"removed":          func(r *Record) { r.removed = time.UnixMilli(1 << 48) },
		"durable negative": func(r *Record) { r.durable = -1 },
		"durable beyond":   func(r *Record) { r.durable = r.Offset + 1 },
	} {
		bad := r
		change(&bad)
		b := make([]byte, chunkfile.SectorBytes)
		putRecord(b, goldenSegment(), bad)
		_, err := parseRecord(b, goldenSegment(), r.Offset)
		require.ErrorIs(t, err, fault.CorruptData, name)
	}
	b := bytes.Clone(good)
	b[8] = 2
	reseal(b, goldenSegment())
	_, err = parseRecord(b, goldenSegment(), r.Offset)
	require.ErrorIs(t, err, fault.Version)
}

// reseal makes a changed record header pass its sum.
func reseal(b []byte, n segmentName) {
	var sum [8]byte
	v := xxh3.HashSeed(b[:chunkfile.SectorBytes-chunkfile.SumBytes], n.key)
	for i := range sum {
		sum[i] = byte(v >> (8 * i))
	}
	copy(b[chunkfile.SectorBytes-chunkfile.SumBytes:chunkfile.SectorBytes], sum[:])
}

// segmentOf builds the bytes of a segment: each batch is durable when the next
// one is written.
func segmentOf(batches ...[]int) (b []byte, all []Record) {
	b = append(b, make([]byte, chunkfile.SectorBytes)...)
	putSegmentHeader(b, goldenSegment())
	for _, batch := range batches {
		durable := int64(len(b))
		for _, size := range batch {
			data := pattern(uint64(len(all)), size)
			r := Record{ID: testID(len(all)), Generation: 1, ChunkSize: chunkSize, Length: int64(size),
				Sum:    xxh3.Hash(data),
				Offset: int64(len(b)), durable: durable}
			b = append(b, make([]byte, r.bytes())...)
			putRecord(b[r.Offset:], goldenSegment(), r)
			copy(b[r.Offset+chunkfile.SectorBytes:], data)
			all = append(all, r)
		}
	}
	return b, all
}

func TestScanSkipsDamageAndDropsATornTail(t *testing.T) {
	good, all := segmentOf([]int{700, 0, 4096}, []int{5, blockBytes}, []int{513, 40, 41})
	zeros := make([]byte, 1<<20)
	for name, c := range map[string]struct {
		change  func(b []byte) []byte
		lost    []int
		damaged []gap
		end     int // Record after which it ends; -1: the last
	}{
		"nothing":              {func(b []byte) []byte { return b }, nil, nil, 7},
		"zeros behind":         {func(b []byte) []byte { return append(b, zeros...) }, nil, nil, 7},
		"garbage behind":       {func(b []byte) []byte { return append(b, pattern(1, 5000)...) }, nil, nil, 7},
		"cut in the last data": {func(b []byte) []byte { return b[:len(b)-512] }, []int{7}, nil, 6},
		"torn last header":     {func(b []byte) []byte { clear(b[all[7].Offset:][:512]); return b }, []int{7}, nil, 6},
		"torn last data":       {func(b []byte) []byte { b[all[7].Offset+512] ^= 1; return b }, []int{7}, nil, 6},
		"hole in the last batch": {func(b []byte) []byte {
			clear(b[all[6].Offset:all[6].end()])
			return append(b, zeros...)
		}, []int{6}, nil, 7},
		"old header": {func(b []byte) []byte { b[all[1].Offset+20] ^= 1; return b }, []int{1},
			[]gap{{all[1].Offset, all[2].Offset}}, 7},
		"old records zeroed": {func(b []byte) []byte { clear(b[all[0].Offset:all[2].end()]); return b }, []int{0, 1, 2},
			[]gap{{512, all[3].Offset}}, 7},
		// found by who reads it
		"old data": {func(b []byte) []byte { b[all[2].Offset+600] ^= 1; return b }, nil, nil, 7},
		"last durable header": {func(b []byte) []byte { clear(b[all[4].Offset:][:512]); return b }, []int{4},
			[]gap{{all[4].Offset, all[5].Offset}}, 7},
		"segment header": {func(b []byte) []byte { clear(b[:512]); return b }, nil, nil, 7},
	} {
		t.Run(name, func(t *testing.T) {
			b := c.change(bytes.Clone(good))
			got, err := scanSegment(bytes.NewReader(b), int64(len(b)), goldenSegment())
			require.NoError(t, err)
			var want []Record
			for i, r := range all {
				lost := false
				for _, l := range c.lost {
					lost = lost || l == i
				}
				if !lost {
					want = append(want, r)
				}
			}
			require.Equal(t, want, got.records)
			require.Equal(t, c.damaged, got.damaged)
			require.Equal(t, all[c.end].end(), got.end)
		})
	}
}

// A client may store what looks like a record. Skipping damage must not take it
// for one.
func TestStoredBytesAreNoRecord(t *testing.T) {
	b, all := segmentOf([]int{4096}, []int{10})
	forged := Record{ID: testID(99), Generation: 9, ChunkSize: chunkSize, Length: 100, Offset: all[0].Offset + 1024}
	putRecord(b[forged.Offset:], segmentName{sequence: goldenSegment().sequence}, forged) // it cannot know the key
	b[all[0].Offset] ^= 1
	got, err := scanSegment(bytes.NewReader(b), int64(len(b)), goldenSegment())
	require.NoError(t, err)
	require.Equal(t, all[1:], got.records)
	require.Len(t, got.damaged, 1)
}

func FuzzRecord(f *testing.F) {
	_, b := goldenRecord()
	f.Add(b, int64(5120))
	f.Add([]byte{}, int64(0))
	f.Fuzz(func(t *testing.T, b []byte, offset int64) {
		sector := make([]byte, chunkfile.SectorBytes)
		copy(sector, b)
		if len(b) < chunkfile.SectorBytes {
			reseal(sector, goldenSegment())
		}
		r, err := parseRecord(sector, goldenSegment(), offset)
		if err != nil {
			require.NotZero(t, fault.KindOf(err))
			return
		}
		require.True(t,
			r.Offset == offset && r.Length >= 0 && r.Length <= DataBytesMax && r.durable <= offset && r.Generation > 0)
		back := make([]byte, chunkfile.SectorBytes)
		putRecord(back, goldenSegment(), r)
		again, err := parseRecord(back, goldenSegment(), offset)
		require.NoError(t, err)
		require.Equal(t, r, again)
	})
}

func FuzzScanSegment(f *testing.F) {
	b, _ := segmentOf([]int{700, 0}, []int{5, 513})
	f.Add(b)
	f.Add(b[:len(b)-100])
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := scanSegment(bytes.NewReader(b), int64(len(b)), goldenSegment())
		if err != nil {
			require.ErrorIs(t, err, fault.Version)
			return
		}
		end := int64(chunkfile.SectorBytes)
		for _, r := range got.records {
			require.GreaterOrEqual(t, r.Offset, end)
			end = r.end()
		}
		require.LessOrEqual(t, end, max(chunkfile.SectorBytes, int64(len(b))))
	})
}

func FuzzSegmentName(f *testing.F) {
	f.Add(goldenSegment().String())
	f.Fuzz(func(t *testing.T, text string) {
		if n, ok := parseSegmentName(text); ok {
			require.Equal(t, text, n.String())
		}
	})
}
