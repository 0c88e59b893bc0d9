package wire

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/record"
)

func TestRecordsAreCutIntoPieces(t *testing.T) {
	for _, size := range []int{0, 1, 4096, 4097, RecordPieceBytes - 1, RecordPieceBytes, RecordPieceBytes + 1,
		3 * RecordPieceBytes, record.PayloadBytesMax} {
		payload := bytes.Repeat([]byte{7}, size)
		stream, err := AppendRecord(nil, 42, FlagSync, payload)
		require.NoError(t, err)
		r := NewPacketReader(bytes.NewReader(stream), PayloadBytesMax)
		var got []byte
		var cost int64
		for {
			h, piece, err := r.Next()
			require.NoError(t, err)
			require.Equal(t, OpRecord, h.Op)
			require.Equal(t, FlagSync, h.Flags)
			require.EqualValues(t, 42, h.Seqno)
			got = append(got, piece...)
			cost += WindowCost(len(piece))
			require.EqualValues(t, size-len(got), h.Offset)
			if h.Offset == 0 {
				break
			}
			require.Len(t, piece, RecordPieceBytes)
		}
		require.Zero(t, r.Buffered())
		require.True(t, bytes.Equal(payload, got))
		require.Equal(t, cost, RecordCost(size), "size %d", size)
	}
	_, err := AppendRecord(nil, 1, 0, make([]byte, record.PayloadBytesMax+1))
	require.ErrorIs(t, err, fault.Invalid)
}

func TestValidateCopyAndRecords(t *testing.T) {
	copyRange := func(change func(*CopyRange)) *CopyRange {
		o := CopyRange{BodyVersion: 1, ChunkID: testID(), Generation: 1, ChunkSize: 1 << 20, Length: 1 << 20,
			Sources: []Hop{{NodeID: "b", Address: "b:1"}}}
		change(&o)
		return &o
	}
	require.NoError(t, copyRange(func(*CopyRange) {}).Validate())
	require.NoError(t, copyRange(func(o *CopyRange) { o.SourceChunkID = testID() }).Validate())
	for _, change := range []func(*CopyRange){
		func(o *CopyRange) { o.ChunkID = nil },
		func(o *CopyRange) { o.ChunkID = make([]byte, 16) },
		func(o *CopyRange) { o.ChunkID = make([]byte, 17) },
		func(o *CopyRange) { o.SourceChunkID = []byte{1} },
		func(o *CopyRange) { o.Generation = 0 },
		func(o *CopyRange) { o.ChunkSize = 1000 },
		func(o *CopyRange) { o.ChunkSize = 2 * chunk.SizeMax },
		func(o *CopyRange) { o.Length = -1 },
		func(o *CopyRange) { o.Length = o.ChunkSize + 1 },
		func(o *CopyRange) { o.Sources = nil },
		func(o *CopyRange) { o.Sources = make([]Hop, HopsMax+1) },
		func(o *CopyRange) { o.Sources[0].Address = "" },
		func(o *CopyRange) { o.Sources[0].Address = strings.Repeat("a", 301) },
		func(o *CopyRange) { o.Sources[0].NodeID = strings.Repeat("a", 257) },
	} {
		require.ErrorIs(t, copyRange(change).Validate(), fault.Invalid)
	}
	require.NoError(t, (&CopyReply{Length: 7}).Validate())
	require.NoError(t, (&CopyReply{Length: -7, Status: Status{Code: 2}}).Validate())
	require.ErrorIs(t, (&CopyReply{Length: -7}).Validate(), fault.Protocol)

	open := func(change func(*OpenRecords)) *OpenRecords {
		o := OpenRecords{BodyVersion: 1, Path: "/a", WriterID: testID()}
		change(&o)
		return &o
	}
	require.NoError(t, open(func(*OpenRecords) {}).Validate())
	for _, change := range []func(*OpenRecords){
		func(o *OpenRecords) { o.Path = "" },
		func(o *OpenRecords) { o.Path = "a" },
		func(o *OpenRecords) { o.Path = "/\xff" },
		func(o *OpenRecords) { o.Path = "/" + strings.Repeat("a", PathBytesMax) },
		func(o *OpenRecords) { o.WriterID = nil },
		func(o *OpenRecords) { o.WindowBytes = -1 },
		func(o *OpenRecords) { o.ClientName = strings.Repeat("a", 257) },
	} {
		require.ErrorIs(t, open(change).Validate(), fault.Invalid)
	}
	require.ErrorIs(t, (&RecordsOpened{}).Validate(), fault.Protocol)
	require.NoError(t, (&RecordsOpened{WindowBytes: EarlyBytesMax}).Validate())
	require.NoError(t, (&RecordsOpened{Status: Status{Code: 7}}).Validate())
	require.NoError(t, (&RecordAck{Sequence: 2, Offsets: []int64{1, 2}}).Validate())
	require.ErrorIs(t, (&RecordAck{Sequence: 1, Offsets: []int64{1, 2}}).Validate(), fault.Protocol)
	require.ErrorIs(t, (&RecordAck{Sequence: 1, Offsets: []int64{-1}}).Validate(), fault.Protocol)
	require.ErrorIs(t, (&RecordAck{Sequence: 1 << 20, Offsets: make([]int64, RecordOffsetsMax+1)}).Validate(),
		fault.Protocol)
}
