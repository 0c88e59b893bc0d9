package wire

import (
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files again; only with an explanation")

func testID() []byte {
	id := chunk.NewID(0x0190_0000_0000, [10]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10})
	return id[:]
}

// bodies has one filled-in example of every body, by op.
func bodies() map[string]struct {
	op   Op
	body any
} {
	type entry = struct {
		op   Op
		body any
	}
	status := Status{Code: uint8(fault.NotFound), NodeID: "node-a", Chunk: "0190", Reason: "no such replica"}
	hops := []HopStatus{{NodeID: "node-a", Micros: 1200, TotalMicros: 71_500},
		{NodeID: "node-b", Code: uint8(fault.Disk), Reason: "EIO", Micros: 70_000, TotalMicros: 70_001}}
	return map[string]entry{
		"open_write": {OpOpenWrite, &OpenWrite{BodyVersion: 1, ChunkID: testID(), Generation: 3, PreviousGeneration: 2,
			Mode: ModeResume, ChunkSize: 64 << 20,
			Offset: 131_073, SizeHint: 1 << 20, WindowBytes: 8 << 20,
			Downstream: []Hop{{NodeID: "node-b", Address: "10.0.0.2:7720"}, {NodeID: "node-c", Address: "[::1]:7720"}},
			ClientName: "put", ReportMicros: 200_000}},
		"open_ack": {OpOpenAck, &OpenAck{BodyVersion: 1, WindowBytes: 4 << 20, Hops: hops}},
		"ack":      {OpAck, &Ack{BodyVersion: 1, Seqno: 77, Length: 1 << 33, Hops: hops}},
		"open_read": {OpOpenRead, &OpenRead{BodyVersion: 1, ChunkID: testID(), MinGeneration: 2, Offset: 65_536,
			Length: -1, Background: true}},
		"read_reply": {OpReadReply, &ReadReply{BodyVersion: 1, Generation: 2, ReplicaLength: 200_000,
			DataOffset: 65_536, DataLength: 134_464, BlockBytes: 65_536,
			Sums: []byte("01234567abcdefgh\x00\x01\x02\x03\xff\xfe\xfd\xfc"), ChunkSize: 64 << 20}},
		"read_refused": {OpReadReply, &ReadReply{BodyVersion: 1, Status: status}},
		"stat":         {OpStat, &StatReplica{BodyVersion: 1, ChunkID: testID(), WithDigest: true}},
		"stat_reply": {OpStatReply, &StatReply{BodyVersion: 1, Generation: 9, Length: 12, State: uint8(chunk.Sealed),
			Digest: 0xfedc_ba98_7654_3210}},
		"alive": {OpAlive, &Alive{BodyVersion: 1, Opening: []string{"node-b"}, Progress: 1<<20 + 1}},
		"error": {OpError, &status},
		"recover_begin": {OpRecover, &RecoverReplica{BodyVersion: 1, Phase: RecoverBegin, ChunkID: testID(),
			Generation: 8}},
		"recover_finish": {OpRecover, &RecoverReplica{BodyVersion: 1, Phase: RecoverFinish, ChunkID: testID(),
			Generation: 8,
			Length:     99}},
		"recovered": {OpRecovered, &RecoverReply{BodyVersion: 1, Generation: 7, Length: 100,
			State: uint8(chunk.Recovered), Restarted: true}},
		"recover_refused": {OpRecovered, &RecoverReply{BodyVersion: 1, Status: status}},
		"copy": {OpCopy, &CopyRange{BodyVersion: 1, ChunkID: testID(), Generation: 4, ChunkSize: 64 << 20,
			Length:        1 << 20,
			SourceChunkID: testID(), SourceMinGeneration: 2,
			Sources: []Hop{{NodeID: "node-b", Address: "10.0.0.2:7720"}}, Seal: true}},
		"copy_reply":   {OpCopyReply, &CopyReply{BodyVersion: 1, Length: 1 << 20}},
		"copy_refused": {OpCopyReply, &CopyReply{BodyVersion: 1, Status: status, Length: 77}},
		"open_records": {OpOpenRecords, &OpenRecords{BodyVersion: 1, Path: "/logs/a", WriterID: testID(),
			WindowBytes: 1 << 20, ClientName: "ww append"}},
		"records_opened": {OpRecordsOpened, &RecordsOpened{BodyVersion: 1, WindowBytes: 1 << 20}},
		"records_redirect": {OpRecordsOpened, &RecordsOpened{BodyVersion: 1, Status: status,
			Redirect: Hop{NodeID: "node-b",
				Address: "10.0.0.2:7720"}}},
		"scrub":     {OpScrub, &Scrub{BodyVersion: 1, Begin: true}},
		"scrub_one": {OpScrub, &Scrub{BodyVersion: 1, ChunkID: testID()}},
		"scrub_reply": {OpScrubReply, &ScrubReply{BodyVersion: 1, Volumes: []ScrubVolume{{VolumeID: "volume-a",
			Passes: 3, Wanted: 4, Percent: 50, Replicas: 1000, Bytes: 1 << 40, Bad: 2}}}},
		"scrub_refused": {OpScrubReply, &ScrubReply{BodyVersion: 1, Status: status}},
		"disks":         {OpDisks, &Disks{BodyVersion: 1, Action: DiskReplace, Disk: "/srv/1", Directory: "/srv/2"}},
		"disks_reply": {OpDisksReply, &DisksReply{BodyVersion: 1, VolumeID: "v7", Directory: "/srv/2",
			State: "healthy"}},
		"trash_list": {OpTrash, &Trash{BodyVersion: 1, Action: TrashList, Number: 7}},
		"trash_restore": {OpTrash, &Trash{BodyVersion: 1, Action: TrashRestore, ChunkID: testID(), Generation: 4,
			Number: 8}},
		"trash_reply": {OpTrashReply, &TrashReply{BodyVersion: 1, Entries: []TrashEntry{{ChunkID: testID(),
			Generation: 4, Length: 1 << 20, State: uint8(chunk.Sealed), VolumeID: "volume-a", DeletedNanos: 1 << 59,
			UntilNanos: 1 << 60, Number: 8}}}},
		"trash_refused": {OpTrashReply, &TrashReply{BodyVersion: 1, Status: status}},
		"record_ack":    {OpRecordAck, &RecordAck{BodyVersion: 1, Sequence: 9, Offsets: []int64{0, 56, 1 << 40}}},
		"record_failed": {OpRecordAck, &RecordAck{BodyVersion: 1, Sequence: 9, Status: status,
			Redirect: Hop{NodeID: "node-b", Address: "10.0.0.2:7720"}}},
	}
}

// emptyOf returns a new zero value of the type that body points to.
func emptyOf(t testing.TB, body any) any {
	switch body.(type) {
	case *OpenWrite:
		return new(OpenWrite)
	case *OpenAck:
		return new(OpenAck)
	case *Ack:
		return new(Ack)
	case *OpenRead:
		return new(OpenRead)
	case *ReadReply:
		return new(ReadReply)
	case *StatReplica:
		return new(StatReplica)
	case *StatReply:
		return new(StatReply)
	case *Alive:
		return new(Alive)
	case *Status:
		return new(Status)
	case *RecoverReplica:
		return new(RecoverReplica)
	case *RecoverReply:
		return new(RecoverReply)
	case *CopyRange:
		return new(CopyRange)
	case *CopyReply:
		return new(CopyReply)
	case *OpenRecords:
		return new(OpenRecords)
	case *RecordsOpened:
		return new(RecordsOpened)
	case *RecordAck:
		return new(RecordAck)
	case *Scrub:
		return new(Scrub)
	case *ScrubReply:
		return new(ScrubReply)
	case *Disks:
		return new(Disks)
	case *DisksReply:
		return new(DisksReply)
	case *Trash:
		return new(Trash)
	case *TrashReply:
		return new(TrashReply)
	}
	t.Fatalf("no empty value for %T", body)
	return nil
}

// The bytes of version 1 never change: peers of different releases speak it to
// each other.
func TestGoldenBytes(t *testing.T) {
	golden := func(name string, packet []byte) {
		path := filepath.Join("testdata", "golden", name+".hex")
		text := hex.Dump(packet)
		if *rewrite {
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		}
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, strings.TrimSpace(string(want)), strings.TrimSpace(text), name)
	}
	seen := map[Op]bool{OpData: true, OpRecord: true} // they have no body: below
	for name, e := range bodies() {
		seen[e.op] = true
		packet, err := AppendPacket(nil, Header{Op: e.op, Seqno: 5}, e.body)
		require.NoError(t, err)
		golden(name, packet)

		h, err := ParseHeader(packet)
		require.NoError(t, err)
		require.Equal(t, Header{Op: e.op, Seqno: 5, Length: uint32(len(packet) - HeaderBytes), Sum: h.Sum}, h)
		require.NoError(t, Verify(packet))
		decoded := emptyOf(t, e.body)
		require.NoError(t, DecodeBody(packet[HeaderBytes:], decoded))
		require.Equal(t, e.body, decoded, name)
	}
	for op := Op(1); op <= opLast; op++ {
		require.True(t, seen[op], "op %d has no golden bytes", op)
	}
	payload := []byte("sixteen bytes ok")
	data := make([]byte, HeaderBytes+len(payload))
	PutHeader(data, Header{Op: OpData, Flags: FlagSync | FlagSeal, Length: uint32(len(payload)), Seqno: 1<<40 + 3,
		Offset: 1 << 29})
	copy(data[HeaderBytes:], payload)
	Seal(data)
	golden("data", data)

	piece, err := AppendRecord(nil, 1<<40+7, FlagSync, payload)
	require.NoError(t, err)
	golden("record", piece)
}

// old reads a packet of an older release.
func old(t *testing.T, name string) (packet []byte) {
	text, err := os.ReadFile(filepath.Join("testdata", "golden", name+".hex"))
	require.NoError(t, err)
	for _, line := range strings.Split(string(text), "\n") {
		if len(line) > 58 {
			b, err := hex.DecodeString(strings.ReplaceAll(line[10:58], " ", ""))
			require.NoError(t, err)
			packet = append(packet, b...)
		}
	}
	require.NoError(t, Verify(packet))
	return packet
}

// An OpenWrite of a peer that knows nothing of reports: it gets none.
func TestOpenWriteWithoutReports(t *testing.T) {
	var open, want OpenWrite
	require.NoError(t, DecodeBody(old(t, "open_write_without_reports")[HeaderBytes:], &open))
	want = *bodies()["open_write"].body.(*OpenWrite)
	want.ReportMicros = 0
	require.Equal(t, want, open)
}

// An OpenRead of a peer that knows nothing of background reads: it is none.
func TestOpenReadWithoutBackground(t *testing.T) {
	var read OpenRead
	require.NoError(t, DecodeBody(old(t, "open_read_without_background")[HeaderBytes:], &read))
	want := *bodies()["open_read"].body.(*OpenRead)
	want.Background = false
	require.Equal(t, want, read)
}

// An ack of a peer that does not tell its totals: they are 0.
func TestAckWithoutTotals(t *testing.T) {
	packet := old(t, "ack_without_totals")
	var ack Ack
	require.NoError(t, DecodeBody(packet[HeaderBytes:], &ack))
	require.Len(t, ack.Hops, 2)
	require.EqualValues(t, 70_000, ack.Hops[1].Micros)
	require.Zero(t, ack.Hops[0].TotalMicros)
}

// An Alive of a peer that tells no progress: it is 0, which says so.
func TestAliveWithoutProgress(t *testing.T) {
	var alive Alive
	require.NoError(t, DecodeBody(old(t, "alive_without_progress")[HeaderBytes:], &alive))
	require.Equal(t, Alive{BodyVersion: 1, Opening: []string{"node-b"}}, alive)
}

// A newer peer may append fields; an older one leaves the last ones out.
func TestBodiesGrowAtTheirEnd(t *testing.T) {
	type openReadV2 struct {
		_struct       struct{} `codec:",toarray"`
		BodyVersion   uint8
		ChunkID       []byte
		MinGeneration uint64
		Offset        int64
		Length        int64
		Background    bool
		Added         string
		More          []int
	}
	packet, err := AppendPacket(nil, Header{Op: OpOpenRead},
		&openReadV2{BodyVersion: 2, ChunkID: testID(), Offset: 7, Length: 8, Added: "new", More: []int{1, 2}})
	require.NoError(t, err)
	var now OpenRead
	require.NoError(t, DecodeBody(packet[HeaderBytes:], &now))
	require.Equal(t, OpenRead{BodyVersion: 2, ChunkID: testID(), Offset: 7, Length: 8}, now)

	type openReadV0 struct {
		_struct     struct{} `codec:",toarray"`
		BodyVersion uint8
		ChunkID     []byte
	}
	packet, err = AppendPacket(nil, Header{Op: OpOpenRead}, &openReadV0{BodyVersion: 1, ChunkID: testID()})
	require.NoError(t, err)
	var old OpenRead
	require.NoError(t, DecodeBody(packet[HeaderBytes:], &old))
	require.Equal(t, OpenRead{BodyVersion: 1, ChunkID: testID()}, old)
}
