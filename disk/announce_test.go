package disk

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/test/simdisk"
)

// What a store is asked for it tells as one of its events: what there is, or that there is nothing.
func TestAnnounce(t *testing.T) {
	o := testOptions(simdisk.NewMem())
	var told []Event
	o.OnEvent = func(e Event) { told = append(told, e) }
	s := openStore(t, o)
	announced := func(n int) Event {
		t.Helper()
		told = nil
		s.Announce(testID(n), 3)
		require.Len(t, told, 1)
		require.Equal(t, testID(n), told[0].Replica.ID)
		return told[0]
	}
	writer := mustCreate(t, s, testID(1))
	mustAppend(t, writer, []byte("bytes"), true)
	event := announced(1)
	require.Equal(t, Stored, event.Kind)
	require.Equal(t, chunk.Open, event.Replica.State)
	mustSeal(t, writer)
	require.Equal(t, chunk.Sealed, announced(1).Replica.State)
	require.NoError(t, s.Quarantine(testID(1), writer.replica.snapshot().Generation, "a test"))
	event = announced(1)
	require.Equal(t, Corrupt, event.Kind)
	require.Equal(t, chunk.Corrupt, event.Replica.State)

	event = announced(2)
	require.Equal(t, Removed, event.Kind)
	require.EqualValues(t, 3, event.Replica.Generation)
	_, err := s.Create(testID(3), 5, CreateOptions{ChunkSize: testChunkSize, Hidden: true})
	require.NoError(t, err)
	require.Equal(t, Removed, announced(3).Kind, "half a copy is nothing")
}
