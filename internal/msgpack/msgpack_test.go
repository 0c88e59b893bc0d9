package msgpack

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/ugorji/go/codec"
)

// values has one field for each form that this package knows.
type values struct {
	Uint64 uint64
	Uint32 uint32
	Uint16 uint16
	Uint8  uint8
	Int64  int64
	Bool   bool
	String string
	ID     [16]byte
	Bytes  []byte
	List   []uint16
	Texts  []string
	Items  []item
}

type item struct {
	Name   string
	Number int64
}

func (v *values) write(w Writer) Writer {
	w = w.Array(12).Uint(v.Uint64).Uint(uint64(v.Uint32)).Uint(uint64(v.Uint16)).Uint(uint64(v.Uint8))
	w = WriteUint16s(w.Int(v.Int64).Bool(v.Bool).Text(v.String).ID(v.ID).ShortBytes(v.Bytes), v.List).Texts(v.Texts)
	return WriteList(w, v.Items, func(w Writer, i *item) Writer { return w.Array(2).Text(i.Name).Int(i.Number) })
}

func (v *values) read(r *Reader) {
	r.Struct(12)
	v.Uint64, v.Uint32, v.Uint16, v.Uint8 = r.Uint64(), r.Uint32(), r.Uint16(), r.Uint8()
	v.Int64, v.Bool, v.String, v.ID, v.Bytes = r.Int64(), r.Bool(), r.Text(), r.ID(), r.ShortBytes()
	v.List, v.Texts = ReadUint16s[uint16](r), r.Texts()
	v.Items = ReadList(r, func(r *Reader) (i item) {
		r.Struct(2)
		i.Name, i.Number = r.Text(), r.Int64()
		return i
	})
}

func randomValues() *values {
	text := func() string { return strings.Repeat("ü", rand.IntN(1<<rand.IntN(17))/2) }
	v := &values{
		Uint64: rand.Uint64() >> rand.IntN(64), Uint32: rand.Uint32() >> rand.IntN(32), Uint16: uint16(rand.Uint32()),
		Uint8: uint8(rand.Uint32()), Int64: int64(rand.Uint64()) >> rand.IntN(64),
		Bool: rand.IntN(2) == 0, String: text(),
	}
	for i := range v.ID {
		v.ID[i] = byte(rand.Uint32())
	}
	if rand.IntN(2) == 0 {
		v.Bytes = make([]byte, rand.IntN(256))
		v.List = make([]uint16, rand.IntN(1<<rand.IntN(17)))
		v.Texts = make([]string, rand.IntN(20))
		v.Items = make([]item, rand.IntN(20))
	}
	for i := range v.List {
		v.List[i] = uint16(rand.Uint32())
	}
	for i := range v.Items {
		v.Items[i] = item{text(), int64(rand.Uint64()) >> rand.IntN(64)}
	}
	return v
}

func handle() *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{WriteExt: true}
	h.StructToArray = true
	return h
}

// TestValuesEqualTheCodecs holds both directions against the codec, and that
// nothing which is cut off is taken for whole.
func TestValuesEqualTheCodecs(t *testing.T) {
	h := handle()
	for range 2000 {
		want := randomValues()
		own := []byte(want.write(nil))
		var bytes []byte
		require.NoError(t, codec.NewEncoderBytes(&bytes, h).Encode(want))
		require.Equal(t, bytes, own)

		var r Reader
		var got, shared, again values
		r.Reset(bytes)
		got.read(&r)
		require.True(t, r.Done())
		r.ResetShared(bytes)
		shared.read(&r)
		require.True(t, r.Done())
		require.NoError(t, codec.NewDecoderBytes(bytes, h).Decode(&again))
		require.Equal(t, again, got)
		require.Equal(t, again, shared)

		r.Reset(bytes[:rand.IntN(len(bytes))])
		new(values).read(&r)
		require.True(t, r.Failed())
	}
}

// TestReaderRefuses: what a Writer does not write is refused, and so is
// a number that does not fit.
func TestReaderRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		data string
		read func(r *Reader)
	}{
		"nil for a number":         {"\xc0", func(r *Reader) { r.Uint64() }},
		"signed for unsigned":      {"\xd0\x05", func(r *Reader) { r.Uint64() }},
		"unsigned for signed":      {"\xcc\x80", func(r *Reader) { r.Int64() }},
		"negative for unsigned":    {"\xff", func(r *Reader) { r.Uint64() }},
		"32 bits":                  {"\xcf\x00\x00\x00\x01\x00\x00\x00\x00", func(r *Reader) { r.Uint32() }},
		"16 bits":                  {"\xce\x00\x01\x00\x00", func(r *Reader) { r.Uint16() }},
		"8 bits":                   {"\xcd\x01\x00", func(r *Reader) { r.Uint8() }},
		"number for bool":          {"\x01", func(r *Reader) { r.Bool() }},
		"bytes for a string":       {"\xc4\x01x", func(r *Reader) { r.Text() }},
		"string for an id":         {"\xd9\x100123456789abcdef", func(r *Reader) { r.ID() }},
		"short id":                 {"\xc4\x0f0123456789abcde", func(r *Reader) { r.ID() }},
		"string for bytes":         {"\xa1x", func(r *Reader) { r.ShortBytes() }},
		"map for an array":         {"\x81\x01\x01", func(r *Reader) { r.Array() }},
		"list longer than data":    {"\xdd\xff\xff\xff\xff\x01", func(r *Reader) { ReadList(r, (*Reader).Uint8) }},
		"another number of fields": {"\x92\x01\x01", func(r *Reader) { r.Struct(3) }},
	} {
		var r Reader
		r.Reset([]byte(c.data))
		c.read(&r)
		require.True(t, r.Failed(), name)
	}
}

func TestTextLikeKeepsWhatIsTheSame(t *testing.T) {
	data := Writer(nil).Text("node-a")
	previous := "node-a"
	require.Zero(t, testing.AllocsPerRun(100, func() {
		var r Reader
		r.Reset(data)
		previous = r.TextLike(previous)
	}))
	require.Equal(t, "node-a", previous)
}

func TestExtendUsesSpareRoom(t *testing.T) {
	list := []item{{Name: "old"}}
	list, i := Extend(list[:0])
	require.Equal(t, "old", i.Name)
	list, i = Extend(list)
	require.Equal(t, item{}, *i)
	require.Len(t, list, 2)
}

// FuzzReader: nothing panics, and what is accepted is what the codec reads.
func FuzzReader(f *testing.F) {
	f.Add([]byte((&values{}).write(nil)))
	f.Add([]byte((&values{Uint64: 1 << 40, Int64: -3, String: "a", Bytes: []byte{1}, List: []uint16{1, 999},
		Texts: []string{"b"},
		Items: []item{{"c", 4}}}).write(nil)))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r Reader
		var got, want values
		r.Reset(data)
		if got.read(&r); !r.Done() {
			return
		}
		require.NoError(t, codec.NewDecoderBytes(data, handle()).Decode(&want))
		require.Equal(t, want, got)
	})
}
