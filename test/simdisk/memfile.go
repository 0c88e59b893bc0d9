package simdisk

import (
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"
)

// memFile is an open file of a Mem.
type memFile struct {
	fs                 *Mem
	node               *memNode
	name               string
	readable, writable bool
	closed             bool // guarded by fs.mu
}

// checkLocked refuses what the file was not opened for.
func (f *memFile) checkLocked(access bool) error {
	if f.closed {
		return fs.ErrClosed
	}
	if !access {
		return syscall.EBADF
	}
	return nil
}

func (f *memFile) ReadAt(data []byte, offset int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.checkLocked(f.readable); err != nil {
		return 0, pathError("read", f.name, err)
	}
	if offset < 0 {
		return 0, pathError("read", f.name, syscall.EINVAL)
	}
	if len(data) == 0 {
		return 0, nil
	}
	if offset >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(data, f.node.data[offset:])
	if n < len(data) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, offset int64) (int, error) {
	n, err := f.write(p, offset)
	if n > 0 {
		f.fs.changed(OpWrite, f.name)
	}
	if err != nil {
		return n, pathError("write", f.name, err)
	}
	return n, nil
}

func (f *memFile) write(data []byte, offset int64) (int, error) {
	memory := f.fs
	memory.mu.Lock()
	defer memory.mu.Unlock()
	if err := f.checkLocked(f.writable); err != nil {
		return 0, err
	}
	if offset < 0 {
		return 0, syscall.EINVAL
	}
	var failure error
	node := f.node
	if growth := offset + int64(len(data)) - int64(len(node.data)); growth > 0 && node.links > 0 {
		if over := growth - max(0, memory.mu.capacity-memory.mu.used); over > 0 {
			failure = syscall.ENOSPC
			data = data[:max(0, int64(len(data))-over)]
		}
	}
	if len(data) == 0 {
		return 0, failure
	}
	change := &fileChange{offset: offset, data: append([]byte(nil), data...)}
	before := len(node.data)
	node.data = change.apply(node.data)
	if node.links > 0 {
		memory.mu.used += int64(len(node.data) - before)
	}
	node.modified = time.Now()
	node.changes = append(node.changes, change)
	memory.mu.lastWrite = change
	return len(data), failure
}

// apply returns content with the change made; it may reuse content's memory.
func (c *fileChange) apply(content []byte) []byte {
	if c.data == nil {
		if c.offset <= int64(len(content)) {
			clear(content[c.offset:])
			return content[:c.offset]
		}
		return append(content, make([]byte, c.offset-int64(len(content)))...)
	}
	if end := c.offset + int64(len(c.data)); end > int64(len(content)) {
		content = append(content, make([]byte, end-int64(len(content)))...)
	}
	copy(content[c.offset:], c.data)
	return content
}

// Sync makes the file's content durable, but not its name.
func (f *memFile) Sync() error { return f.sync(OpSync, "fsync") }

// Datasync is Sync: the model keeps no other metadata.
func (f *memFile) Datasync() error { return f.sync(OpDatasync, "fdatasync") }

func (f *memFile) sync(op Op, name string) error {
	memory := f.fs
	memory.mu.Lock()
	err := f.checkLocked(true)
	if err == nil {
		for _, c := range f.node.changes {
			f.node.synced = c.apply(f.node.synced)
			if c == memory.mu.lastWrite {
				memory.mu.lastWrite = nil
			}
		}
		f.node.changes = nil
	}
	memory.mu.Unlock()
	if err != nil {
		return pathError(name, f.name, err)
	}
	memory.changed(op, f.name)
	return nil
}

func (f *memFile) Truncate(size int64) error {
	memory := f.fs
	memory.mu.Lock()
	err := f.checkLocked(f.writable)
	if err == nil && size < 0 {
		err = syscall.EINVAL
	}
	if err == nil {
		memory.truncateLocked(f.node, size)
	}
	memory.mu.Unlock()
	if err != nil {
		return pathError("truncate", f.name, err)
	}
	memory.changed(OpTruncate, f.name)
	return nil
}

func (m *Mem) truncateLocked(node *memNode, size int64) {
	change := &fileChange{offset: size}
	if node.links > 0 {
		m.mu.used += size - int64(len(node.data))
	}
	node.data = change.apply(node.data)
	node.changes = append(node.changes, change)
}

func (f *memFile) Preallocate(_, length int64) error {
	m := f.fs
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := f.checkLocked(f.writable); err != nil {
		return pathError("fallocate", f.name, err)
	}
	if length > m.mu.capacity-m.mu.used {
		return pathError("fallocate", f.name, syscall.ENOSPC)
	}
	return nil
}

func (f *memFile) SyncRange(int64, int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.checkLocked(true); err != nil {
		return pathError("sync_file_range", f.name, err)
	}
	return nil
}

func (f *memFile) AwaitRange(offset, length int64) error { return f.SyncRange(offset, length) }

func (f *memFile) Prefetch(offset, length int64) error { return f.Uncache(offset, length) }

func (f *memFile) Uncache(int64, int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.checkLocked(true); err != nil {
		return pathError("fadvise", f.name, err)
	}
	return nil
}

func (f *memFile) Stat() (fs.FileInfo, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.checkLocked(true); err != nil {
		return nil, pathError("stat", f.name, err)
	}
	return infoOf(path.Base(f.name), f.node), nil
}

func (f *memFile) OSFile() *os.File { return nil }

func (f *memFile) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return pathError("close", f.name, fs.ErrClosed)
	}
	f.closed = true
	return nil
}
