package actor

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"testing/quick"

	mathrand "math/rand"

	"github.com/stretchr/testify/require"
)

// TestPackedRecordsEqualTheCodecs holds that the records with their own code
// have the very bytes of the codec, and are read like the codec reads them.
func TestPackedRecordsEqualTheCodecs(t *testing.T) {
	seed := rand.Int64()
	t.Logf("seed %d", seed)
	random := mathrand.New(mathrand.NewSource(seed))
	e, d := newFrameEncoder(), newFrameDecoder()
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
				value = made.Addr().Interface().(record)
				value.head().Time >>= random.Intn(64)
				value.head().Sequence >>= random.Intn(64)
			}
			own := value.(packed).pack(nil)
			e.scratch = e.scratch[:0]
			require.NoError(t, e.encodeStruct(value))
			require.Equal(t, e.scratch, own)

			want, got := newRecord(sample.kind()), newRecord(sample.kind())
			require.NoError(t, d.decode(own, want))
			require.True(t, readFast(got.(fast), own))
			require.Equal(t, want, got)
			// What is cut off, longer or of another form is left to the codec.
			require.False(t, readFast(newRecord(sample.kind()).(fast), own[:random.Intn(len(own))]))
			require.False(t, readFast(newRecord(sample.kind()).(fast), append(own, 0)))
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
	e, d := newFrameEncoder(), newFrameDecoder()
	files, more := new(checkpointFiles), new(checkpointMore)
	for range 300 {
		for _, kind := range []uint8{kindCheckpointFiles, kindCheckpointMore} {
			value, want, got := any(new(checkpointFiles)), any(new(checkpointFiles)), fast(files)
			if kind == kindCheckpointMore {
				value, want, got = any(new(checkpointMore)), any(new(checkpointMore)), fast(more)
			}
			made, ok := quick.Value(reflect.TypeOf(value).Elem(), random)
			require.True(t, ok)
			reflect.ValueOf(value).Elem().Set(made)
			if f, is := value.(*checkpointFiles); is {
				for i := range f.Inodes {
					for k := range f.Inodes[i].Lease {
						l := &f.Inodes[i].Lease[k]
						l.Client = l.Client[:min(len(l.Client), 16)]
					}
					f.Inodes[i].Created >>= random.Intn(64)
					f.Inodes[i].Parent >>= random.Intn(64)
				}
			}
			own := value.(packed).pack(nil)
			e.scratch = e.scratch[:0]
			require.NoError(t, e.encodeStruct(value))
			require.Equal(t, e.scratch, own)

			require.NoError(t, d.decode(own, want))
			require.True(t, readFastShared(got, own))
			equalFilled(t, reflect.ValueOf(want), reflect.ValueOf(got))
			require.False(t, readFastShared(got, own[:random.Intn(len(own))]))
			require.False(t, readFastShared(got, append(own, 0)))
		}
	}
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
			f.Add(r.kind(), p.pack(nil))
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, payload []byte) {
		if len(payload) > recordBytesMax {
			return
		}
		got, ok := newRecord(kind).(fast)
		if !ok || !readFast(got, payload) {
			return
		}
		want := newRecord(kind)
		require.NoError(t, newFrameDecoder().decode(payload, want))
		require.Equal(t, want, got.(record))
	})
}
