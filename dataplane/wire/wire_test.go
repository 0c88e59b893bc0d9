package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/bufpool"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/invariants"
)

func dataPacket(seqno uint64, offset int64, payload []byte) []byte {
	b := make([]byte, HeaderBytes+len(payload))
	PutHeader(b, Header{Op: OpData, Length: uint32(len(payload)), Seqno: seqno, Offset: offset})
	copy(b[HeaderBytes:], payload)
	Seal(b)
	return b
}

func TestEveryBitOfAPacketIsCovered(t *testing.T) {
	packet := dataPacket(3, 9, []byte("payload"))
	require.NoError(t, Verify(packet))
	for bit := range len(packet) * 8 {
		packet[bit/8] ^= 1 << (bit % 8)
		require.ErrorIs(t, Verify(packet), fault.CorruptData, "bit %d", bit)
		packet[bit/8] ^= 1 << (bit % 8)
	}
	require.NoError(t, Verify(packet))
}

func TestParseHeaderRefuses(t *testing.T) {
	valid := func() []byte {
		b := make([]byte, HeaderBytes)
		PutHeader(b, Header{Op: OpData, Length: PayloadBytesMax})
		return b
	}
	_, err := ParseHeader(valid())
	require.NoError(t, err)
	for name, c := range map[string]struct {
		edit func(b []byte)
		kind fault.Kind
	}{
		"magic":   {func(b []byte) { b[0] ^= 1 }, fault.Protocol},
		"version": {func(b []byte) { b[4] = 2 }, fault.Version},
		"op 0":    {func(b []byte) { b[5] = 0 }, fault.Protocol},
		"op 16":   {func(b []byte) { b[5] = 16 }, fault.Protocol},
		"payload": {func(b []byte) { binary.LittleEndian.PutUint32(b[16:], PayloadBytesMax+1) }, fault.Protocol},
		"body": {func(b []byte) { b[5] = byte(OpAck); binary.LittleEndian.PutUint32(b[16:], BodyBytesMax+1) },
			fault.Protocol},
		"reserved":       {func(b []byte) { b[23] = 1 }, fault.Protocol},
		"negative place": {func(b []byte) { b[39] = 0x80 }, fault.Protocol},
	} {
		b := valid()
		c.edit(b)
		_, err := ParseHeader(b)
		require.ErrorIs(t, err, c.kind, name)
	}
}

func TestHostileBodiesAreRefusedWithoutLargeAllocations(t *testing.T) {
	big32 := []byte{0xdd, 0xff, 0xff, 0xff, 0xff} // array of 4 Gi elements
	for name, payload := range map[string][]byte{
		"empty":      {},
		"huge array": big32,
		"huge hops": append([]byte{0x9b, 1, 0xc4, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1,
			1}, big32...),
		"huge bytes":      {0x9b, 1, 0xc6, 0xff, 0xff, 0xff, 0xff},
		"huge string":     {0x9b, 1, 0xdb, 0xff, 0xff, 0xff, 0xff},
		"deep nesting":    bytes.Repeat([]byte{0x91}, 1000),
		"reserved marker": {0xc1},
		"a map":           {0x81, 1, 2},
		"cut":             {0x9b, 1, 0xc4, 16, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range 10 {
				var o OpenWrite
				if err := DecodeBody(payload, &o); err == nil {
					require.Error(t, o.Validate())
				} else {
					require.ErrorIs(t, err, fault.Protocol)
				}
			}
			runtime.ReadMemStats(&after)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20))
		})
	}
}

func TestABodyAboveTheLimitIsNotEncoded(t *testing.T) {
	b := []byte("kept")
	out, err := AppendPacket(b, Header{Op: OpReadReply}, &ReadReply{Sums: make([]byte, BodyBytesMax)})
	require.ErrorIs(t, err, fault.Internal)
	require.Equal(t, "kept", string(out))
	_, err = AppendPacket(nil, Header{Op: OpReadReply}, &ReadReply{Sums: make([]byte, 8*ReadBlocksMax)})
	require.NoError(t, err)
}

func TestAnEncoderAllocatesNothingInSteadyState(t *testing.T) {
	if invariants.Enabled {
		t.Skip("the race detector allocates")
	}
	e := NewEncoder()
	ack := &Ack{BodyVersion: 1, Hops: []HopStatus{{NodeID: "a"}, {NodeID: "b"}, {NodeID: "c"}}}
	var b []byte
	require.Zero(t, testing.AllocsPerRun(20, func() { // rounded down: many each
		for range 1000 {
			ack.Seqno++
			b, _ = e.AppendPacket(b[:0], Header{Op: OpAck}, ack)
		}
	}))
	var decoded Ack
	require.NoError(t, DecodeBody(b[HeaderBytes:], &decoded))
	require.Equal(t, *ack, decoded)
}

func TestDecodeAckAllocatesNothingForTheSameHops(t *testing.T) {
	if invariants.Enabled {
		t.Skip("the race detector allocates")
	}
	want := Ack{BodyVersion: 1, Hops: []HopStatus{
		{NodeID: "node-a", Micros: 70_000}, {NodeID: strings.Repeat("b", 200), TotalMicros: 1 << 31}, {NodeID: "c",
			Code:   3,
			Reason: "full"},
	}}
	e := NewEncoder()
	var b []byte
	var got Ack
	require.Zero(t, testing.AllocsPerRun(20, func() { // rounded down: many each
		for range 1000 {
			want.Seqno, want.Length = want.Seqno*3+1, want.Length+300
			b, _ = e.AppendPacket(b[:0], Header{Op: OpAck}, &want)
			if err := DecodeAck(b[HeaderBytes:], &got); err != nil {
				panic(err)
			}
		}
	}))
	require.Equal(t, want, got)
	// Fewer hops than before, and others.
	want.Hops = []HopStatus{{NodeID: "d"}}
	b, err := e.AppendPacket(b[:0], Header{Op: OpAck}, &want)
	require.NoError(t, err)
	require.NoError(t, DecodeAck(b[HeaderBytes:], &got))
	require.Equal(t, want, got)
}

// FuzzDecodeAck holds the decoder of acks against the general one.
func FuzzDecodeAck(f *testing.F) {
	for _, ack := range []Ack{{}, {BodyVersion: 1, Seqno: 1 << 40, Length: 128,
		Hops: []HopStatus{{NodeID: "a", Code: 200,
			Reason: "r", Micros: 65536}, {}}}} {
		packet, err := AppendPacket(nil, Header{Op: OpAck}, &ack)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packet[HeaderBytes:])
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		got := Ack{Seqno: 7, Hops: []HopStatus{{NodeID: "a", Reason: "before"}, {NodeID: "b", Micros: 4}}}
		var want Ack
		gotErr, wantErr := DecodeAck(payload, &got), DecodeBody(payload, &want)
		require.Equal(t, wantErr == nil, gotErr == nil, "%v, %v", wantErr, gotErr)
		if wantErr != nil {
			return
		}
		if len(want.Hops) == 0 {
			want.Hops, got.Hops = nil, got.Hops[:0:0]
			got.Hops = nil
		}
		require.Equal(t, want, got)
	})
}

func BenchmarkEncodeAck(b *testing.B) {
	ack := &Ack{BodyVersion: 1, Hops: []HopStatus{{NodeID: "node-a"}, {NodeID: "node-b"}, {NodeID: "node-c"}}}
	e := NewEncoder()
	var packet []byte
	b.ReportAllocs()
	for b.Loop() {
		ack.Seqno++
		packet, _ = e.AppendPacket(packet[:0], Header{Op: OpAck}, ack)
	}
}

func BenchmarkDecodeAck(b *testing.B) {
	ack := &Ack{BodyVersion: 1, Seqno: 1000, Length: 1 << 28, Hops: []HopStatus{{NodeID: "node-a", Micros: 900},
		{NodeID: "node-b", Micros: 800}, {NodeID: "node-c", Micros: 700}}}
	packet, err := AppendPacket(nil, Header{Op: OpAck}, ack)
	require.NoError(b, err)
	var got Ack
	b.ReportAllocs()
	for b.Loop() {
		if err := DecodeAck(packet[HeaderBytes:], &got); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	packet := dataPacket(1, 0, make([]byte, PacketBytesDefault))
	b.SetBytes(int64(len(packet)))
	b.ReportAllocs()
	for b.Loop() {
		if err := Verify(packet); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPacketReader(b *testing.B) {
	packet := dataPacket(1, 0, make([]byte, PacketBytesDefault))
	stream := bytes.NewReader(packet)
	r := NewPacketReader(stream, PayloadBytesMax)
	b.SetBytes(int64(len(packet)))
	b.ReportAllocs()
	for b.Loop() {
		stream.Reset(packet)
		if _, _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

func TestWindowCostIsTheBufferThatAPacketOccupies(t *testing.T) {
	for _, n := range []int{0, 1, 4095, 4096, 4097, 65536, 65537, 200_000, 256 << 10, 1 << 20} {
		require.EqualValues(t, bufpool.ClassBytes(n), WindowCost(n))
		b := bufpool.New().Get(HeaderBytes + n)
		require.LessOrEqual(t, int64(cap(b.Bytes())), WindowCost(n)+bufpool.HeadroomBytes)
		b.Release()
	}
}

func TestStatusCarriesAnError(t *testing.T) {
	require.NoError(t, StatusOf("n", "c", nil).Err("read", "a:1"))
	s := StatusOf("n", "c", fault.New(fault.StaleGeneration, "read", "%s", strings.Repeat("x", 5000)))
	require.LessOrEqual(t, len(s.Reason), reasonBytesMax)
	err := s.Err("read", "a:1")
	require.ErrorIs(t, err, fault.StaleGeneration)
	var f *fault.Error
	require.ErrorAs(t, err, &f)
	require.Equal(t, "n", f.Node)
	require.Equal(t, "a:1", f.Address)
	require.ErrorIs(t, StatusOf("", "", errors.New("plain")).Err("", ""), fault.Internal)
}

func TestValidate(t *testing.T) {
	good := func() *OpenWrite {
		return &OpenWrite{ChunkID: testID(), Generation: 2, PreviousGeneration: 1, Mode: ModeAppend, ChunkSize: 1 << 20,
			Offset: 5}
	}
	require.NoError(t, good().Validate())
	for name, edit := range map[string]func(o *OpenWrite){
		"id":                func(o *OpenWrite) { o.ChunkID = o.ChunkID[1:] },
		"generation":        func(o *OpenWrite) { o.Generation = 0 },
		"mode":              func(o *OpenWrite) { o.Mode = 4 },
		"previous":          func(o *OpenWrite) { o.PreviousGeneration = 3 },
		"chunk size":        func(o *OpenWrite) { o.ChunkSize = 65_537 },
		"chunk size max":    func(o *OpenWrite) { o.ChunkSize = chunk.SizeMax + chunk.ChecksumBlockBytes },
		"offset":            func(o *OpenWrite) { o.Offset = 1<<20 + 1 },
		"negative offset":   func(o *OpenWrite) { o.Offset = -1 },
		"create in between": func(o *OpenWrite) { o.Mode = ModeCreate },
		"hint":              func(o *OpenWrite) { o.SizeHint = -1 },
		"window":            func(o *OpenWrite) { o.WindowBytes = -1 },
		"hops":              func(o *OpenWrite) { o.Downstream = make([]Hop, HopsMax) },
		"no address":        func(o *OpenWrite) { o.Downstream = []Hop{{NodeID: "x"}} },
		"long address":      func(o *OpenWrite) { o.Downstream = []Hop{{Address: strings.Repeat("x", 301)}} },
		"long name":         func(o *OpenWrite) { o.ClientName = strings.Repeat("x", 257) },
	} {
		o := good()
		edit(o)
		require.ErrorIs(t, o.Validate(), fault.Invalid, name)
	}
	reply := ReadReply{DataOffset: 65536, DataLength: 65537, BlockBytes: 65536, ReplicaLength: 1 << 20,
		Sums: make([]byte, 16)}
	require.NoError(t, reply.Validate())
	for name, edit := range map[string]func(r *ReadReply){
		"no block size": func(r *ReadReply) { r.BlockBytes = 0 },
		"few sums":      func(r *ReadReply) { r.Sums = r.Sums[:8] },
		"many sums":     func(r *ReadReply) { r.Sums = make([]byte, 24) },
		"unaligned":     func(r *ReadReply) { r.DataOffset++ },
		"negative":      func(r *ReadReply) { r.DataLength = -1 },
		"huge":          func(r *ReadReply) { r.DataLength = 1 << 62 },
	} {
		r := reply
		edit(&r)
		require.ErrorIs(t, r.Validate(), fault.Protocol, name)
	}
}

func TestPacketReaderTakesPacketsAndRawBytes(t *testing.T) {
	raw := bytes.Repeat([]byte("raw bytes "), 30_000)
	var stream []byte
	stream, _ = AppendPacket(stream, Header{Op: OpReadReply}, &ReadReply{DataLength: int64(len(raw))})
	stream = append(stream, raw...)
	stream, _ = AppendPacket(stream, Header{Op: OpAck, Seqno: 4}, &Ack{Seqno: 4})
	stream = append(stream, dataPacket(9, 1, bytes.Repeat([]byte{7}, 70_000))...)
	for name, source := range map[string]io.Reader{
		"whole":    bytes.NewReader(stream),
		"one byte": iotest.OneByteReader(bytes.NewReader(stream)),
		"half":     iotest.HalfReader(bytes.NewReader(stream)),
		"with end": iotest.DataErrReader(bytes.NewReader(stream)),
	} {
		t.Run(name, func(t *testing.T) {
			r := NewPacketReader(source, 100_000)
			var reply ReadReply
			_, err := r.Expect(OpReadReply, &reply)
			require.NoError(t, err)
			got := make([]byte, reply.DataLength)
			_, err = io.ReadFull(r, got)
			require.NoError(t, err)
			require.Equal(t, raw, got)
			var ack Ack
			h, err := r.Expect(OpAck, &ack)
			require.NoError(t, err)
			require.EqualValues(t, 4, ack.Seqno)
			require.EqualValues(t, 4, h.Seqno)
			h, payload, err := r.Next()
			require.NoError(t, err)
			require.Equal(t, OpData, h.Op)
			require.Len(t, payload, 70_000)
			require.Zero(t, r.Buffered())
			_, _, err = r.Next()
			require.ErrorIs(t, err, io.EOF)
		})
	}
}

func TestPacketReaderRefuses(t *testing.T) {
	good := dataPacket(1, 0, make([]byte, 1000))
	read := func(stream []byte, limit int) error {
		_, _, err := NewPacketReader(bytes.NewReader(stream), limit).Next()
		return err
	}
	require.ErrorIs(t, read(nil, 0), io.EOF)
	require.ErrorIs(t, read(good[:10], 0), io.ErrUnexpectedEOF)
	require.ErrorIs(t, read(good[:HeaderBytes], 0), io.ErrUnexpectedEOF)
	require.ErrorIs(t, read(good[:500], 0), io.ErrUnexpectedEOF)
	require.ErrorIs(t, read(good, 999), fault.Protocol)
	bad := bytes.Clone(good)
	bad[900] ^= 1
	require.ErrorIs(t, read(bad, 0), fault.CorruptData)
	require.ErrorIs(t, read([]byte(strings.Repeat("HTTP/1.1 400 Bad Request ", 10)), 0), fault.Protocol)

	status := StatusOf("n1", "", fault.New(fault.Busy, "x", "full"))
	refusal, _ := AppendPacket(nil, Header{Op: OpError}, &status)
	_, err := NewPacketReader(bytes.NewReader(refusal), 0).Expect(OpAck, new(Ack))
	require.ErrorIs(t, err, fault.Busy)
	_, err = NewPacketReader(bytes.NewReader(good), 0).Expect(OpAck, new(Ack))
	require.ErrorIs(t, err, fault.Protocol)
}

func FuzzParseHeader(f *testing.F) {
	f.Add(dataPacket(1, 0, nil))
	f.Add(make([]byte, HeaderBytes))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < HeaderBytes {
			return
		}
		h, err := ParseHeader(b[:HeaderBytes])
		if err != nil {
			require.NotZero(t, fault.KindOf(err))
			return
		}
		require.LessOrEqual(t, h.Length, uint32(PayloadBytesMax))
		again := make([]byte, HeaderBytes)
		PutHeader(again, h)
		require.Equal(t, b[:HeaderBytes], again, "a valid header has one encoding")
	})
}

func FuzzVerify(f *testing.F) {
	f.Add(dataPacket(1, 0, []byte("abc")))
	f.Add(make([]byte, HeaderBytes))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < HeaderBytes {
			return
		}
		if Verify(b) != nil {
			Seal(b)
			require.NoError(t, Verify(b))
		}
	})
}

func FuzzDecodeBody(f *testing.F) {
	kinds := []any{&OpenWrite{}, &OpenAck{}, &Ack{}, &OpenRead{}, &ReadReply{}, &StatReplica{}, &StatReply{}, &Status{},
		&RecoverReplica{}, &RecoverReply{},
		&CopyRange{}, &CopyReply{}, &OpenRecords{}, &RecordsOpened{}, &RecordAck{}}
	for _, e := range bodies() {
		packet, err := AppendPacket(nil, Header{Op: e.op}, e.body)
		require.NoError(f, err)
		for i, k := range kinds {
			if reflect.TypeOf(k) == reflect.TypeOf(e.body) {
				f.Add(uint8(i), packet[HeaderBytes:])
			}
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, payload []byte) {
		if len(payload) > BodyBytesMax {
			return
		}
		body := emptyOf(t, kinds[int(which)%len(kinds)])
		if err := DecodeBody(payload, body); err != nil {
			require.ErrorIs(t, err, fault.Protocol)
			return
		}
		if v, ok := body.(interface{ Validate() error }); ok {
			if err := v.Validate(); err != nil {
				require.NotZero(t, fault.KindOf(err))
			}
		}
		packet, err := AppendPacket(nil, Header{Op: OpAck}, body)
		if err != nil {
			return // it may grow above the limit in our encoding
		}
		again := emptyOf(t, body)
		require.NoError(t, DecodeBody(packet[HeaderBytes:], again))
		second, err := AppendPacket(nil, Header{Op: OpAck}, again)
		require.NoError(t, err)
		require.Equal(t, packet, second)
	})
}

func FuzzPacketReader(f *testing.F) {
	f.Add(append(dataPacket(1, 0, []byte("x")), dataPacket(2, 1, nil)...))
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := NewPacketReader(iotest.HalfReader(bytes.NewReader(stream)), 4096)
		for {
			h, payload, err := r.Next()
			if err != nil {
				require.LessOrEqual(t, len(r.buffer), max(readerBytesMin, HeaderBytes+4096))
				return
			}
			require.Len(t, payload, int(h.Length))
		}
	})
}
