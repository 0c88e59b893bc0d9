package simdisk_test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/test/simdisk"
)

func TestRulesActOnTheChosenCalls(t *testing.T) {
	f := simdisk.NewFaulty(simdisk.NewMem())
	calls := 0
	remove := f.Inject(simdisk.Rule{Op: simdisk.OpWrite, Path: "a*", From: 2, Times: 2, Err: syscall.EIO, WriteBytes: 1,
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
	faulty := simdisk.NewFaulty(simdisk.NewMem())
	file := open(t, faulty, "/a", create)
	one := make([]byte, 1)
	for op, call := range map[simdisk.Op]func() error{
		simdisk.OpOpen:        func() error { _, err := faulty.OpenFile("/a", 0, 0); return err },
		simdisk.OpMkdir:       func() error { return faulty.MkdirAll("/d", 0o755) },
		simdisk.OpRename:      func() error { return faulty.Rename("/a", "/b") },
		simdisk.OpRemove:      func() error { return faulty.Remove("/a") },
		simdisk.OpReadDir:     func() error { _, err := faulty.ReadDir("/"); return err },
		simdisk.OpStat:        func() error { _, err := file.Stat(); return err },
		simdisk.OpSyncDir:     func() error { return faulty.SyncDir("/") },
		simdisk.OpStatFS:      func() error { _, err := faulty.StatFS("/"); return err },
		simdisk.OpLock:        func() error { _, err := faulty.Lock("/l"); return err },
		simdisk.OpRead:        func() error { _, err := file.ReadAt(one, 0); return err },
		simdisk.OpWrite:       func() error { _, err := file.WriteAt(one, 0); return err },
		simdisk.OpSync:        func() error { return file.Sync() },
		simdisk.OpDatasync:    func() error { return file.Datasync() },
		simdisk.OpTruncate:    func() error { return file.Truncate(1) },
		simdisk.OpPreallocate: func() error { return file.Preallocate(0, 1) },
		simdisk.OpSyncRange:   func() error { return file.SyncRange(0, 1) },
		simdisk.OpAwaitRange:  func() error { return file.AwaitRange(0, 1) },
		simdisk.OpPrefetch:    func() error { return file.Prefetch(0, 1) },
		simdisk.OpUncache:     func() error { return file.Uncache(0, 1) },
	} {
		t.Run(op.String(), func(t *testing.T) {
			remove := faulty.Inject(simdisk.Rule{Op: op, Err: syscall.EROFS})
			defer remove()
			require.ErrorIs(t, call(), syscall.EROFS)
		})
	}
	require.NoError(t, file.Sync(), "nothing fails without rules")
}
