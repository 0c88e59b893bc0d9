package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/cmd/ww/internal/demo"
	"github.com/whispering-woods/ww/daemon/config"
	"github.com/whispering-woods/ww/internal/fault"
)

func newDemo(parent *app) *cobra.Command {
	var tree, size, directory string
	cmd := &cobra.Command{
		Use:   "demo [flags]",
		Short: "show what a cluster does with real files",
		Long: `Start a small cluster in a temporary directory, store a tree and a big file,
list, fetch, append, restart the cluster, fetch again, delete. Every byte that
comes back is compared; any difference is an error. Nothing is left behind.`,
		Example: "  ww demo\n  ww demo --tree /usr/share/doc --size 64MiB",
		Args:    arguments(0, 0),
	}
	cmd.Flags().StringVar(&tree, "tree", "", "local `directory` to store; default: the Go installation's src")
	cmd.Flags().StringVar(&size, "size", "512MiB", "size of the generated file")
	cmd.Flags().StringVar(&directory, "in", "", "`directory` for the temporary files; default: the system's")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		bytes, err := config.ParseSize(size)
		if err != nil {
			return usage("--size: %v", err)
		}
		if tree == "" {
			root, err := exec.CommandContext(cmd.Context(), "go", "env", "GOROOT").Output()
			if err != nil {
				return withHint(fault.New(fault.NotFound, "", "the Go installation is not found: %v", err),
					"name a tree with --tree", fault.NotFound)
			}
			tree = filepath.Join(strings.TrimSpace(string(root)), "src")
		}
		program, err := os.Executable()
		if err != nil {
			return fault.New(fault.Internal, "", "the path of this program is not known: %v", err)
		}
		return demo.Run(cmd.Context(), demo.Options{
			Program: program, Tree: filepath.Clean(tree), FileBytes: int64(bytes), Directory: directory,
			Output: parent.lines(),
		})
	}
	return cmd
}

// lines is stdout for text of one line per Write; under --json each becomes an object.
func (a *app) lines() io.Writer {
	if !a.global.json {
		return a.stdout
	}
	return jsonLines{a.printer()}
}

type jsonLines struct{ out *printer }

func (l jsonLines) Write(line []byte) (int, error) {
	l.out.object("line", record{"text": strings.TrimSuffix(string(line), "\n")})
	return len(line), l.out.flush()
}
