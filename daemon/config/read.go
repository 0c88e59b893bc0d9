package config

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/whispering-woods/ww/internal/fault"
)

// readBounded reads a configuration file of at most fileBytesMax bytes.
func readBounded(path string) ([]byte, error) {
	refuse := func(format string, args ...any) error {
		return fault.WithPath(fault.New(fault.Invalid, "config", format, args...), path)
	}
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, refuse("the configuration file does not exist")
	case err != nil:
		return nil, refuse("the configuration file cannot be read: %v", err)
	}
	defer f.Close() // read only
	text, err := io.ReadAll(io.LimitReader(f, fileBytesMax+1))
	switch {
	case err != nil:
		return nil, refuse("the configuration file cannot be read: %v", err)
	case len(text) > fileBytesMax:
		return nil, refuse("the configuration file has more than %d bytes", fileBytesMax)
	}
	return text, nil
}
