package vfs

import (
	"errors"
	"io"
	"syscall"
)

// ReadFull reads all of b; an early end is an error.
func ReadFull(f io.ReaderAt, b []byte, offset int64) error {
	if len(b) == 0 {
		return nil
	}
	n, err := f.ReadAt(b, offset)
	if n == len(b) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// IsFull tells whether an error means that there is no room, which is no sign
// of a bad disk.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
