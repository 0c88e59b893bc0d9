package vfs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

func TestADirectoryHasOneWriterOrManyReaders(t *testing.T) {
	directory := t.TempDir()
	owner, err := vfs.LockDirectory(directory, "LOCK", true)
	require.NoError(t, err)
	for _, exclusive := range []bool{true, false} {
		_, err = vfs.LockDirectory(directory, "LOCK", exclusive)
		require.ErrorIs(t, err, fault.Busy)
		require.ErrorContains(t, err, fmt.Sprintf("pid %d", os.Getpid()))
	}
	require.NoError(t, owner.Close())

	first, err := vfs.LockDirectory(directory, "LOCK", false)
	require.NoError(t, err)
	second, err := vfs.LockDirectory(directory, "LOCK", false)
	require.NoError(t, err)
	_, err = vfs.LockDirectory(directory, "LOCK", true)
	require.ErrorIs(t, err, fault.Busy)
	require.NoError(t, first.Close())
	require.NoError(t, second.Close())

	_, err = vfs.LockDirectory(filepath.Join(directory, "none"), "LOCK", true)
	require.ErrorIs(t, err, os.ErrNotExist)
}
