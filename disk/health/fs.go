package health

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/lateness"
	"github.com/whispering-woods/ww/internal/vfs"
)

// FS is the file system of a volume: inner, as long as the volume is in service. Afterwards every call fails
// at once with an OutError in a fs.PathError, but for Close.
func (v *Volume) FS(inner vfs.FS) vfs.FS { return &watchedFS{inner, v} }

type watchedFS struct {
	inner  vfs.FS
	volume *Volume
}

// Watch runs an operation on the volume's disk and has its time seen. Error: that of run; an OutError in a
// fs.PathError if the volume is out of service, and then run was not called.
func (v *Volume) Watch(op, path string, run func() error) error {
	slot, err := v.begin(op, path)
	if err != nil {
		return &fs.PathError{Op: op, Path: path, Err: err}
	}
	defer v.end(slot)
	return run()
}

// WatchRead is Watch for a read that somebody waits for; it returns how many bytes it got. How late it was counts.
func (v *Volume) WatchRead(op, path string, read func() (int, error)) (got int, err error) {
	v.waitedFor.Add(1)
	defer v.waitedFor.Add(-1)
	return v.WatchBackgroundRead(op, path, read)
}

// WatchBackgroundRead is WatchRead for a read that nobody waits for.
func (v *Volume) WatchBackgroundRead(op, path string, read func() (int, error)) (got int, err error) {
	slot, err := v.begin(op, path)
	if err != nil {
		return 0, &fs.PathError{Op: op, Path: path, Err: err}
	}
	defer func() {
		if late := lateness.Of(v.end(slot), int64(got)); got > 0 { // else the socket is full, or the read failed
			v.reads.Note(late)
		}
	}()
	return read()
}

// watched is Watch with a result.
func watched[T any](v *Volume, op, path string, run func() (T, error)) (result T, err error) {
	slot, err := v.begin(op, path)
	if err != nil {
		return result, &fs.PathError{Op: op, Path: path, Err: err}
	}
	defer v.end(slot)
	return run()
}

func (w *watchedFS) OpenFile(path string, flag int, perm fs.FileMode) (vfs.File, error) {
	return watched(w.volume, "open", path, func() (vfs.File, error) {
		inner, err := w.inner.OpenFile(path, flag, perm)
		if err == nil && flag&os.O_CREATE != 0 {
			err = w.requireDevice(inner, path)
		}
		if err != nil {
			return nil, err
		}
		return &watchedFile{File: inner, volume: w.volume, path: path}, nil
	})
}

// requireDevice takes a file back that was made below the mount point, because the disk was unmounted after somebody
// looked: an identity there would pass for the volume, without its replicas. It closes the file on an error.
func (w *watchedFS) requireDevice(file vfs.File, path string) error {
	want := w.volume.device.Load()
	if want == 0 {
		return nil
	}
	info, err := file.Stat()
	if err == nil && vfs.Device(info) == want {
		return nil
	}
	if err == nil {
		if info.Size() == 0 {
			err = w.inner.Remove(path)
		}
		w.volume.Condemn(datanode.VolumeMissing, "its disk was unmounted: "+path+" is on another file system")
		err = errors.Join(&fs.PathError{Op: "open", Path: path, Err: w.volume.Error()}, err)
	}
	return errors.Join(err, file.Close())
}

func (w *watchedFS) MkdirAll(path string, perm fs.FileMode) error {
	return w.volume.Watch("mkdir", path, func() error { return w.inner.MkdirAll(path, perm) })
}

func (w *watchedFS) Rename(source, target string) error {
	return w.volume.Watch("rename", source, func() error { return w.inner.Rename(source, target) })
}

func (w *watchedFS) Remove(path string) error {
	return w.volume.Watch("remove", path, func() error { return w.inner.Remove(path) })
}

func (w *watchedFS) ReadDir(path string) ([]fs.DirEntry, error) {
	return watched(w.volume, "readdir", path, func() ([]fs.DirEntry, error) { return w.inner.ReadDir(path) })
}

func (w *watchedFS) Stat(path string) (fs.FileInfo, error) {
	return watched(w.volume, "stat", path, func() (fs.FileInfo, error) { return w.inner.Stat(path) })
}

func (w *watchedFS) SyncDir(path string) error {
	return w.volume.Watch("fsync", path, func() error { return w.inner.SyncDir(path) })
}

func (w *watchedFS) StatFS(path string) (vfs.Space, error) {
	return watched(w.volume, "statfs", path, func() (vfs.Space, error) { return w.inner.StatFS(path) })
}

func (w *watchedFS) Lock(path string) (io.Closer, error) {
	return watched(w.volume, "lock", path, func() (io.Closer, error) { return w.inner.Lock(path) })
}

// watchedFile is a file of a volume. What is done with OSFile is not seen here: its user calls WatchRead.
type watchedFile struct {
	vfs.File
	volume *Volume
	path   string
	// unsynced are the bytes written since the last sync began, and waited is how much longer than writeGrace each
	// the writes of those took in all, in nanoseconds: less than 0 if they were quick.
	unsynced, waited atomic.Int64
}

func (f *watchedFile) ReadAt(b []byte, offset int64) (int, error) {
	return f.volume.WatchRead("read", f.path, func() (int, error) { return f.File.ReadAt(b, offset) })
}

func (f *watchedFile) WriteAt(b []byte, offset int64) (int, error) {
	slot, err := f.volume.begin("write", f.path)
	if err != nil {
		return 0, &fs.PathError{Op: "write", Path: f.path, Err: err}
	}
	defer func() { // both together, so that a sync meanwhile does not take the bytes without the time
		f.waited.Add(int64(f.volume.end(slot) - writeGrace))
		f.unsynced.Add(int64(len(b)))
	}()
	return f.File.WriteAt(b, offset)
}

func (f *watchedFile) Sync() error { return f.sync("fsync", f.File.Sync) }

func (f *watchedFile) Datasync() error { return f.sync("fdatasync", f.File.Datasync) }

// sync counts as one write, together with those of the bytes that it makes durable: a disk is as good as another
// whether it takes the bytes at once and syncs them slowly, or has some writes wait. Writes that no sync follows do not
// count: there may be thousands to one sync of another file.
func (f *watchedFile) sync(op string, run func() error) error {
	slot, err := f.volume.begin(op, f.path)
	if err != nil {
		return &fs.PathError{Op: op, Path: f.path, Err: err}
	}
	f.volume.waitedFor.Add(1)
	defer f.volume.waitedFor.Add(-1)
	bytes, waited := f.unsynced.Swap(0), max(0, time.Duration(f.waited.Swap(0)))
	defer func() { f.volume.writes.Note(lateness.Of(waited+f.volume.end(slot), bytes)) }()
	return run()
}

func (f *watchedFile) Truncate(size int64) error {
	return f.volume.Watch("truncate", f.path, func() error { return f.File.Truncate(size) })
}

func (f *watchedFile) Preallocate(offset, length int64) error {
	return f.volume.Watch("fallocate", f.path, func() error { return f.File.Preallocate(offset, length) })
}

func (f *watchedFile) SyncRange(offset, length int64) error {
	return f.volume.Watch("sync_file_range", f.path, func() error { return f.File.SyncRange(offset, length) })
}

func (f *watchedFile) AwaitRange(offset, length int64) error {
	return f.volume.Watch("sync_file_range", f.path, func() error { return f.File.AwaitRange(offset, length) })
}

func (f *watchedFile) Prefetch(offset, length int64) error {
	return f.volume.Watch("fadvise", f.path, func() error { return f.File.Prefetch(offset, length) })
}

func (f *watchedFile) Uncache(offset, length int64) error {
	return f.volume.Watch("fadvise", f.path, func() error { return f.File.Uncache(offset, length) })
}

func (f *watchedFile) Stat() (fs.FileInfo, error) {
	return watched(f.volume, "stat", f.path, f.File.Stat)
}
