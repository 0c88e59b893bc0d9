// Package built makes the program for tests that run it.
package built

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Options says how Program makes the program.
type Options struct {
	Module    string // directory of the module's root
	Directory string // where the program goes
	Race      bool   // with the race detector; needs a C compiler
}

// Program builds ww and returns its path.
func Program(options Options) (string, error) {
	target := filepath.Join(options.Directory, "ww")
	args := []string{"build", "-buildvcs=false", "-o", target}
	environment := append(os.Environ(), "CGO_ENABLED=0")
	if options.Race {
		args = append(args, "-race")
		environment = append(os.Environ(), "CGO_ENABLED=1")
	}
	command := exec.Command("go", append(args, "./cmd/ww")...)
	command.Dir, command.Env = options.Module, environment
	if out, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build ww: %w\n%s", err, out)
	}
	return target, nil
}
