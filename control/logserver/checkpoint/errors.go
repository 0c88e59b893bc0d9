package checkpoint

import (
	"errors"
	"io"

	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// corrupt is damage in a checkpoint's bytes.
func corrupt(format string, args ...any) error {
	return fault.New(fault.CorruptData, "read checkpoint", format, args...)
}

// endsEarly makes an end inside something damage; other errors are the disk's.
func endsEarly(err error, where string) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return corrupt("the file ends %s", where)
	}
	return vfs.FaultOf("read checkpoint", err)
}

// InFile adds the path to an error.
func InFile(path string, err error) error {
	var e *fault.Error
	if errors.As(err, &e) && e.Path == "" {
		named := *e
		named.Path = path
		return &named
	}
	return err
}
