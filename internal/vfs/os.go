package vfs

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// OS is the file system of the machine. Its zero value is ready.
type OS struct{}

var _ FS = OS{}

// OpenFile is os.OpenFile.
func (OS) OpenFile(path string, flag int, perm fs.FileMode) (File, error) {
	file, err := os.OpenFile(path, flag, perm)
	if err != nil {
		return nil, err
	}
	return &osFile{File: file, fd: int(file.Fd())}, nil
}

// MkdirAll is os.MkdirAll.
func (OS) MkdirAll(path string, perm fs.FileMode) error { return os.MkdirAll(path, perm) }

// Rename is rename(2).
func (OS) Rename(source, target string) error { return os.Rename(source, target) }

// Remove is os.Remove.
func (OS) Remove(path string) error { return os.Remove(path) }

// ReadDir is os.ReadDir.
func (OS) ReadDir(path string) ([]fs.DirEntry, error) { return os.ReadDir(path) }

// Stat is os.Stat.
func (OS) Stat(path string) (fs.FileInfo, error) { return os.Stat(path) }

// SyncDir is fsync(2) of the directory.
func (OS) SyncDir(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return err
	}
	err = directory.Sync()
	return errors.Join(err, directory.Close())
}

// StatFS is statfs(2).
func (OS) StatFS(path string) (Space, error) {
	var s unix.Statfs_t
	err := retry(func() error { return unix.Statfs(path, &s) })
	if err != nil {
		return Space{}, &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	return Space{Capacity: int64(s.Blocks) * s.Bsize, Free: int64(s.Bavail) * s.Bsize}, nil
}

// osFile adds to os.File the calls that package os lacks. fd stays valid until
// Close, which the caller keeps apart from every other call.
type osFile struct {
	*os.File
	fd int
}

func (f *osFile) Datasync() error {
	return f.call("fdatasync", func() error { return unix.Fdatasync(f.fd) })
}

func (f *osFile) Preallocate(offset, length int64) error {
	return f.call("fallocate", func() error {
		return unix.Fallocate(f.fd, unix.FALLOC_FL_KEEP_SIZE, offset, length)
	}, syscall.EOPNOTSUPP, syscall.ENOSYS)
}

func (f *osFile) SyncRange(offset, length int64) error {
	return f.call("sync_file_range", func() error {
		return unix.SyncFileRange(f.fd, offset, length, unix.SYNC_FILE_RANGE_WRITE)
	}, syscall.ENOSYS, syscall.ESPIPE, syscall.EINVAL) // it is only a hint
}

func (f *osFile) AwaitRange(offset, length int64) error {
	return f.call("sync_file_range", func() error {
		return unix.SyncFileRange(f.fd, offset, length, unix.SYNC_FILE_RANGE_WAIT_BEFORE)
	}, syscall.ENOSYS, syscall.ESPIPE, syscall.EINVAL)
}

func (f *osFile) Prefetch(offset, length int64) error {
	return f.call("fadvise", func() error { return unix.Fadvise(f.fd, offset, length, unix.FADV_WILLNEED) },
		syscall.ENOSYS, syscall.ESPIPE, syscall.EINVAL)
}

func (f *osFile) Uncache(offset, length int64) error {
	return f.call("fadvise", func() error { return unix.Fadvise(f.fd, offset, length, unix.FADV_DONTNEED) },
		syscall.ENOSYS, syscall.ESPIPE, syscall.EINVAL)
}

func (f *osFile) OSFile() *os.File { return f.File }

// call makes a system call; the errors that say that it is not supported here are none.
func (f *osFile) call(op string, call func() error, unsupported ...syscall.Errno) error {
	err := retry(call)
	if number, ok := err.(syscall.Errno); err == nil || ok && slices.Contains(unsupported, number) {
		return nil
	}
	return &fs.PathError{Op: op, Path: f.Name(), Err: err}
}

// retry repeats a system call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); err != syscall.EINTR {
			return err
		}
	}
}
