package filecache

import (
	"io/fs"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/vfs"
	"github.com/whispering-woods/ww/test/simdisk"
)

// counted is a disk in memory that knows how many of its files are open.
type counted struct {
	*simdisk.Mem
	open int
}

type countedFile struct {
	vfs.File
	disk *counted
}

func (c *counted) OpenFile(path string, flag int, perm fs.FileMode) (vfs.File, error) {
	inner, err := c.Mem.OpenFile(path, flag, perm)
	if err != nil {
		return nil, err
	}
	c.open++
	return &countedFile{inner, c}, nil
}

func (f *countedFile) Close() error {
	f.disk.open--
	return f.File.Close()
}

func newCounted(t *testing.T, names ...string) *counted {
	c := &counted{Mem: simdisk.NewMem()}
	for _, name := range names {
		f, err := c.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
		require.NoError(t, err)
		_, err = f.WriteAt([]byte(name), 0)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	return c
}

func TestFileIsOpenedOnce(t *testing.T) {
	disk, cache := newCounted(t, "/a"), New(1)
	var owner Owner
	require.Nil(t, cache.Get(&owner, false))
	_, err := cache.Open(&owner, disk, "/b", false)
	require.ErrorIs(t, err, fs.ErrNotExist)
	first, err := cache.Open(&owner, disk, "/a", false)
	require.NoError(t, err)
	require.Same(t, first, cache.Get(&owner, false))
	require.Nil(t, cache.Get(&owner, true), "it is only for reading")
	cache.Release(first)
	require.Zero(t, cache.Idle(), "it has a user")
	cache.Release(first)
	require.Equal(t, 1, cache.Idle())
	require.Equal(t, 1, disk.open)

	writable, err := cache.Open(&owner, disk, "/a", true)
	require.NoError(t, err)
	require.Equal(t, 1, disk.open, "the one for reading, which has no user, is replaced")
	require.Same(t, writable, cache.Get(&owner, false), "who writes may read")
}

// Only files without users are closed for want of room, the one used least recently first.
func TestIdleFilesAreBounded(t *testing.T) {
	disk, cache := newCounted(t, "/0", "/1", "/2", "/3"), New(2)
	owners := make([]Owner, 4)
	files := make([]*File, 4)
	for i := range files {
		var err error
		files[i], err = cache.Open(&owners[i], disk, "/"+string(rune('0'+i)), false)
		require.NoError(t, err)
	}
	require.Equal(t, 4, disk.open, "those in use do not count")
	for i := range 2 {
		cache.Release(files[i])
	}
	cache.Release(cache.Get(&owners[0], false)) // 0 is used after 1
	cache.Release(files[2])
	require.Equal(t, 2, cache.Idle())
	require.Equal(t, 3, disk.open)
	require.Nil(t, cache.Get(&owners[1], false))
	for _, i := range []int{0, 2, 3} {
		require.NotNil(t, cache.Get(&owners[i], false), i)
	}
}

// Who uses a file keeps it, whatever the cache does with it meanwhile.
func TestUsersKeepTheirFile(t *testing.T) {
	for name, forget := range map[string]func(*Cache, *Owner, *counted){
		"detached": func(c *Cache, o *Owner, _ *counted) { c.Detach(o) },
		"replaced": func(c *Cache, o *Owner, disk *counted) {
			f, err := c.Open(o, disk, "/a", true)
			if err == nil {
				c.Release(f)
				c.Detach(o)
			}
		},
		"closed": func(c *Cache, _ *Owner, _ *counted) { c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			disk, cache := newCounted(t, "/a"), New(1)
			var owner Owner
			file, err := cache.Open(&owner, disk, "/a", false)
			require.NoError(t, err)
			require.Same(t, file, cache.Get(&owner, false))
			require.NoError(t, disk.Remove("/a"))
			if name == "replaced" {
				disk.Mem = newCounted(t, "/a").Mem
			}
			forget(cache, &owner, disk)
			cache.Release(file)
			data := make([]byte, 2)
			_, err = file.ReadAt(data, 0)
			require.NoError(t, err)
			require.Equal(t, "/a", string(data))
			require.Equal(t, 1, disk.open)
			cache.Release(file)
			if name == "closed" {
				require.Zero(t, cache.Idle(), "a closed cache keeps nothing")
			} else {
				require.Nil(t, cache.Get(&owner, false))
			}
			cache.Detach(&owner)
			require.Zero(t, disk.open, "the last user closes it")
		})
	}
}

func TestClosedCacheKeepsNothing(t *testing.T) {
	disk, cache := newCounted(t, "/a", "/b"), New(9)
	var one, two Owner
	idle, err := cache.Open(&one, disk, "/a", false)
	require.NoError(t, err)
	cache.Release(idle)
	cache.Close()
	require.Zero(t, disk.open)
	late, err := cache.Open(&two, disk, "/b", false)
	require.NoError(t, err, "a closed cache still opens")
	require.Nil(t, cache.Get(&two, false))
	cache.Release(late)
	require.Zero(t, disk.open)
}
