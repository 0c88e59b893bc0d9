package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/whispering-woods/ww/internal/fault"
)

// lockDirectory makes the directory if it is missing and takes it for this
// process until the returned function is called or the process ends. Errors:
// fault.Busy with the holder's process id, fault.Disk.
func lockDirectory(directory string) (unlock func() error, err error) {
	refuse := func(kind fault.Kind, cause error) error {
		return &fault.Error{Kind: kind, Op: "mini", Path: directory, Err: cause}
	}
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return nil, refuse(fault.Disk, err)
	}
	f, err := os.OpenFile(filepath.Join(directory, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, refuse(fault.Disk, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder, _ := io.ReadAll(io.LimitReader(f, 32)) // only for the message
		_ = f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, refuse(fault.Disk, err)
		}
		e := fault.New(fault.Busy, "mini", "another process uses the directory (process %s)", strings.TrimSpace(string(holder)))
		e.Path, e.Hint = directory, "stop it, or use another --dir"
		return nil, e
	}
	if err := errors.Join(f.Truncate(0), writeAt(f, fmt.Sprintf("%d\n", os.Getpid()))); err != nil {
		_ = f.Close() // the first error counts
		return nil, refuse(fault.Disk, err)
	}
	return f.Close, nil // closing the last descriptor ends the lock
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}
