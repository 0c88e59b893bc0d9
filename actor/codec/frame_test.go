package codec

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
)

func testID(n byte) chunk.ID {
	return chunk.NewID(1_700_000_000_000, [10]byte{n, 1, 2, 3, 4, 5, 6, 7, 8, n})
}

// samples is one record of each type with every field set.
func samples() []Record {
	h := Prefix{1, Header{Time: 1_700_000_000_123, Client: [16]byte{0xc1, 15: 0x1c}, Sequence: 7, Oldest: 5}}
	own := Prefix{1, Header{Time: 1_700_000_000_124}}
	chunks := []Placement{{ID: testID(1), Nodes: []datanode.Index{1, 2, 300}},
		{ID: testID(2), Nodes: []datanode.Index{3}}}
	return []Record{
		&FormatRecord{own, "0190b3a4-0000-7000-8000-000000000001"},
		&EpochRecord{own, 1 << 40},
		&NodeRecord{own, 2, "node-b", "10.0.0.2:7720"},
		&MkdirRecord{h, 1, 2, []string{"a", "bücher"}},
		&CreateRecord{h, 3, 4, []string{"x"}, "f", 3, 1024, true, true, 9, "/a/x/f", "host:17", chunks},
		&AddChunksRecord{h, 5, []Sealing{{0, 1, 1 << 26}, {1, 3, 17}}, true, 2, chunks[1:]},
		&CompleteRecord{h, 5, []Sealing{{0, 1, 1 << 26}}, 1, 3, "f", 9},
		&AbandonRecord{h, 5},
		&AppendRecord{h, 5, "f", "host:18", true, 4, []datanode.Index{2, 1}},
		&RecoverPipelineRecord{h, 5, 2, 6, []datanode.Index{1}, []datanode.Index{4, 5}},
		&UpdatePipelineRecord{h, 5, 2, 6, 65536, []datanode.Index{1, 4, 5}},
		&RenameRecord{h, 5, 3, "f", 1, "g", 8},
		&RemoveRecord{h, 5, 1, "g"},
		&RecoverLeaseRecord{own, 5, true, 2, 7},
		&RecoveredRecord{own, 5, 2, 7, 99},
		&TruncateRecord{h, 5, "f", 1 << 33, true},
		&ReplicationRecord{h, 5, "f", 2},
		&TrashRecord{h, 5, 1, 2, 6, 2, "/.trash/u/20261201T0914Z/d/f"},
		&SettlingRecord{own, 5, 2, 7, 99},
		&NodeDutyRecord{own, 300, datanode.DutyMaintenance, 1_700_000_600_000},
		&NodeNameRecord{own, 300, "rack7-ü"},
	}
}

// newRecord makes an empty record, as the table of the actor does.
func newRecord(kind Kind) Record {
	for _, r := range samples() {
		if r.Kind() == kind {
			return reflect.New(reflect.TypeOf(r).Elem()).Interface().(Record)
		}
	}
	return nil
}

// TestGoldenRecords holds the bytes of version 1 of every record type. A file
// is never changed once it was in a release.
func TestGoldenRecords(t *testing.T) {
	for _, r := range samples() {
		name := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%T", r), "*codec."), "Record")
		name = strings.ToLower(name[:1]) + name[1:]
		t.Run(name, func(t *testing.T) {
			frame, err := NewEncoder().Record(r)
			require.NoError(t, err)
			path := filepath.Join("testdata", "golden", fmt.Sprintf("%02d_%s_v1.hex", r.Kind(), name))
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
			back, err := NewDecoder(newRecord).Record(golden)
			require.NoError(t, err)
			require.Equal(t, r, back)
		})
	}
}

// TestRecordsStartWithThePrefix: a header that is embedded behind other fields
// would be another format.
func TestRecordsStartWithThePrefix(t *testing.T) {
	for _, r := range samples() {
		v := reflect.ValueOf(r).Elem()
		require.Equal(t, "Prefix", v.Type().Field(0).Name)
		require.Same(t, &v.Field(0).Addr().Interface().(*Prefix).Head, r.Header())
	}
}

// TestEncodeAllocatesNothing: in the steady state a record costs no allocation
// but its share of an arena.
func TestEncodeAllocatesNothing(t *testing.T) {
	e := NewEncoder()
	r := samples()[4]
	const many = 1000 // a count per run is rounded down
	encode := func() {
		for range many {
			if _, err := e.Record(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	require.Less(t, testing.AllocsPerRun(20, encode)/many, 0.05)
}

// seal makes a frame around a payload, with a right sum.
func sealFrame(kind Kind, version uint8, flags uint16, payload []byte) []byte {
	frame := make([]byte, frameHeaderBytes, frameHeaderBytes+len(payload))
	binary.LittleEndian.PutUint32(frame, uint32(len(payload)))
	frame[4], frame[5] = byte(kind), version
	binary.LittleEndian.PutUint16(frame[6:], flags)
	frame = append(frame, payload...)
	binary.LittleEndian.PutUint64(frame[8:], frameSum(frame))
	return frame
}

func TestDecodeRefusesDamage(t *testing.T) {
	d := NewDecoder(newRecord)
	good, err := NewEncoder().Record(&RemoveRecord{Prefix: Prefix{Version: 1}, Inode: 5, Parent: 1, Name: "x"})
	require.NoError(t, err)
	payload := good[frameHeaderBytes:]
	for bit := range len(good) * 8 {
		bad := append([]byte(nil), good...)
		bad[bit/8] ^= 1 << (bit % 8)
		_, err := d.Record(bad)
		require.ErrorIs(t, err, fault.CorruptData, "bit %d", bit)
	}
	for n := range good {
		_, err := d.Record(good[:n])
		require.ErrorIs(t, err, fault.CorruptData, "%d bytes", n)
	}
	for name, c := range map[string]struct {
		data []byte
		kind fault.Kind
	}{
		"bytes after the frame": {append(append([]byte(nil), good...), 0), fault.CorruptData},
		"bytes after the payload": {sealFrame(KindRemove, 1, 0, append(append([]byte(nil), payload...), 0)),
			fault.CorruptData},
		"flags":            {sealFrame(KindRemove, 1, 1, payload), fault.Version},
		"version 0":        {sealFrame(KindRemove, 0, 0, payload), fault.CorruptData},
		"newer version":    {sealFrame(KindRemove, 2, 0, payload), fault.Version},
		"unknown kind":     {sealFrame(99, 1, 0, payload), fault.Version},
		"checkpoint frame": {sealFrame(KindCheckpointHead, 1, 0, payload), fault.Version},
		"no array":         {sealFrame(KindRemove, 1, 0, []byte{0xc0}), fault.CorruptData},
		"empty":            {sealFrame(KindRemove, 1, 0, nil), fault.CorruptData},
		"huge list": {sealFrame(KindMkdir, 1, 0, []byte{0x95, 1, 0xc0, 1, 2, 0xdd, 0x7f, 0xff, 0xff, 0xff}),
			fault.CorruptData},
		"huge text": {sealFrame(KindFormat, 1, 0, []byte{0x93, 1, 0xc0, 0xdb, 0x7f, 0xff, 0xff, 0xff}),
			fault.CorruptData},
		"number out of range": {sealFrame(KindNode, 1, 0,
			[]byte{0x95, 1, 0xc0, 0xce, 0xff, 0xff, 0xff, 0xff, 0xa1, 'x', 0xa1, 'y'}), fault.CorruptData},
		"length above the limit": {[]byte{0xff, 0xff, 0xff, 0x7f, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
			fault.CorruptData},
	} {
		_, err := d.Record(c.data)
		require.ErrorIs(t, err, c.kind, name)
	}
	// The decoder is as good as new after all that.
	_, err = d.Record(good)
	require.NoError(t, err)
}

// TestFieldsMayBeAdded: a reader skips elements that it does not know and leaves
// missing ones zero; that is how a version grows.
func TestFieldsMayBeAdded(t *testing.T) {
	d := NewDecoder(newRecord)
	r, err := d.Record(sealFrame(KindAbandon, 1, 0, []byte{0x94, 1, 0xc0, 5, 0x93, 1, 2, 3}))
	require.NoError(t, err)
	require.Equal(t, &AbandonRecord{Prefix: Prefix{Version: 1}, File: 5}, r)
	r, err = d.Record(sealFrame(KindAbandon, 1, 0, []byte{0x92, 1, 0xc0}))
	require.NoError(t, err)
	require.Equal(t, &AbandonRecord{Prefix: Prefix{Version: 1}}, r)
}

func FuzzDecodeRecord(f *testing.F) {
	e := NewEncoder()
	for _, r := range samples() {
		frame, err := e.Record(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame[4], frame[frameHeaderBytes:])
	}
	f.Fuzz(func(t *testing.T, kind uint8, payload []byte) {
		if len(payload) > RecordBytesMax {
			return
		}
		// The sum is made right, so that the fuzzer gets at the payload; then the
		// raw bytes, as a torn log gives them.
		d := NewDecoder(newRecord)
		_, _ = d.Record(payload)
		frame := sealFrame(Kind(kind), 1, 0, payload)
		r, err := d.Record(frame)
		if err != nil {
			require.NotZero(t, fault.KindOf(err))
			return
		}
		// What was read can be written and read again.
		again, err := NewEncoder().Record(r)
		require.NoError(t, err)
		back, err := d.Record(again)
		require.NoError(t, err)
		twice, err := NewEncoder().Record(back)
		require.NoError(t, err)
		require.Equal(t, again, twice)
	})
}
