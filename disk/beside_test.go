package disk

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/test/simdisk"
)

// besides is a store with a sealed stale replica at generation 1, as a file or a record, and a copy beside it.
func besides(t *testing.T, size int) (s *Store, copied *Writer, stale []byte, told *[]Event) {
	o := testOptions(simdisk.NewMem())
	told = new([]Event)
	o.OnEvent = func(e Event) { *told = append(*told, e) }
	s = openStore(t, o)
	stale = pattern(1, size)
	writer, err := s.Create(testID(1), 1, CreateOptions{ChunkSize: testChunkSize, SizeHint: int64(size)})
	require.NoError(t, err)
	_, err = run(writer, Job{Data: stale, Seal: true})
	require.NoError(t, err)
	copied, err = s.Create(testID(1), 5, CreateOptions{ChunkSize: testChunkSize, Hidden: true, SizeHint: int64(size)})
	require.NoError(t, err)
	*told = nil
	return s, copied, stale, told
}

// A stale replica stays what it was until the copy that takes its place is whole; then it is in the trash.
func TestStaleReplicaGivesWayToAWholeCopy(t *testing.T) {
	for name, size := range map[string]int{"file": 2 * blockBytes, "record": 900} {
		for _, seal := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				s, copied, stale, told := besides(t, size)
				newer := pattern(2, size+17)
				mustAppend(t, copied, newer, false)
				requireContent(t, s, testID(1), stale)
				require.Empty(t, *told)
				_, err := s.Create(testID(1), 5, CreateOptions{ChunkSize: testChunkSize, Hidden: true})
				require.ErrorIs(t, err, fault.Exists, "one copy at a time")

				state := chunk.Sealed
				if seal {
					mustSeal(t, copied)
				} else {
					require.NoError(t, copied.Publish())
					state = chunk.Open
				}
				requireContent(t, s, testID(1), newer)
				requireState(t, s, testID(1), chunk.Replica{Generation: 5, Length: int64(len(newer)), State: state})
				require.Len(t, *told, 1)
				require.Len(t, s.Replicas(), 1)
				require.EqualValues(t, 1, s.Volumes()[0].Replicas)
				s = reopenStore(t, s)
				require.Len(t, s.Replicas(), 1)
				requireContent(t, s, testID(1), newer)
			})
		}
	}
}

// A copy that is given up leaves the stale replica as it was, also after a crash; so does one that comes too late.
func TestStaleReplicaOutlivesACopy(t *testing.T) {
	s, copied, stale, told := besides(t, 3*blockBytes)
	mustAppend(t, copied, pattern(2, 100), true)
	require.NoError(t, s.Delete(testID(1), 5))
	require.ErrorIs(t, copied.Publish(), fault.NotFound)
	requireContent(t, s, testID(1), stale)
	require.Empty(t, *told)

	copied, err := s.Create(testID(1), 5, CreateOptions{ChunkSize: testChunkSize, Hidden: true})
	require.NoError(t, err)
	mustAppend(t, copied, pattern(2, 100), true)
	s = reopenStore(t, s)
	requireContent(t, s, testID(1), stale)

	copied, err = s.Create(testID(1), 5, CreateOptions{ChunkSize: testChunkSize, Hidden: true})
	require.NoError(t, err)
	_, _, err = s.BeginRecovery(testID(1), 6)
	require.NoError(t, err)
	require.ErrorIs(t, copied.Publish(), fault.StaleGeneration, "the recovery was promised that there is no other")
	requireContent(t, s, testID(1), stale)

	// The stale one is deleted meanwhile: the copy is like any hidden one.
	require.NoError(t, s.Delete(testID(1), 1))
	_, err = s.Stat(testID(1))
	require.ErrorIs(t, err, fault.NotFound)
	require.NoError(t, copied.Publish())
	requireState(t, s, testID(1), chunk.Replica{Generation: 5, State: chunk.Open})
}

// A copy on a disk that died does not stand in the way of another one.
func TestACopyBesideOnADeadDiskIsNone(t *testing.T) {
	l := startLossy(t)
	id := testID(l.on("/a")[0])
	l.index.intend(id, l.Store.volumes.all()[1])
	begin := func() (*Writer, error) {
		return l.Create(id, 2, CreateOptions{ChunkSize: testChunkSize, Hidden: true})
	}
	copied, err := begin()
	require.NoError(t, err)
	require.Equal(t, "/b", copied.replica.volume.directory)
	_, err = begin()
	require.ErrorIs(t, err, fault.Exists)
	l.Store.volumes.all()[1].health.Condemn(datanode.VolumeFailed, "for the test")
	copied, err = begin()
	require.NoError(t, err)
	mustAppend(t, copied, pattern(77, 500), false)
	mustSeal(t, copied)
	requireContent(t, l.Store, id, pattern(77, 500))
}
