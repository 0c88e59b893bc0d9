package disk

import (
	"container/list"
	"os"
	"sync"

	"github.com/whispering-woods/ww/internal/vfs"
)

// fileOwner is what a cached file belongs to: a replica or a pack segment.
type fileOwner struct {
	file *openFile // guarded by fileCache.mu
}

// openFile is a counted open file. It is closed when nobody uses it and the
// cache gives it up.
type openFile struct {
	vfs.File
	owner    *fileOwner
	writable bool

	// guarded by fileCache.mu
	users   int
	cached  bool          // owner.file is this one
	waiting *list.Element // in fileCache.mu.idle while cached and without users
}

// fileCache holds the open files of a store: those in use, and up to
// idleFilesMax more, so that a popular one is not opened again and again.
// A rename does not hurt an open file.
type fileCache struct {
	mu struct {
		sync.Mutex
		idle   *list.List // of *openFile, least recently used first
		closed bool
	}
}

func newFileCache() *fileCache {
	c := &fileCache{}
	c.mu.idle = list.New()
	return c
}

// get returns the owner's cached file with one more user, or nil if there is
// none that is good enough.
func (c *fileCache) get(o *fileOwner, writable bool) *openFile {
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

// open returns the cached file, or opens the replica's file under its present
// name. The caller holds r.io, so the name stays, and releases the result.
func (c *fileCache) open(r *replica, writable bool) (*openFile, error) {
	if f := c.get(&r.fileOwner, writable); f != nil {
		return f, nil
	}
	return c.openPath(&r.fileOwner, r.volume.fs, r.path(), writable)
}

// openPath opens a file and makes it the owner's cached one, with one user.
func (c *fileCache) openPath(o *fileOwner, fsys vfs.FS, path string, writable bool) (*openFile, error) {
	flag := os.O_RDONLY
	if writable {
		flag = os.O_RDWR
	}
	inner, err := fsys.OpenFile(path, flag, 0)
	if err != nil {
		return nil, err
	}
	return c.add(o, inner, writable), nil
}

// add makes an opened file the owner's cached one, with one user.
func (c *fileCache) add(o *fileOwner, inner vfs.File, writable bool) *openFile {
	f := &openFile{File: inner, owner: o, writable: writable, users: 1, cached: true}
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

// release gives one use back.
func (c *fileCache) release(f *openFile) {
	c.mu.Lock()
	var unused *openFile
	f.users--
	if f.users == 0 {
		switch {
		case !f.cached:
			unused = f
		default:
			f.waiting = c.mu.idle.PushBack(f)
			if c.mu.idle.Len() > idleFilesMax {
				unused = c.detachLocked(c.mu.idle.Front().Value.(*openFile).owner)
			}
		}
	}
	c.mu.Unlock()
	closeFile(unused)
}

// detach forgets the owner's cached file; its users keep it.
func (c *fileCache) detach(o *fileOwner) {
	c.mu.Lock()
	old := c.detachLocked(o)
	c.mu.Unlock()
	closeFile(old)
}

// detachLocked returns the file for the caller to close, if it has no user.
func (c *fileCache) detachLocked(o *fileOwner) *openFile {
	f := o.file
	if f == nil {
		return nil
	}
	o.file, f.cached = nil, false
	if f.users > 0 {
		return nil
	}
	if f.waiting != nil {
		c.mu.idle.Remove(f.waiting)
		f.waiting = nil
	}
	return f
}

// close closes all idle files; one in use is closed by its last user.
func (c *fileCache) close() {
	c.mu.Lock()
	c.mu.closed = true
	var unused []*openFile
	for c.mu.idle.Len() > 0 {
		unused = append(unused, c.detachLocked(c.mu.idle.Front().Value.(*openFile).owner))
	}
	c.mu.Unlock()
	for _, f := range unused {
		closeFile(f)
	}
}

// closeFile closes a file that nobody uses. Its error means nothing: what had
// to be durable was synced.
func closeFile(f *openFile) {
	if f != nil {
		_ = f.File.Close()
	}
}
