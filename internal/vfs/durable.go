package vfs

import (
	"errors"
	"os"
	"path"
)

// WriteDurably makes a small file in one step: after a crash it is there whole, or what was there before. An error
// leaves one of the two, and perhaps the file under its temporary name, which the next call overwrites.
func WriteDurably(fsys FS, name string, content []byte) error {
	temporary := name + ".tmp"
	file, err := fsys.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(content, 0)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(temporary, name); err != nil {
		return err
	}
	return fsys.SyncDir(path.Dir(name))
}
