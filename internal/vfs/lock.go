package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/whispering-woods/ww/internal/fault"
)

// Lock is flock(2), exclusive, without waiting. The kernel drops the lock when the process ends, however it ends.
func (OS) Lock(path string) (io.Closer, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(file, unix.LOCK_EX); err != nil {
		return nil, err
	}
	return file, nil
}

// flock locks an open file, or closes it.
func flock(file *os.File, how int) error {
	err := retry(func() error { return unix.Flock(int(file.Fd()), how|unix.LOCK_NB) })
	if err != nil {
		return errors.Join(&fs.PathError{Op: "flock", Path: file.Name(), Err: err}, file.Close())
	}
	return nil
}

// LockDirectory takes the lock of a directory on this machine, which is a file in it, for a whole process:
// exclusive to change what is there, shared to look at it. Closing the result releases the lock. The file names an
// exclusive holder, for people. Errors: fault.Busy naming the process that holds it, and the operating system's.
func LockDirectory(directory, name string, exclusive bool) (io.Closer, error) {
	path := filepath.Join(directory, name)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil && !exclusive { // a copy that may only be read
		file, err = os.Open(path)
	}
	if err != nil {
		return nil, err
	}
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	if err := flock(file, how); err != nil {
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, err
		}
		holder, _ := os.ReadFile(path) // only for the message
		return nil, &fault.Error{Kind: fault.Busy, Op: "lock directory", Path: directory,
			Reason: "another process uses the directory: " + strings.TrimSpace(string(holder)),
			Hint:   "stop it first, or use another directory"}
	}
	if exclusive {
		if err := file.Truncate(0); err == nil {
			_, _ = file.WriteAt(fmt.Appendf(nil, "pid %d\n", os.Getpid()), 0)
		}
	}
	return file, nil
}
