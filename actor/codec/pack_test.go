package codec

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"testing/quick"

	mathrand "math/rand"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/msgpack"
)

// TestPackedRecordsEqualTheCodecs holds that the records with their own code
// have the very bytes of the codec, and are read like the codec reads them.
func TestPackedRecordsEqualTheCodecs(t *testing.T) {
	seed := rand.Int64()
	t.Logf("seed %d", seed)
	random := mathrand.New(mathrand.NewSource(seed))
	e, d := NewEncoder(), NewDecoder(newRecord)
	kinds := 0
	for _, sample := range samples() {
		if _, ok := sample.(packed); !ok {
			continue
		}
		kinds++
		for i := range 500 {
			value := sample
			if i > 0 {
				made, ok := quick.Value(reflect.TypeOf(sample).Elem(), random)
				require.True(t, ok)
				value = made.Addr().Interface().(Record)
				value.Header().Time >>= random.Intn(64)
				value.Header().Sequence >>= random.Intn(64)
			}
			own := []byte(value.(packed).write(nil))
			e.scratch = e.scratch[:0]
			require.NoError(t, e.encodeByCodec(value))
			require.Equal(t, e.scratch, own)

			want, got := newRecord(sample.Kind()), newRecord(sample.Kind())
			require.NoError(t, d.decodeByCodec(own, want))
			require.True(t, readPacked(got.(packed), own))
			require.Equal(t, want, got)
			// What is cut off, longer or of another form is left to the codec.
			require.False(t, readPacked(newRecord(sample.Kind()).(packed), own[:random.Intn(len(own))]))
			require.False(t, readPacked(newRecord(sample.Kind()).(packed), append(own, 0)))
		}
	}
	require.Equal(t, 6, kinds)
}

// TestPackedCheckpointsEqualTheCodecs holds the same of a checkpoint's frames.
// They are read into structs that held something else before.
func TestPackedCheckpointsEqualTheCodecs(t *testing.T) {
	seed := rand.Int64()
	t.Logf("seed %d", seed)
	random := mathrand.New(mathrand.NewSource(seed))
	e, d := NewEncoder(), NewDecoder(newRecord)
	files, more := new(CheckpointFiles), new(CheckpointMore)
	for range 300 {
		for _, kind := range []Kind{KindCheckpointFiles, KindCheckpointMore} {
			value, want, got := any(new(CheckpointFiles)), any(new(CheckpointFiles)), packed(files)
			if kind == KindCheckpointMore {
				value, want, got = any(new(CheckpointMore)), any(new(CheckpointMore)), packed(more)
			}
			made, ok := quick.Value(reflect.TypeOf(value).Elem(), random)
			require.True(t, ok)
			reflect.ValueOf(value).Elem().Set(made)
			if f, is := value.(*CheckpointFiles); is {
				for i := range f.Inodes {
					for k := range f.Inodes[i].Lease {
						l := &f.Inodes[i].Lease[k]
						l.Client = l.Client[:min(len(l.Client), 16)]
					}
					f.Inodes[i].Created >>= random.Intn(64)
					f.Inodes[i].Parent >>= random.Intn(64)
				}
			}
			own := []byte(value.(packed).write(nil))
			e.scratch = e.scratch[:0]
			require.NoError(t, e.encodeByCodec(value))
			require.Equal(t, e.scratch, own)

			require.NoError(t, d.decodeByCodec(own, want))
			require.True(t, d.decodePage(own, got))
			equalFilled(t, reflect.ValueOf(want), reflect.ValueOf(got))
			require.False(t, d.decodePage(own[:random.Intn(len(own))], got))
			require.False(t, d.decodePage(append(own, 0), got))
		}
	}
}

func readPacked(p packed, payload []byte) bool {
	var r msgpack.Reader
	r.Reset(payload)
	p.read(&r)
	return r.Done()
}

// equalFilled compares without telling a list that is missing from an empty one.
func equalFilled(t *testing.T, want, got reflect.Value) {
	t.Helper()
	switch want.Kind() {
	case reflect.Pointer:
		equalFilled(t, want.Elem(), got.Elem())
	case reflect.Struct:
		for i := range want.NumField() {
			equalFilled(t, want.Field(i), got.Field(i))
		}
	case reflect.Slice:
		require.Equal(t, want.Len(), got.Len())
		for i := range want.Len() {
			equalFilled(t, want.Index(i), got.Index(i))
		}
	default:
		require.Equal(t, want.Interface(), got.Interface())
	}
}

// FuzzReadFast: what the fast way accepts, the codec reads alike.
func FuzzReadFast(f *testing.F) {
	for _, r := range samples() {
		if p, ok := r.(packed); ok {
			f.Add(uint8(r.Kind()), []byte(p.write(nil)))
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, payload []byte) {
		if len(payload) > RecordBytesMax {
			return
		}
		got, ok := newRecord(Kind(kind)).(packed)
		if !ok || !readPacked(got, payload) {
			return
		}
		want := newRecord(Kind(kind))
		require.NoError(t, NewDecoder(newRecord).decodeByCodec(payload, want))
		require.Equal(t, want, got.(Record))
	})
}
