package daemon

import (
	"os"
	"runtime/debug"

	"github.com/whispering-woods/ww/daemon/config"
)

// runtimeOptions are those of the garbage collector of this process; 0 leaves what it has.
type runtimeOptions struct {
	gcPercent   int
	memoryLimit config.Size
}

// apply sets the garbage collector. What the environment says (GOGC, GOMEMLIMIT) stays in force.
func (r runtimeOptions) apply() {
	if r.gcPercent > 0 && os.Getenv("GOGC") == "" {
		debug.SetGCPercent(r.gcPercent)
	}
	if r.memoryLimit > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(r.memoryLimit))
	}
}
