package logserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/whispering-woods/ww/internal/fault"
)

// lockName is the file whose flock keeps a second process out. The kernel
// drops it when the process ends, however it ends.
const lockName = "LOCK"

// lockDirectory takes the lock of dir: exclusive to serve, shared to look.
// The caller closes the file to give it back. Errors: fault.Busy with the
// other process's number.
func lockDirectory(dir string, exclusive bool) (*os.File, error) {
	const op = "lock log directory"
	path := filepath.Join(dir, lockName)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil && !exclusive { // a copy that may only be read
		file, err = os.Open(path)
	}
	if err != nil {
		return nil, diskFault(op, err)
	}
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	if err := unix.Flock(int(file.Fd()), how|unix.LOCK_NB); err != nil {
		defer file.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, diskFault(op, err)
		}
		holder, _ := os.ReadFile(path)
		return nil, &fault.Error{Kind: fault.Busy, Op: op, Path: dir,
			Reason: "another process uses the directory: " + strings.TrimSpace(string(holder)), Hint: "stop it first"}
	}
	if exclusive { // for people only
		if err := file.Truncate(0); err == nil {
			_, _ = file.WriteAt(fmt.Appendf(nil, "pid %d\n", os.Getpid()), 0)
		}
	}
	return file, nil
}
