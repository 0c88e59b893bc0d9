package workload

import (
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/whispering-woods/ww/internal/fault"
)

// dropPages makes the kernel forget the pages of all files below local
// directories, so that the next read of them comes from the disk. Dirty pages
// are written first. Files that vanish meanwhile are fine.
func dropPages(directories []string) error {
	for _, directory := range directories {
		err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
			if os.IsNotExist(err) || err == nil && !entry.Type().IsRegular() {
				return nil
			}
			if err != nil {
				return err
			}
			f, err := os.Open(path)
			if os.IsNotExist(err) {
				return nil
			}
			if err != nil {
				return err
			}
			defer f.Close()
			if err := unix.Fdatasync(int(f.Fd())); err != nil {
				return err
			}
			return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
		})
		if err != nil {
			return &fault.Error{Kind: fault.Disk, Op: "drop the page cache", Path: directory, Err: err}
		}
	}
	return nil
}
