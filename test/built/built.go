package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// BuildOptions says how Build makes the program.
type BuildOptions struct {
	Module    string // directory of the module's root
	Directory string // where the program goes
	Race      bool   // with the race detector; needs a C compiler
}

// Build builds ww and returns its path.
func Build(options BuildOptions) (string, error) {
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
