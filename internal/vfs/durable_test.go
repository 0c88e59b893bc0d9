package vfs_test

import (
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/vfs"
	"github.com/whispering-woods/ww/test/simdisk"
)

// TestAFileWrittenDurablyIsOldOrNew cuts the power in front of every call to the
// disk and after the last one.
func TestAFileWrittenDurablyIsOldOrNew(t *testing.T) {
	mem := simdisk.NewMem()
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
	watched := simdisk.NewFaulty(mem)
	calls := []simdisk.Op{simdisk.OpOpen, simdisk.OpWrite, simdisk.OpSync, simdisk.OpRename, simdisk.OpSyncDir}
	for _, op := range calls {
		watched.Inject(simdisk.Rule{Op: op, Before: func() {
			points++
			for _, mode := range []simdisk.CrashMode{simdisk.CrashDropUnsynced, simdisk.CrashKeepAll} {
				found := read(mem.CrashClone(simdisk.CrashPolicy{Mode: mode}))
				require.Contains(t, []string{"old and long", "new"}, found)
			}
		}})
	}
	require.NoError(t, vfs.WriteDurably(watched, "/f", []byte("new")))
	require.Len(t, calls, points)
	require.Equal(t, "new", read(mem.CrashClone(simdisk.CrashPolicy{Mode: simdisk.CrashDropUnsynced})))
}
