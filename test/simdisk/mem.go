package simdisk

import (
	"github.com/whispering-woods/ww/internal/vfs"

	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// memCapacityDefault is the room of a Mem that was given none, in bytes.
const memCapacityDefault = 1 << 40

// Mem is a file system in memory. It remembers, for each file and directory,
// what has been synced and what has not, so that CrashClone can build what a
// power failure at this moment would leave (crash.go).
//
// Differences to a disk: no permissions, no links, Preallocate takes no room.
type Mem struct {
	mu struct {
		sync.Mutex
		root      *memNode
		capacity  int64
		used      int64 // sum of the sizes of all linked files
		locks     map[string]bool
		pending   []*entryChange // directory changes not yet durable, oldest first
		lastWrite *fileChange    // most recent write that is still unsynced, or nil
		onChange  func(op Op, path string)
	}
}

var _ vfs.FS = (*Mem)(nil)

// memNode is a file or a directory. All fields are guarded by Mem.mu.
type memNode struct {
	directory bool
	modified  time.Time

	entries map[string]*memNode // directory: as seen by everybody
	durable map[string]*memNode // directory: as after a power failure

	data    []byte        // file: as seen by everybody
	synced  []byte        // file: as after a power failure
	changes []*fileChange // file: unsynced changes, oldest first
	links   int
}

// fileChange is an unsynced write, or a truncation if data is nil.
type fileChange struct {
	offset int64 // truncation: the new size
	data   []byte
}

// entryChange is one unsynced, atomic change of directory entries.
type entryChange struct {
	edits []entryEdit
}

// entryEdit sets (or, with a nil node, removes) one name.
type entryEdit struct {
	directory *memNode
	name      string
	node      *memNode
}

// NewMem returns an empty file system with only a root directory.
func NewMem() *Mem {
	m := &Mem{}
	m.mu.root = newDirectory()
	m.mu.capacity = memCapacityDefault
	m.mu.locks = make(map[string]bool)
	return m
}

func newDirectory() *memNode {
	return &memNode{directory: true, entries: make(map[string]*memNode), durable: make(map[string]*memNode)}
}

// SetCapacity sets the room in bytes; a write beyond it is cut short with
// ENOSPC.
func (m *Mem) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.capacity = bytes
}

// OnChange sets a function that is called after every operation that changed
// something: writes, truncations, syncs, creations, renames, removals. It runs
// on the operation's goroutine, without locks, and may call CrashClone.
func (m *Mem) OnChange(f func(op Op, path string)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.onChange = f
}

func (m *Mem) changed(op Op, path string) {
	m.mu.Lock()
	f := m.mu.onChange
	m.mu.Unlock()
	if f != nil {
		f(op, path)
	}
}

func pathError(op, path string, err error) error {
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// split cleans a path into its elements.
func split(name string) []string {
	name = strings.Trim(path.Clean("/"+name), "/")
	if name == "" {
		return nil
	}
	return strings.Split(name, "/")
}

func (m *Mem) findLocked(name string) (*memNode, error) {
	node := m.mu.root
	for _, element := range split(name) {
		if !node.directory {
			return nil, syscall.ENOTDIR
		}
		next := node.entries[element]
		if next == nil {
			return nil, syscall.ENOENT
		}
		node = next
	}
	return node, nil
}

// parentLocked finds the directory that holds name and name's last element.
func (m *Mem) parentLocked(name string) (*memNode, string, error) {
	elements := split(name)
	if len(elements) == 0 {
		return nil, "", syscall.EBUSY
	}
	parent, err := m.findLocked(strings.Join(elements[:len(elements)-1], "/"))
	if err != nil {
		return nil, "", err
	}
	if !parent.directory {
		return nil, "", syscall.ENOTDIR
	}
	return parent, elements[len(elements)-1], nil
}

// changeLocked applies a directory change and remembers that it is not durable.
func (m *Mem) changeLocked(edits ...entryEdit) {
	for _, edit := range edits {
		if old := edit.directory.entries[edit.name]; old != nil {
			m.unlinkLocked(old)
		}
		if edit.node == nil {
			delete(edit.directory.entries, edit.name)
			continue
		}
		edit.directory.entries[edit.name] = edit.node
		edit.node.links++
		if edit.node.links == 1 {
			m.mu.used += int64(len(edit.node.data))
		}
	}
	m.mu.pending = append(m.mu.pending, &entryChange{edits: edits})
}

func (m *Mem) unlinkLocked(node *memNode) {
	node.links--
	if node.links == 0 {
		m.mu.used -= int64(len(node.data))
	}
}

// OpenFile opens or creates a file.
func (m *Mem) OpenFile(name string, flag int, _ fs.FileMode) (vfs.File, error) {
	file, created, err := m.open(name, flag)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	if created {
		m.changed(OpOpen, name)
	}
	return file, nil
}

func (m *Mem) open(name string, flag int) (file *memFile, created bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	parent, base, err := m.parentLocked(name)
	if err != nil {
		return nil, false, err
	}
	node := parent.entries[base]
	access := flag & (os.O_RDONLY | os.O_WRONLY | os.O_RDWR)
	switch {
	case node == nil && flag&os.O_CREATE == 0:
		return nil, false, syscall.ENOENT
	case node == nil:
		node = &memNode{modified: time.Now()}
		m.changeLocked(entryEdit{parent, base, node})
		created = true
	case flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
		return nil, false, syscall.EEXIST
	case node.directory:
		return nil, false, syscall.EISDIR
	case flag&os.O_TRUNC != 0 && len(node.data) > 0:
		m.truncateLocked(node, 0)
	}
	return &memFile{
		fs: m, node: node, name: name,
		readable: access != os.O_WRONLY, writable: access != os.O_RDONLY,
	}, created, nil
}

// MkdirAll makes a directory and its parents.
func (m *Mem) MkdirAll(name string, _ fs.FileMode) error {
	made, err := m.mkdirAll(name)
	if err != nil {
		return pathError("mkdir", name, err)
	}
	if made {
		m.changed(OpMkdir, name)
	}
	return nil
}

func (m *Mem) mkdirAll(name string) (made bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	node := m.mu.root
	for _, element := range split(name) {
		next := node.entries[element]
		if next == nil {
			next = newDirectory()
			next.modified = time.Now()
			m.changeLocked(entryEdit{node, element, next})
			made = true
		}
		if !next.directory {
			return made, syscall.ENOTDIR
		}
		node = next
	}
	return made, nil
}

// Rename moves a file or directory in one atomic step.
func (m *Mem) Rename(source, target string) error {
	if err := m.rename(source, target); err != nil {
		return &os.LinkError{Op: "rename", Old: source, New: target, Err: err}
	}
	m.changed(OpRename, target)
	return nil
}

func (m *Mem) rename(source, target string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, fromName, err := m.parentLocked(source)
	if err != nil {
		return err
	}
	to, toName, err := m.parentLocked(target)
	if err != nil {
		return err
	}
	node, over := from.entries[fromName], to.entries[toName]
	switch {
	case node == nil:
		return syscall.ENOENT
	case over == node:
		return nil
	case over != nil && over.directory && !node.directory:
		return syscall.EEXIST // what os.Rename answers
	case over != nil && !over.directory && node.directory:
		return syscall.ENOTDIR
	case over != nil && over.directory && len(over.entries) > 0:
		return syscall.ENOTEMPTY
	}
	m.changeLocked(entryEdit{from, fromName, nil}, entryEdit{to, toName, node})
	return nil
}

// Remove unlinks a file or an empty directory.
func (m *Mem) Remove(name string) error {
	if err := m.remove(name); err != nil {
		return pathError("remove", name, err)
	}
	m.changed(OpRemove, name)
	return nil
}

func (m *Mem) remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	parent, base, err := m.parentLocked(name)
	if err != nil {
		return err
	}
	node := parent.entries[base]
	if node == nil {
		return syscall.ENOENT
	}
	if node.directory && len(node.entries) > 0 {
		return syscall.ENOTEMPTY
	}
	m.changeLocked(entryEdit{parent, base, nil})
	return nil
}

// ReadDir lists a directory, sorted by name.
func (m *Mem) ReadDir(name string) ([]fs.DirEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	node, err := m.findLocked(name)
	if err == nil && !node.directory {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, pathError("readdir", name, err)
	}
	list := make([]fs.DirEntry, 0, len(node.entries))
	for _, base := range sortedNames(node.entries) {
		list = append(list, fs.FileInfoToDirEntry(infoOf(base, node.entries[base])))
	}
	return list, nil
}

// Stat describes a file or directory.
func (m *Mem) Stat(name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	node, err := m.findLocked(name)
	if err != nil {
		return nil, pathError("stat", name, err)
	}
	return infoOf(path.Base(path.Clean("/"+name)), node), nil
}

// SyncDir makes the directory's entries durable.
func (m *Mem) SyncDir(name string) error {
	err := m.syncDir(name)
	if err != nil {
		return pathError("sync", name, err)
	}
	m.changed(OpSyncDir, name)
	return nil
}

func (m *Mem) syncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	node, err := m.findLocked(name)
	if err != nil {
		return err
	}
	if !node.directory {
		return syscall.ENOTDIR
	}
	m.settleEntriesLocked(node)
	return nil
}

// StatFS tells the capacity and what is left of it.
func (m *Mem) StatFS(name string) (vfs.Space, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.findLocked(name); err != nil {
		return vfs.Space{}, pathError("statfs", name, err)
	}
	return vfs.Space{Capacity: m.mu.capacity, Free: max(0, m.mu.capacity-m.mu.used)}, nil
}

// Lock takes the lock that belongs to the path.
func (m *Mem) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, _, err := m.parentLocked(name); err != nil {
		return nil, pathError("flock", name, err)
	}
	key := path.Clean("/" + name)
	if m.mu.locks[key] {
		return nil, pathError("flock", name, syscall.EWOULDBLOCK)
	}
	m.mu.locks[key] = true
	return &memLock{fs: m, key: key}, nil
}

type memLock struct {
	fs  *Mem
	key string
}

func (l *memLock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	delete(l.fs.mu.locks, l.key)
	return nil
}

// memInfo is the fs.FileInfo of a memNode.
type memInfo struct {
	name      string
	size      int64
	modified  time.Time
	directory bool
}

func infoOf(name string, node *memNode) fs.FileInfo {
	return memInfo{name: name, size: int64(len(node.data)), modified: node.modified, directory: node.directory}
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) ModTime() time.Time { return i.modified }
func (i memInfo) IsDir() bool        { return i.directory }
func (i memInfo) Sys() any           { return nil }
func (i memInfo) Mode() fs.FileMode {
	if i.directory {
		return fs.ModeDir | 0o755
	}
	return 0o644
}

func sortedNames(names map[string]*memNode) []string { return slices.Sorted(maps.Keys(names)) }
