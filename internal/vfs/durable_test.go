package vfs_test

import (
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/vfs"
)

// TestAFileWrittenDurablyIsOldOrNew cuts the power in front of every call to the
// disk and after the last one.
func TestAFileWrittenDurablyIsOldOrNew(t *testing.T) {
	mem := vfs.NewMem()
	require.NoError(t, vfs.WriteDurably(mem, "/f", []byte("old and long")))
	read := func(fsys vfs.FS) string {
		file, err := fsys.OpenFile("/f", os.O_RDONLY, 0)
		require.NoError(t, err)
		defer file.Close()
		stat, err := file.Stat()
		require.NoError(t, err)
		raw, err := io.ReadAll(io.NewSectionReader(file, 0, stat.Size()))
		require.NoError(t, err)
		return string(raw)
	}
	points := 0
	watched := vfs.NewFaulty(mem)
	for _, op := range []vfs.Op{vfs.OpOpen, vfs.OpWrite, vfs.OpSync, vfs.OpRename, vfs.OpSyncDir} {
		watched.Inject(vfs.Rule{Op: op, Before: func() {
			points++
			for _, mode := range []vfs.CrashMode{vfs.CrashDropUnsynced, vfs.CrashKeepAll} {
				require.Contains(t, []string{"old and long", "new"}, read(mem.CrashClone(vfs.CrashPolicy{Mode: mode})))
			}
		}})
	}
	require.NoError(t, vfs.WriteDurably(watched, "/f", []byte("new")))
	require.Equal(t, 5, points)
	require.Equal(t, "new", read(mem.CrashClone(vfs.CrashPolicy{Mode: vfs.CrashDropUnsynced})))
}
