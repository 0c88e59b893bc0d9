// Package vfs is the seam between storage code and the disk. Storage code takes
// an FS and never calls package os, so that a test decides what a disk does.
//
// OS is the implementation of programs (Linux system calls). Package simdisk has those of tests: a disk in memory,
// with a model of what a power failure leaves behind, and one that fails by rule. All pass one conformance suite.
//
// Errors are those of package os: *fs.PathError around a syscall.Errno, so errors.Is with fs.ErrNotExist or
// syscall.ENOSPC works on all of them. The package starts no goroutine and caches nothing.
package vfs

import (
	"io"
	"io/fs"
	"os"
)

// FS is one file system tree. Paths are slash-separated and cleaned by the callee. Safe for concurrent use.
type FS interface {
	// OpenFile opens a file as os.OpenFile does; flag is a set of os.O_*.
	OpenFile(path string, flag int, perm fs.FileMode) (File, error)
	// MkdirAll makes a directory and its parents. The new entries are durable only after SyncDir of each parent.
	MkdirAll(path string, perm fs.FileMode) error
	// Rename moves a file, also over an existing one, in one step. After a power failure either the old or the new
	// state is seen; the new one for sure only after SyncDir of the directories involved.
	Rename(source, target string) error
	// Remove unlinks a file or an empty directory. Open files stay readable.
	Remove(path string) error
	// ReadDir lists a directory, sorted by name.
	ReadDir(path string) ([]fs.DirEntry, error)
	// Stat describes a file or directory.
	Stat(path string) (fs.FileInfo, error)
	// SyncDir makes a directory's entries durable.
	SyncDir(path string) error
	// StatFS tells the space of the file system that holds path.
	StatFS(path string) (Space, error)
	// Lock takes an exclusive lock on the file at path, which it creates if needed, without waiting; held elsewhere: an
	// error that matches syscall.EWOULDBLOCK. The lock ends with Close of the result, or with the process.
	Lock(path string) (io.Closer, error)
}

// File is an open file. ReadAt and WriteAt may run concurrently; Close only when nothing else runs.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Sync makes data and all metadata durable (fsync).
	Sync() error
	// Datasync makes data and the metadata needed to read it durable (fdatasync).
	Datasync() error
	// Truncate sets the size in bytes.
	Truncate(size int64) error
	// Preallocate reserves blocks for the range without changing the size. A file system that cannot do it returns nil.
	Preallocate(offset, length int64) error
	// SyncRange starts write-out of the dirty pages of the range and does not
	// wait for it. It promises nothing about durability.
	SyncRange(offset, length int64) error
	// AwaitRange waits until the write-out of the range that is under way is over. It promises nothing about
	// durability. An error may be told only here: a later sync of the file may return none.
	AwaitRange(offset, length int64) error
	// Prefetch begins to read the range into the page cache and does not wait for it. It is a hint.
	Prefetch(offset, length int64) error
	// Uncache drops the clean pages of the range from the page cache, so that the next read comes from the disk. It
	// is a hint.
	Uncache(offset, length int64) error
	// Stat describes the file.
	Stat() (fs.FileInfo, error)
	// OSFile is the file of the operating system behind this one, for
	// sendfile; nil if there is none. It belongs to the File.
	OSFile() *os.File
	// Close releases the file. It syncs nothing.
	Close() error
}

// Space is the room of a file system, in bytes.
type Space struct {
	Capacity int64
	Free     int64 // for a process without privileges
}
