package vfs_test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/vfs"
)

func TestRulesActOnTheChosenCalls(t *testing.T) {
	f := vfs.NewFaulty(vfs.NewMem())
	calls := 0
	remove := f.Inject(vfs.Rule{Op: vfs.OpWrite, Path: "a*", From: 2, Times: 2, Err: syscall.EIO, WriteBytes: 1,
		Before: func() { calls++ }})
	file, b := open(t, f, "/a1", create), open(t, f, "/b", create)
	write(t, file, "111", 0)
	for range 2 {
		n, err := file.WriteAt([]byte("222"), 0)
		require.Equal(t, 1, n)
		require.ErrorIs(t, err, syscall.EIO)
		write(t, b, "x", 0)
	}
	require.Equal(t, 2, calls)
	require.Equal(t, "211", read(t, file))
	write(t, file, "333", 0)
	remove()
	require.Equal(t, "333", read(t, file))
}

func TestEveryOperationCanFail(t *testing.T) {
	faulty := vfs.NewFaulty(vfs.NewMem())
	file := open(t, faulty, "/a", create)
	one := make([]byte, 1)
	for op, call := range map[vfs.Op]func() error{
		vfs.OpOpen:        func() error { _, err := faulty.OpenFile("/a", 0, 0); return err },
		vfs.OpMkdir:       func() error { return faulty.MkdirAll("/d", 0o755) },
		vfs.OpRename:      func() error { return faulty.Rename("/a", "/b") },
		vfs.OpRemove:      func() error { return faulty.Remove("/a") },
		vfs.OpReadDir:     func() error { _, err := faulty.ReadDir("/"); return err },
		vfs.OpStat:        func() error { _, err := file.Stat(); return err },
		vfs.OpSyncDir:     func() error { return faulty.SyncDir("/") },
		vfs.OpStatFS:      func() error { _, err := faulty.StatFS("/"); return err },
		vfs.OpLock:        func() error { _, err := faulty.Lock("/l"); return err },
		vfs.OpRead:        func() error { _, err := file.ReadAt(one, 0); return err },
		vfs.OpWrite:       func() error { _, err := file.WriteAt(one, 0); return err },
		vfs.OpSync:        func() error { return file.Sync() },
		vfs.OpDatasync:    func() error { return file.Datasync() },
		vfs.OpTruncate:    func() error { return file.Truncate(1) },
		vfs.OpPreallocate: func() error { return file.Preallocate(0, 1) },
		vfs.OpSyncRange:   func() error { return file.SyncRange(0, 1) },
	} {
		t.Run(op.String(), func(t *testing.T) {
			remove := faulty.Inject(vfs.Rule{Op: op, Err: syscall.EROFS})
			defer remove()
			require.ErrorIs(t, call(), syscall.EROFS)
		})
	}
	require.NoError(t, file.Sync(), "nothing fails without rules")
}
