package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/cmd/ww/internal/transfer"
	"github.com/whispering-woods/ww/internal/fault"
)

func newGet(program *app) *cobra.Command {
	var flags transferFlags
	cmd := &cobra.Command{
		Use:     "get [flags] SOURCE… [TARGET]",
		Aliases: []string{"fetch"},
		Short:   "fetch files",
		Long: `Fetch files of the cluster. Without a TARGET they go to the current
directory; "-" is standard output.

Every byte is checked against its checksum; a bad or missing copy is read from
another replica. A file gets its local name only when it is complete, so a
partial file never has that name, whatever happens.`,
		Example: `  ww get /reports/2026.pdf
  ww get /reports/2026.pdf /tmp/r.pdf
  ww get -r /photos ~/restored
  ww get /backup/src.tar - | tar x`,
		Args:              arguments(1, -1),
		ValidArgsFunction: program.completeTransfer(true),
	}
	flags.register(cmd, false)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		options, err := flags.options()
		if err != nil {
			return err
		}
		sources, target := args, "."
		if len(args) > 1 {
			sources, target = args[:len(args)-1], args[len(args)-1]
		}
		if target == "" {
			return usageOf(cmd, "the local target is empty")
		}
		paths, err := program.remotes(sources)
		if err != nil {
			return err
		}
		woods, err := program.connectWithin(ctx, flags.bandwidth)
		if err != nil {
			return err
		}
		if target == "-" {
			return program.catAll(ctx, "get", paths, span{length: -1})
		}
		list, err := pairs(paths, target, remoteBase, filepath.Join, func() (bool, error) {
			return localDirectory(target, len(paths), flags.parents)
		})
		if err != nil {
			return err
		}
		if flags.parents {
			for _, p := range list {
				if err := os.MkdirAll(filepath.Dir(p.Target), 0o777); err != nil {
					return transfer.LocalError("create", filepath.Dir(p.Target), err)
				}
			}
		}
		return program.transfer(ctx, "get", woods, transfer.Get, list, options)
	}
	return cmd
}

// localDirectory asks whether a fetch goes into the target; see remoteDirectory.
func localDirectory(target string, sources int, create bool) (bool, error) {
	must := sources > 1 || strings.HasSuffix(target, "/")
	info, err := os.Stat(target)
	switch {
	case err == nil && info.IsDir():
		return true, nil
	case err == nil && must:
		return false, &fault.Error{Kind: fault.NotDirectory, Path: target, Reason: "is not a directory"}
	case err == nil || !must && os.IsNotExist(err):
		return false, nil
	case os.IsNotExist(err) && create:
		return true, transfer.LocalError("create", target, os.MkdirAll(target, 0o777))
	}
	return false, transfer.LocalError("write to", target, err)
}

// catAll writes files to standard output one after the other.
func (a *app) catAll(ctx context.Context, verb string, paths []string, part span) error {
	return a.eachOf(ctx, verb, paths, func(ctx context.Context, woods *client.Client, _ *printer, path string) error {
		return a.copyOut(ctx, woods, path, part)
	})
}
