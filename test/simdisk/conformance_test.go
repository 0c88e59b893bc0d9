package simdisk_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/vfs"
	"github.com/whispering-woods/ww/test/simdisk"
)

// TestConformance holds every implementation to the same behaviour.
func TestConformance(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) (vfs.FS, string){
		"os": func(t *testing.T) (vfs.FS, string) { return vfs.OS{}, t.TempDir() },
		"mem": func(t *testing.T) (vfs.FS, string) {
			m := simdisk.NewMem()
			require.NoError(t, m.MkdirAll("/root", 0o755))
			return m, "/root"
		},
		"faulty without rules": func(t *testing.T) (vfs.FS, string) {
			m := simdisk.NewFaulty(simdisk.NewMem())
			require.NoError(t, m.MkdirAll("/root", 0o755))
			return m, "/root"
		},
	} {
		t.Run(name, func(t *testing.T) {
			for behaviour, check := range conformance {
				t.Run(behaviour, func(t *testing.T) {
					fsys, root := open(t)
					check(t, fsys, root)
				})
			}
		})
	}
}

const create = os.O_RDWR | os.O_CREATE

var conformance = map[string]func(t *testing.T, fsys vfs.FS, root string){
	"write and read at offsets": func(t *testing.T, fsys vfs.FS, root string) {
		file := open(t, fsys, path.Join(root, "a"), create)
		write(t, file, "hello", 3)
		require.Equal(t, "\x00\x00\x00hello", read(t, file))
		write(t, file, "J", 3)
		require.Equal(t, "\x00\x00\x00Jello", read(t, file))
		n, err := file.ReadAt(make([]byte, 10), 6)
		require.Equal(t, 2, n)
		require.ErrorIs(t, err, io.EOF)
		_, err = file.ReadAt(make([]byte, 1), 100)
		require.ErrorIs(t, err, io.EOF)
		_, err = file.ReadAt(make([]byte, 1), -1)
		require.Error(t, err)
		_, err = file.WriteAt([]byte("x"), -1)
		require.Error(t, err)
	},
	"truncate shrinks and grows with zeros": func(t *testing.T, fsys vfs.FS, root string) {
		f := open(t, fsys, path.Join(root, "a"), create)
		write(t, f, "hello", 0)
		require.NoError(t, f.Truncate(2))
		require.NoError(t, f.Truncate(4))
		require.Equal(t, "he\x00\x00", read(t, f))
		require.ErrorIs(t, f.Truncate(-1), syscall.EINVAL)
	},
	"sync calls succeed and change nothing": func(t *testing.T, fsys vfs.FS, root string) {
		f := open(t, fsys, path.Join(root, "a"), create)
		require.NoError(t, f.Preallocate(0, 1<<20))
		write(t, f, "hello", 0)
		require.NoError(t, f.SyncRange(0, 5))
		require.NoError(t, f.AwaitRange(0, 5))
		require.NoError(t, f.Prefetch(0, 5))
		require.NoError(t, f.Uncache(0, 5))
		require.NoError(t, f.Datasync())
		require.NoError(t, f.Sync())
		require.NoError(t, fsys.SyncDir(root))
		require.Equal(t, "hello", read(t, f))
	},
	"open flags": func(t *testing.T, fsys vfs.FS, root string) {
		name := path.Join(root, "a")
		_, err := fsys.OpenFile(name, os.O_RDONLY, 0)
		require.ErrorIs(t, err, fs.ErrNotExist)
		f := open(t, fsys, name, create|os.O_EXCL)
		write(t, f, "hello", 0)
		_, err = fsys.OpenFile(name, create|os.O_EXCL, 0o644)
		require.ErrorIs(t, err, fs.ErrExist)
		reader := open(t, fsys, name, os.O_RDONLY)
		_, err = reader.WriteAt([]byte("x"), 0)
		require.ErrorIs(t, err, syscall.EBADF)
		writer := open(t, fsys, name, os.O_WRONLY)
		_, err = writer.ReadAt(make([]byte, 1), 0)
		require.ErrorIs(t, err, syscall.EBADF)
		require.Equal(t, "", read(t, open(t, fsys, name, create|os.O_TRUNC)))
		_, err = fsys.OpenFile(root, os.O_RDWR, 0)
		require.ErrorIs(t, err, syscall.EISDIR)
		_, err = fsys.OpenFile(path.Join(name, "b"), create, 0o644)
		require.ErrorIs(t, err, syscall.ENOTDIR)
		_, err = fsys.OpenFile(path.Join(root, "no", "b"), create, 0o644)
		require.ErrorIs(t, err, fs.ErrNotExist)
	},
	"a renamed or removed file stays open": func(t *testing.T, fsys vfs.FS, root string) {
		f := open(t, fsys, path.Join(root, "a"), create)
		write(t, f, "hello", 0)
		require.NoError(t, fsys.Rename(path.Join(root, "a"), path.Join(root, "b")))
		_, err := fsys.Stat(path.Join(root, "a"))
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.Equal(t, "hello", read(t, open(t, fsys, path.Join(root, "b"), os.O_RDONLY)))
		require.NoError(t, fsys.Remove(path.Join(root, "b")))
		require.Equal(t, "hello", read(t, f))
		require.ErrorIs(t, fsys.Remove(path.Join(root, "b")), fs.ErrNotExist)
	},
	"rename replaces": func(t *testing.T, fsys vfs.FS, root string) {
		write(t, open(t, fsys, path.Join(root, "a"), create), "new", 0)
		write(t, open(t, fsys, path.Join(root, "b"), create), "old", 0)
		require.NoError(t, fsys.Rename(path.Join(root, "a"), path.Join(root, "b")))
		require.Equal(t, "new", read(t, open(t, fsys, path.Join(root, "b"), os.O_RDONLY)))
		require.ErrorIs(t, fsys.Rename(path.Join(root, "a"), path.Join(root, "c")), fs.ErrNotExist)
		require.NoError(t, fsys.MkdirAll(path.Join(root, "d"), 0o755))
		require.ErrorIs(t, fsys.Rename(path.Join(root, "b"), path.Join(root, "d")), fs.ErrExist)
		require.NoError(t, fsys.Rename(path.Join(root, "b"), path.Join(root, "d", "b")))
		require.NoError(t, fsys.Rename(path.Join(root, "d"), path.Join(root, "e")))
		require.Equal(t, "new", read(t, open(t, fsys, path.Join(root, "e", "b"), os.O_RDONLY)))
	},
	"directories": func(t *testing.T, fsys vfs.FS, root string) {
		deep := path.Join(root, "x", "y")
		require.NoError(t, fsys.MkdirAll(deep, 0o755))
		require.NoError(t, fsys.MkdirAll(deep, 0o755))
		open(t, fsys, path.Join(root, "x", "b"), create)
		open(t, fsys, path.Join(root, "x", "a"), create)
		list, err := fsys.ReadDir(path.Join(root, "x"))
		require.NoError(t, err)
		var names []string
		for _, entry := range list {
			names = append(names, entry.Name())
			require.Equal(t, entry.Name() == "y", entry.IsDir())
		}
		require.Equal(t, []string{"a", "b", "y"}, names)
		require.ErrorIs(t, fsys.Remove(path.Join(root, "x")), syscall.ENOTEMPTY)
		require.NoError(t, fsys.Remove(deep))
		_, err = fsys.ReadDir(deep)
		require.ErrorIs(t, err, fs.ErrNotExist)
		_, err = fsys.ReadDir(path.Join(root, "x", "a"))
		require.ErrorIs(t, err, syscall.ENOTDIR)
		require.ErrorIs(t, fsys.MkdirAll(path.Join(root, "x", "a", "z"), 0o755), syscall.ENOTDIR)
		require.ErrorIs(t, fsys.SyncDir(deep), fs.ErrNotExist)
	},
	"stat": func(t *testing.T, fsys vfs.FS, root string) {
		f := open(t, fsys, path.Join(root, "a"), create)
		write(t, f, "hello", 0)
		for _, stat := range []func() (fs.FileInfo, error){f.Stat, func() (fs.FileInfo, error) {
			return fsys.Stat(path.Join(root, "a"))
		}} {
			info, err := stat()
			require.NoError(t, err)
			require.Equal(t, "a", info.Name())
			require.EqualValues(t, 5, info.Size())
			require.False(t, info.IsDir())
			require.True(t, info.Mode().IsRegular())
		}
		info, err := fsys.Stat(root)
		require.NoError(t, err)
		require.True(t, info.IsDir())
		space, err := fsys.StatFS(root)
		require.NoError(t, err)
		require.Positive(t, space.Capacity)
		require.LessOrEqual(t, space.Free, space.Capacity)
		_, err = fsys.StatFS(path.Join(root, "no"))
		require.ErrorIs(t, err, fs.ErrNotExist)
	},
	"a lock is exclusive": func(t *testing.T, fsys vfs.FS, root string) {
		name := path.Join(root, "lock")
		held, err := fsys.Lock(name)
		require.NoError(t, err)
		_, err = fsys.Lock(name)
		require.ErrorIs(t, err, syscall.EWOULDBLOCK)
		require.NoError(t, held.Close())
		again, err := fsys.Lock(name)
		require.NoError(t, err)
		require.NoError(t, again.Close())
		_, err = fsys.Lock(path.Join(root, "no", "lock"))
		require.ErrorIs(t, err, fs.ErrNotExist)
	},
	"a closed file is of no use": func(t *testing.T, fsys vfs.FS, root string) {
		f, err := fsys.OpenFile(path.Join(root, "a"), create, 0o644)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		require.ErrorIs(t, f.Close(), fs.ErrClosed)
		_, err = f.WriteAt([]byte("x"), 0)
		require.ErrorIs(t, err, fs.ErrClosed)
		_, err = f.ReadAt(make([]byte, 1), 0)
		require.ErrorIs(t, err, fs.ErrClosed)
		require.ErrorIs(t, f.Sync(), fs.ErrClosed)
	},
}

func open(t *testing.T, fsys vfs.FS, name string, flag int) vfs.File {
	t.Helper()
	f, err := fsys.OpenFile(name, flag, 0o644)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func write(t *testing.T, f vfs.File, text string, offset int64) {
	t.Helper()
	n, err := f.WriteAt([]byte(text), offset)
	require.NoError(t, err)
	require.Equal(t, len(text), n)
}

func read(t *testing.T, f vfs.File) string {
	t.Helper()
	info, err := f.Stat()
	require.NoError(t, err)
	b := make([]byte, info.Size())
	n, err := f.ReadAt(b, 0)
	if !errors.Is(err, io.EOF) {
		require.NoError(t, err)
	}
	return string(b[:n])
}
