package profiling

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/fault"
)

func TestStartWritesAProfileOfEachKind(t *testing.T) {
	for _, mode := range modes {
		directory := filepath.Join(t.TempDir(), "made")
		stop, err := Start(mode.name, directory)
		require.NoError(t, err, mode.name)
		stop()
		files, err := os.ReadDir(directory)
		require.NoError(t, err)
		require.Len(t, files, 1, mode.name)
		info, err := files[0].Info()
		require.NoError(t, err)
		require.Positive(t, info.Size(), mode.name)
	}
}

func TestStartRefusesWhatItDoesNotKnow(t *testing.T) {
	_, err := Start("speed", t.TempDir())
	require.ErrorIs(t, err, fault.Invalid)
	require.ErrorContains(t, err, "cpu|mem|")

	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = Start("cpu", filepath.Join(file, "below"))
	require.ErrorIs(t, err, fault.Disk)

	stop, err := Start("", "")
	require.NoError(t, err)
	stop()
}
