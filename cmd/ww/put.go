package main

import (
	"context"
	"path"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/cmd/ww/internal/transfer"
)

func newPut(program *app) *cobra.Command {
	var flags transferFlags
	cmd := &cobra.Command{
		Use:     "put [flags] SOURCE… TARGET",
		Aliases: []string{"store"},
		Short:   "store local files",
		Long: `Store local files in the cluster.

A file appears under its name only when all of it is on the disk of every
replica. With several sources, or a TARGET that is a directory or ends with
"/", files keep their names below TARGET. "-" stores standard input.
When a file fails, the others continue; each failure is reported.`,
		Example: `  ww put report.pdf /reports/2026.pdf
  ww put -f *.log /logs/
  ww put -r ~/photos /photos
  tar c src | ww put - /backup/src.tar`,
		Args:              arguments(2, -1),
		ValidArgsFunction: program.completeTransfer(false),
	}
	flags.register(cmd, true)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		options, err := flags.options()
		if err != nil {
			return err
		}
		sources, argument := args[:len(args)-1], args[len(args)-1]
		target, err := program.remote(argument)
		if err != nil {
			return err
		}
		if slices.Contains(sources, "-") && len(sources) > 1 {
			return usageOf(cmd, `"-" cannot stand beside other sources`)
		}
		woods, err := program.connectWithin(ctx, flags.bandwidth)
		if err != nil {
			return err
		}
		list, err := pairs(sources, target, localBase, path.Join, func() (bool, error) {
			return remoteDirectory(ctx, woods, target, argument, len(sources), flags.parents)
		})
		if err != nil {
			return err
		}
		if sources[0] == "-" {
			return program.putStdin(ctx, woods, list[0].Target, target, options)
		}
		return program.transfer(ctx, "put", woods, transfer.Put, list, options)
	}
	return cmd
}

// putStdin stores standard input; named is where it would go, wanted what was asked for.
func (a *app) putStdin(ctx context.Context, woods *client.Client, named, wanted string,
	options transfer.Options) error {
	if named != wanted {
		return usage("%q is a directory: standard input has no name to get there — add one", wanted)
	}
	bar := a.progress("put")
	options.Progress = bar.moved
	start := time.Now()
	n, slow, err := transfer.PutStream(ctx, woods, a.stdin, wanted, options)
	bar.end()
	if err != nil {
		return hintOverwrite(err, options.Overwrite)
	}
	out := a.printer()
	result := record{"verb": "put", "source": "-", "target": wanted, "bytes": n, "seconds": seconds(time.Since(start))}
	addSlow(result, slow)
	out.object("file", result)
	return out.flush()
}
