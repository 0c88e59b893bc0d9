// Package profiling writes one pprof profile of a process, from Start until the
// returned stop, through github.com/pkg/profile. It owns the profile's file and
// no goroutine. At most one profile runs in a process (a limit of the runtime).
package profiling

import (
	"os"
	"slices"
	"strings"

	"github.com/pkg/profile"

	"github.com/whispering-woods/ww/internal/fault"
)

type mode struct {
	name  string
	apply func(*profile.Profile)
}

// modes by their names; read only.
var modes = []mode{
	{"cpu", profile.CPUProfile},
	{"mem", profile.MemProfileAllocs},
	{"heap", profile.MemProfileHeap},
	{"mutex", profile.MutexProfile},
	{"block", profile.BlockProfile},
	{"goroutine", profile.GoroutineProfile},
	{"trace", profile.TraceProfile},
}

// Modes lists what Start accepts, for help texts.
func Modes() string {
	names := make([]string, len(modes))
	for i, m := range modes {
		names[i] = m.name
	}
	return strings.Join(names, "|")
}

// Start begins the named profile; stop ends it and writes it to a file of that kind (cpu.pprof, mem.pprof, …,
// trace.out) in directory, which is made. An empty name profiles nothing. Errors: fault.Invalid for a name that
// Modes does not list, fault.Disk when the directory cannot be made.
func Start(name, directory string) (stop func(), err error) {
	const op = "profile"
	if name == "" {
		return func() {}, nil
	}
	i := slices.IndexFunc(modes, func(m mode) bool { return m.name == name })
	if i < 0 {
		return nil, fault.New(fault.Invalid, op, "kind %q is not one of %s", name, Modes())
	}
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return nil, &fault.Error{Kind: fault.Disk, Op: op, Path: directory, Err: err}
	}
	// The process handles its signals itself and calls stop on its way out.
	p := profile.Start(modes[i].apply, profile.ProfilePath(directory), profile.NoShutdownHook, profile.Quiet)
	return p.Stop, nil
}
