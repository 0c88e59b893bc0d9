package vfs

import (
	"io/fs"
	"syscall"
)

// Device is the file system that a file is on; 0 if it is not known. A directory on another one than its parent is
// a mount point.
func Device(info fs.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Dev
	}
	return 0
}
