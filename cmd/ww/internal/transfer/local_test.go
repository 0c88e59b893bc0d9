package transfer

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/whispering-woods/ww/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func names(t *testing.T, directory string) []string {
	t.Helper()
	entries, err := os.ReadDir(directory)
	require.NoError(t, err)
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestPartFileAppearsWholeOrNotAtAll(t *testing.T) {
	directory := t.TempDir()
	target := filepath.Join(directory, strings.Repeat("n", 255))
	part, err := createPart(target, 2<<20, false)
	require.NoError(t, err)
	_, err = part.WriteAt([]byte("content"), 0)
	require.NoError(t, err)
	require.NoFileExists(t, target)
	require.NoError(t, part.commit())
	part.discard() // does nothing any more
	got, err := os.ReadFile(target)
	require.NoError(t, err)
	require.Equal(t, "content", string(got), "preallocated space is not content")

	part, err = createPart(filepath.Join(directory, "other"), 0, false)
	require.NoError(t, err)
	part.discard()
	require.Len(t, names(t, directory), 1)
}

func TestPartFileNeverReplacesUnasked(t *testing.T) {
	directory := t.TempDir()
	target := filepath.Join(directory, "f")
	part, err := createPart(target, 0, false)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(target, []byte("meanwhile"), 0o644)) // somebody was faster
	err = part.commit()
	require.ErrorIs(t, err, fault.Exists)
	require.ErrorContains(t, err, target)
	got, err := os.ReadFile(target)
	require.NoError(t, err)
	require.Equal(t, "meanwhile", string(got))
	require.Equal(t, []string{"f"}, names(t, directory))

	_, err = createPart(target, 0, false)
	require.ErrorIs(t, err, fault.Exists)
	part, err = createPart(target, 0, true)
	require.NoError(t, err)
	require.NoError(t, part.commit())
	_, err = createPart(directory, 0, true)
	require.ErrorIs(t, err, fault.IsDirectory)
	_, err = createPart(filepath.Join(directory, "none", "x"), 0, false)
	require.ErrorIs(t, err, fault.NotFound)
	_, err = createPart(filepath.Join(target, "x"), 0, false)
	require.ErrorIs(t, err, fault.NotDirectory)
	_, err = createPart(filepath.Join(directory, strings.Repeat("n", 256)), 0, false)
	require.ErrorIs(t, err, fault.Invalid)
}

func TestPartFileFollowsALink(t *testing.T) {
	directory := t.TempDir()
	resolved, link := filepath.Join(directory, "real"), filepath.Join(directory, "link")
	require.NoError(t, os.WriteFile(resolved, []byte("old"), 0o644))
	require.NoError(t, os.Symlink(resolved, link))
	p, err := createPart(link, 0, true)
	require.NoError(t, err)
	_, err = p.Write([]byte("new"))
	require.NoError(t, err)
	require.NoError(t, p.commit())
	got, err := os.ReadFile(resolved)
	require.NoError(t, err)
	require.Equal(t, "new", string(got))
	require.Equal(t, []string{"link", "real"}, names(t, directory))
}

func TestFullDiskIsFoundBeforeBytesTravel(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: a full disk needs root, to mount a small file system")
	}
	directory := t.TempDir()
	require.NoError(t, syscall.Mount("tmpfs", directory, "tmpfs", 0, "size=1m"))
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(directory, syscall.MNT_DETACH)) })
	_, err := createPart(filepath.Join(directory, "f"), 2<<20, false)
	require.ErrorIs(t, err, fault.NoSpace)
	require.ErrorContains(t, err, filepath.Join(directory, "f"))
	require.Empty(t, names(t, directory))
}

func TestLocalErrorsHaveKinds(t *testing.T) {
	for cause, kind := range map[error]fault.Kind{
		&fs.PathError{Op: "open", Path: "p", Err: syscall.ENOENT}: fault.NotFound,
		&os.LinkError{Op: "rename", Err: syscall.EEXIST}:          fault.Exists,
		syscall.ENOSPC: fault.NoSpace, syscall.EDQUOT: fault.NoSpace, syscall.ENOTDIR: fault.NotDirectory,
		syscall.EISDIR: fault.IsDirectory, syscall.ENAMETOOLONG: fault.Invalid, syscall.EACCES: fault.Disk,
		errors.New("x"): fault.Disk,
	} {
		err := LocalError("write", "/the/path", cause)
		require.ErrorIs(t, err, kind)
		require.ErrorContains(t, err, "/the/path")
	}
	require.NoError(t, LocalError("write", "p", nil))
	remote := fault.New(fault.CorruptData, "read", "bad")
	require.Equal(t, error(remote), LocalError("write", "p", remote))
}

func TestCopyStreamEndsWithItsContext(t *testing.T) {
	source, sink := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	var target strings.Builder
	moved := make(chan int64, 1)
	go func() {
		_, err := CopyStream(ctx, &target, source, func(n int64) { moved <- n })
		ended <- err
	}()
	_, err := sink.Write([]byte("abc"))
	require.NoError(t, err)
	require.Equal(t, int64(3), <-moved)
	cancel() // while it waits for more
	require.ErrorIs(t, <-ended, context.Canceled)
	require.NoError(t, sink.Close())
	require.Equal(t, "abc", target.String())

	n, err := CopyStream(t.Context(), &target, strings.NewReader("def"), nil)
	require.NoError(t, err)
	require.Equal(t, int64(3), n)
	_, err = CopyStream(t.Context(), failing{}, strings.NewReader("def"), nil)
	require.ErrorIs(t, err, syscall.ENOSPC)
	_, err = CopyStream(t.Context(), &target, io.MultiReader(strings.NewReader("x"), brokenReader{}), nil)
	require.ErrorIs(t, err, fault.Disk)
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, syscall.EIO }
