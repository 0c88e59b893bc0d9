package disk

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/test/simdisk"
)

// A hidden replica is nobody's: half of a copy must not take part in anything.
func TestHiddenReplicas(t *testing.T) {
	o := testOptions(simdisk.NewMem())
	var told []Event
	o.OnEvent = func(e Event) { told = append(told, e) }
	s := openStore(t, o)
	hidden := func(n int) *Writer {
		w, err := s.Create(testID(n), 5, CreateOptions{ChunkSize: testChunkSize, Hidden: true})
		require.NoError(t, err)
		return w
	}
	data := pattern(1, blockBytes+77)
	w := hidden(1)
	mustAppend(t, w, data, true)
	requireHidden := func(n int) {
		_, err := s.Stat(testID(n))
		require.ErrorIs(t, err, fault.NotFound)
		_, err = s.OpenReader(testID(n), 0)
		require.ErrorIs(t, err, fault.NotFound)
		_, _, err = s.BeginRecovery(testID(n), 9)
		require.ErrorIs(t, err, fault.NotFound)
		require.ErrorIs(t, s.FinishRecovery(testID(n), 9, 0), fault.NotFound)
		_, err = s.Resume(testID(n), 5, 6, 0)
		require.ErrorIs(t, err, fault.NotFound)
		require.ErrorIs(t, s.Quarantine(testID(n), 5, "x"), fault.NotFound)
		_, err = s.Create(testID(n), 6, CreateOptions{ChunkSize: testChunkSize})
		require.ErrorIs(t, err, fault.Exists)
		require.Empty(t, s.Replicas())
	}
	requireHidden(1)
	require.Empty(t, told)

	// Published: an open replica that the same writer goes on with.
	require.NoError(t, w.Publish())
	require.NoError(t, w.Publish())
	requireState(t, s, testID(1), chunk.Replica{Generation: 5, Length: int64(len(data)), State: chunk.Open})
	mustAppend(t, w, []byte("more"), false)
	requireContent(t, s, testID(1), append(data, "more"...))
	require.Len(t, told, 1)

	// Sealed: seen at once, whole.
	w = hidden(2)
	mustAppend(t, w, data, false)
	mustSeal(t, w)
	requireState(t, s, testID(2), chunk.Replica{Generation: 5, Length: int64(len(data)), State: chunk.Sealed})
	require.Len(t, told, 2)

	// Deleted: nobody is told, and its writer is fenced.
	w = hidden(3)
	require.NoError(t, s.Delete(testID(3), 5))
	require.Len(t, told, 2)
	require.ErrorIs(t, w.Publish(), fault.NotFound)

	// A start drops what was never shown and keeps the others.
	w = hidden(4)
	mustAppend(t, w, data, true)
	s = reopenStore(t, s)
	require.Len(t, s.Replicas(), 2)
	requireState(t, s, testID(1), chunk.Replica{Generation: 5, Length: int64(len(data)) + 4, State: chunk.Recovered})
	_, err := s.Create(testID(4), 5, CreateOptions{ChunkSize: testChunkSize})
	require.NoError(t, err)
}
