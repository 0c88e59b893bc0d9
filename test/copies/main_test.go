package copies

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/test/built"
)

// program is the path of the ww under test, for all tests of the package.
var program string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(tests *testing.M) int {
	program = os.Getenv("COPIES_PROGRAM")
	if program == "" {
		directory, err := os.MkdirTemp("", "ww-copies-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(directory)
		options := built.Options{Module: "../..", Directory: directory, Race: os.Getenv("E2E_RACE") == "1"}
		if program, err = built.Program(options); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return tests.Run()
}

// setting reads a number from the environment.
func setting(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err, name)
	return n
}

// pause lets time pass, and reports whether the context still lasts.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
