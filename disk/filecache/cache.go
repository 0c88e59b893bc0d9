// Package filecache keeps files open between their uses, so that a popular one is not reopened for each use.
// Each file belongs to an Owner and counts its users. A rename does not hurt an open file; whoever removes
// one calls Detach. The cache runs no goroutine, and knows nothing of what the files hold.
package filecache

import (
	"container/list"
	"os"
	"sync"

	"github.com/whispering-woods/ww/internal/vfs"
)

// Owner is embedded in what a cached file belongs to: a replica or a pack segment.
type Owner struct {
	file *File // guarded by Cache.mu
}

// File is a counted open file. It is closed when nobody uses it and the cache drops it.
type File struct {
	vfs.File
	owner    *Owner
	writable bool

	// guarded by Cache.mu
	users   int
	cached  bool          // owner.file is this one
	waiting *list.Element // in Cache.mu.idle while cached and without users
}

// Cache holds open files: those in use, and up to idleMax more.
type Cache struct {
	idleMax int
	mu      struct {
		sync.Mutex
		idle   *list.List // of *File, least recently used first
		closed bool
	}
}

// New makes a cache that keeps up to idleMax files without users open.
func New(idleMax int) *Cache {
	c := &Cache{idleMax: idleMax}
	c.mu.idle = list.New()
	return c
}

// Idle is the number of open files without a user.
func (c *Cache) Idle() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.idle.Len()
}

// Get returns the owner's cached file with one more user, or nil if there is none that is good enough.
func (c *Cache) Get(o *Owner, writable bool) *File {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := o.file
	if f == nil || (writable && !f.writable) {
		return nil
	}
	f.users++
	if f.waiting != nil {
		c.mu.idle.Remove(f.waiting)
		f.waiting = nil
	}
	return f
}

// Open opens a file, for reading or also for writing, and makes it the owner's cached one, with one user.
func (c *Cache) Open(o *Owner, fsys vfs.FS, path string, writable bool) (*File, error) {
	flag := os.O_RDONLY
	if writable {
		flag = os.O_RDWR
	}
	inner, err := fsys.OpenFile(path, flag, 0)
	if err != nil {
		return nil, err
	}
	return c.Add(o, inner, writable), nil
}

// Add makes an opened file the owner's cached one, with one user.
func (c *Cache) Add(o *Owner, inner vfs.File, writable bool) *File {
	f := &File{File: inner, owner: o, writable: writable, users: 1, cached: true}
	c.mu.Lock()
	old := c.detachLocked(o)
	o.file = f
	if c.mu.closed { // close it with its last user
		f.cached, o.file = false, nil
	}
	c.mu.Unlock()
	closeFile(old)
	return f
}

// Release ends one use.
func (c *Cache) Release(file *File) {
	c.mu.Lock()
	var unused *File
	file.users--
	switch {
	case file.users > 0:
	case !file.cached:
		unused = file
	case c.mu.closed:
		unused = c.detachLocked(file.owner)
	default:
		file.waiting = c.mu.idle.PushBack(file)
		if c.mu.idle.Len() > c.idleMax {
			unused = c.detachLocked(c.mu.idle.Front().Value.(*File).owner)
		}
	}
	c.mu.Unlock()
	closeFile(unused)
}

// Detach forgets the owner's cached file; its users keep it.
func (c *Cache) Detach(o *Owner) {
	c.mu.Lock()
	old := c.detachLocked(o)
	c.mu.Unlock()
	closeFile(old)
}

// detachLocked returns the file for the caller to close, if it has no user.
func (c *Cache) detachLocked(o *Owner) *File {
	file := o.file
	if file == nil {
		return nil
	}
	o.file, file.cached = nil, false
	if file.users > 0 {
		return nil
	}
	if file.waiting != nil {
		c.mu.idle.Remove(file.waiting)
		file.waiting = nil
	}
	return file
}

// Close closes all idle files; one in use is closed by its last user.
func (c *Cache) Close() {
	c.mu.Lock()
	c.mu.closed = true
	var unused []*File
	for c.mu.idle.Len() > 0 {
		unused = append(unused, c.detachLocked(c.mu.idle.Front().Value.(*File).owner))
	}
	c.mu.Unlock()
	for _, f := range unused {
		closeFile(f)
	}
}

// closeFile closes a file that nobody uses. Its error means nothing: what had to be durable was synced.
func closeFile(f *File) {
	if f != nil {
		_ = f.File.Close()
	}
}
