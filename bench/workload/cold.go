package workload

import (
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/whispering-woods/ww/internal/fault"
)

// DropPages makes the kernel forget the pages of all files below local directories, so that the next read of them
// comes from the disk. Dirty pages are written first. Files that vanish meanwhile are fine.
func DropPages(directories []string) error {
	for _, directory := range directories {
		err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
			if os.IsNotExist(err) || err == nil && !entry.Type().IsRegular() {
				return nil
			}
			if err != nil {
				return err
			}
			file, err := os.Open(path)
			if os.IsNotExist(err) {
				return nil
			}
			if err != nil {
				return err
			}
			defer file.Close()
			if err := unix.Fdatasync(int(file.Fd())); err != nil {
				return err
			}
			return unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED)
		})
		if err != nil {
			return &fault.Error{Kind: fault.Disk, Op: "drop the page cache", Path: directory, Err: err}
		}
	}
	return nil
}
