package vfs

import (
	"errors"
	"io/fs"
	"syscall"

	"github.com/whispering-woods/ww/internal/fault"
)

// IsFull tells whether an error means that there is no room, which is no sign of a bad disk.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// IsShortage tells whether the process or the machine ran out of files or
// memory: neither the disk nor the file is to blame, and later it may work.
func IsShortage(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// Fault wraps an I/O error: fault.NoSpace for a full disk, fault.Busy for a
// shortage of files or memory, else fault.Disk.
func Fault(op, path string, err error) *fault.Error {
	failure := &fault.Error{Kind: fault.Disk, Op: op, Path: path, Err: err}
	switch {
	case IsFull(err):
		failure.Kind = fault.NoSpace
		failure.Hint = "free space on this disk, or add one; datanode.reserve keeps room for what is being written"
	case IsShortage(err):
		failure.Kind = fault.Busy
		failure.Hint = "raise the limit on open files (ulimit -n) or memory"
	}
	return failure
}

// FaultOf makes an I/O error a fault of the file that it names: fault.NoSpace for
// a full disk, else fault.Disk. nil and a fault stay as they are.
func FaultOf(op string, err error) error {
	var known *fault.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	e := &fault.Error{Kind: fault.Disk, Op: op, Err: err}
	if IsFull(err) {
		e.Kind = fault.NoSpace
	}
	var at *fs.PathError
	if errors.As(err, &at) {
		e.Path, e.Reason, e.Err = at.Path, at.Op, at.Err
	}
	return e
}
