package daemon

import (
	"os"
	"runtime/debug"

	"github.com/whispering-woods/ww/daemon/config"
)

// TuneRuntime sets the garbage collector of this process: a program calls it
// once, before it starts a daemon. What the environment says (GOGC, GOMEMLIMIT)
// stays in force; 0 changes nothing.
func TuneRuntime(gcPercent int, limit config.Size) {
	if gcPercent > 0 && os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if limit > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(limit))
	}
}
