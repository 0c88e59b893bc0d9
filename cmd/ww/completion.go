package main

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/internal/fault"
)

const (
	// completionsMax bounds what one press of the tab key shows.
	completionsMax = 500
	// completionTimeout bounds how long it may take.
	completionTimeout = 2 * time.Second
)

func newCompletion(program *app) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion [flags] bash|zsh|fish|powershell",
		Short: "print a shell's completion script",
		Long: `Print a script that teaches a shell to complete verbs, flags, and paths of the
cluster.`,
		Example: `  source <(ww completion bash)
  ww completion zsh > "${fpath[1]}/_ww"
  ww completion fish > ~/.config/fish/completions/ww.fish`,
		Args:      arguments(1, 1),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			generators := map[string]func(io.Writer) error{
				"bash":       func(w io.Writer) error { return root.GenBashCompletionV2(w, true) },
				"zsh":        root.GenZshCompletion,
				"fish":       func(w io.Writer) error { return root.GenFishCompletion(w, true) },
				"powershell": root.GenPowerShellCompletionWithDesc,
			}
			generate, known := generators[args[0]]
			if !known {
				return usageOf(cmd, "%q is none of %s", args[0], strings.Join(shells, ", "))
			}
			var script bytes.Buffer
			if err := generate(&script); err != nil {
				return fault.New(fault.Internal, "", "%v", err)
			}
			out := program.printer()
			out.object("script", record{"shell": args[0], "script": script.String()})
			out.text("%s", script.String())
			return out.flush()
		},
	}
}

// ofPaths makes cmd take so many paths of the cluster, least to most of them; most < 0: any number.
func (a *app) ofPaths(least, most int, cmd *cobra.Command) *cobra.Command {
	cmd.Args, cmd.ValidArgsFunction = arguments(least, most), a.completeRemote
	return cmd
}

// completeRemote offers paths of the cluster.
func (a *app) completeRemote(cmd *cobra.Command, _ []string, start string) ([]string, cobra.ShellCompDirective) {
	found := a.remotePaths(cmd.Context(), start)
	directive := cobra.ShellCompDirectiveNoFileComp
	if len(found) == 1 && strings.HasSuffix(found[0], "/") {
		directive |= cobra.ShellCompDirectiveNoSpace
	}
	return found, directive
}

// completeTransfer offers local files (the shell knows them) for the first
// argument and paths of the cluster for the others, or the other way round.
func (a *app) completeTransfer(remoteFirst bool) func(*cobra.Command, []string, string) ([]string,
	cobra.ShellCompDirective) {
	return func(cmd *cobra.Command, args []string, start string) ([]string, cobra.ShellCompDirective) {
		if (len(args) == 0) != remoteFirst {
			return nil, cobra.ShellCompDirectiveDefault
		}
		return a.completeRemote(cmd, args, start)
	}
}

// remotePaths lists what begins with start; directories end with "/". An error offers nothing.
func (a *app) remotePaths(ctx context.Context, start string) []string {
	if start == "" && !a.shell {
		start = "/"
	}
	cut := strings.LastIndex(start, "/") + 1
	shownDirectory, prefix := start[:cut], start[cut:]
	directory, err := a.remote(cmp.Or(shownDirectory, "."))
	if err != nil {
		return nil
	}
	ctx = cmp.Or(ctx, context.Background())
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	woods, err := a.connect(ctx)
	if err != nil {
		return nil
	}
	var found []string
	for info, err := range woods.List(ctx, path.Clean(directory)) {
		if err != nil || len(found) == completionsMax {
			break
		}
		if !strings.HasPrefix(info.Name, prefix) {
			continue
		}
		name := shownDirectory + info.Name
		if info.Directory {
			name += "/"
		}
		found = append(found, name)
	}
	return found
}
