package main

import (
	"errors"
	"path"
	"slices"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/cmd/ww/internal/transfer"
	"github.com/whispering-woods/ww/internal/fault"
)

func newCp(program *app) *cobra.Command {
	var flags transferFlags
	cmd := program.ofPaths(2, -1, &cobra.Command{
		Use:   "cp [flags] SOURCE… TARGET",
		Short: "copy files within the cluster",
		Long: `Copy files within the cluster. The datanodes copy the bytes among themselves,
unless the source is being written or the copy gets another chunk size: then
the bytes pass through this process. A copy appears when it is complete, and has
the replication and chunk size of its source unless flags say otherwise.`,
		Example: `  ww cp /a/report.pdf /b/
  ww cp -r /photos /photos-copy`,
	})
	flags.register(cmd, true)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		options, err := flags.options()
		if err != nil {
			return err
		}
		paths, err := program.remotes(args)
		if err != nil {
			return err
		}
		sources, target := paths[:len(paths)-1], paths[len(paths)-1]
		woods, err := program.connectWithin(ctx, flags.bandwidth)
		if err != nil {
			return err
		}
		list, err := pairs(sources, target, remoteBase, path.Join, func() (bool, error) {
			return remoteDirectory(ctx, woods, target, args[len(args)-1], len(sources), flags.parents)
		})
		if err != nil {
			return err
		}
		return program.transfer(ctx, "cp", woods, transfer.Copy, list, options)
	}
	return cmd
}

func newMv(program *app) *cobra.Command {
	var force bool
	cmd := program.ofPaths(2, -1, &cobra.Command{
		Use:   "mv [flags] SOURCE… TARGET",
		Short: "rename or move files and directories",
		Long: `Rename files and directories; each rename happens in one step. With several
sources, or a TARGET that is a directory, they keep their names below TARGET.`,
		Example: `  ww mv /a.txt /b.txt
  ww mv -f /new.csv /data/current.csv
  ww mv /a /b /c /archive/`,
	})
	cmd.Flags().BoolVarP(&force, "force", "f", false, "overwrite existing files")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		paths, err := program.remotes(args)
		if err != nil {
			return err
		}
		sources, target := paths[:len(paths)-1], paths[len(paths)-1]
		woods, err := program.connect(ctx)
		if err != nil {
			return err
		}
		list, err := pairs(sources, target, remoteBase, path.Join, func() (bool, error) {
			return remoteDirectory(ctx, woods, target, args[len(args)-1], len(sources), false)
		})
		if err != nil {
			return err
		}
		out, failed := program.printer(), failures{total: len(list)}
		for _, pair := range list {
			err := woods.Rename(ctx, pair.Source, pair.Target, client.RenameOptions{Overwrite: force})
			if err != nil {
				if ctx.Err() != nil {
					return out.done(err)
				}
				program.complain("mv", &failed, hintOverwrite(err, force))
				continue
			}
			out.object("moved", record{"source": pair.Source, "target": pair.Target})
		}
		return out.done(failed.err())
	}
	return cmd
}

// hintOverwrite says what to do about an existing target, in words of this
// program. forced: it was to be overwritten, and cannot be.
func hintOverwrite(err error, forced bool) error {
	hint := "use -f to overwrite"
	if forced {
		hint = "-f replaces a file by a file, nothing else"
	}
	return withHint(err, hint, fault.Exists)
}

// withHint replaces the hint of an error of one of the kinds.
func withHint(err error, hint string, kinds ...fault.Kind) error {
	var e *fault.Error
	if errors.As(err, &e) && slices.Contains(kinds, e.Kind) {
		with := *e
		with.Hint = hint
		return &with
	}
	return err
}
