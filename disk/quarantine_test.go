package disk

import (
	"os"
	"path"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/chunk"
)

// An operator may empty the quarantine, or remove it, and the trash too, under a running store.
func TestQuarantineAndTrashMayBeRemoved(t *testing.T) {
	o := testOptions(nil)
	directory := t.TempDir()
	o.FS, o.Directories = nil, []string{directory}
	s := openStore(t, o)
	write := func(n int) {
		writer := mustCreate(t, s, testID(n))
		mustAppend(t, writer, pattern(uint64(n), 3*blockBytes), false)
		mustSeal(t, writer)
	}
	generation := func(n int) chunk.Generation {
		found, err := s.Stat(testID(n))
		require.NoError(t, err)
		return found.Generation
	}
	for n := 1; n <= 4; n++ {
		write(n)
	}
	require.NoError(t, s.Quarantine(testID(1), generation(1), "a test"))
	require.NoError(t, os.RemoveAll(path.Join(directory, quarantineDirectory)))
	require.NoError(t, os.RemoveAll(path.Join(directory, trashDirectory)))
	require.NoError(t, s.Quarantine(testID(2), generation(2), "a test"))
	require.NoError(t, s.Delete(testID(3), generation(3)))
	require.NoError(t, s.Delete(testID(1), generation(1)), "its file is gone already")
	volume := s.Volumes()[0]
	require.True(t, volume.Healthy)
	require.Zero(t, volume.Errors, volume.Error)
	kept, err := os.ReadDir(path.Join(directory, quarantineDirectory))
	require.NoError(t, err)
	require.Len(t, kept, 1)
	s = reopenStore(t, s)
	require.Len(t, s.Replicas(), 2)
}
