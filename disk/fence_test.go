package disk

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/test/simdisk"
)

// What a recovery was told is not there is not begun after that by a writer of
// an older generation, as a file or as a record.
func TestARecoveryThatFindsNothingFencesTheWriter(t *testing.T) {
	s := openStore(t, testOptions(simdisk.NewMem()))
	for n, hint := range []int64{0, 100, testChunkSize} {
		id := testID(n + 1)
		create := func(generation chunk.Generation) error {
			_, err := s.Create(id, generation, CreateOptions{ChunkSize: testChunkSize, SizeHint: hint})
			return err
		}
		_, _, err := s.BeginRecovery(id, 3)
		require.ErrorIs(t, err, fault.NotFound)
		require.ErrorIs(t, create(2), fault.StaleGeneration)
		_, _, err = s.BeginRecovery(id, 2) // a late one changes nothing
		require.ErrorIs(t, err, fault.NotFound)
		require.ErrorContains(t, create(2), "was for 3")
		_, small, err := s.CreateSmall(id, 2, CreateOptions{ChunkSize: testChunkSize, SizeHint: hint})
		require.Equal(t, small, err != nil)
		require.NoError(t, create(3), "a copy of what the recovery sealed")
	}
}

// A refused writer does not take a corrupt replica out of the count.
func TestAFenceBeforeACorruptReplica(t *testing.T) {
	s := openStore(t, testOptions(simdisk.NewMem()))
	id := testID(1)
	_, _, err := s.BeginRecovery(id, 3)
	require.ErrorIs(t, err, fault.NotFound)
	w, err := s.Create(id, 3, CreateOptions{ChunkSize: testChunkSize})
	require.NoError(t, err)
	_, err = run(w, Job{Data: []byte("abc"), Seal: true})
	require.NoError(t, err)
	require.NoError(t, s.Quarantine(id, 3, "a test"))
	before := s.Volumes()[0].Replicas
	_, err = s.Create(id, 2, CreateOptions{ChunkSize: testChunkSize})
	require.ErrorIs(t, err, fault.StaleGeneration)
	require.Equal(t, before, s.Volumes()[0].Replicas)
	_, err = s.Create(id, 3, CreateOptions{ChunkSize: testChunkSize})
	require.NoError(t, err)
	require.Equal(t, before, s.Volumes()[0].Replicas)
}

// Either the writer is first and the recovery finds his replica, or he is fenced.
func TestAWriterAndARecoveryAtOnce(t *testing.T) {
	s := openStore(t, testOptions(simdisk.NewMem()))
	for n := range 200 {
		id := testID(n + 1)
		var both sync.WaitGroup
		var created, recovered error
		both.Go(func() { _, created = s.Create(id, 1, CreateOptions{ChunkSize: testChunkSize}) })
		both.Go(func() { _, _, recovered = s.BeginRecovery(id, 2) })
		both.Wait()
		if created == nil {
			require.NoError(t, recovered)
		} else {
			require.ErrorIs(t, created, fault.StaleGeneration)
			require.ErrorIs(t, recovered, fault.NotFound)
		}
	}
}

func TestFencesAreBounded(t *testing.T) {
	var f fences
	for n := range fencesMax + 10 {
		f.raise(testID(n), 5)
		f.raise(testID(n), 4)
	}
	require.Len(t, f.generations, fencesMax)
	require.Len(t, f.order, fencesMax)
	require.True(t, f.allows(testID(9), 1), "forgotten")
	require.False(t, f.allows(testID(10), 4))
	require.True(t, f.allows(testID(10), 5))
}
