package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

func newRm(program *app) *cobra.Command {
	var recursive, force, skipTrash bool
	cmd := program.ofPaths(1, -1, &cobra.Command{
		Use:     "rm [flags] PATH…",
		Aliases: []string{"delete"},
		Short:   "remove files and directories",
		Long: `Remove files, and with -r directories with everything in them. An empty
directory needs no -r. With -f, a path that does not exist is not an error.

If the namenode keeps what is removed (namenode.trash_expiry), it is moved to /.trash/USER, with its path and the
minute in its name there: ww undelete brings it back until its time is over. What is removed there, or with
--skip-trash, is gone.`,
		Example: `  ww rm /old.log
  ww rm -r /photos-copy
  ww rm --skip-trash /big.tmp`,
	})
	cmd.Flags().BoolVarP(&recursive, "recursive", "r", false, "directories with everything in them")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "ignore paths that do not exist")
	cmd.Flags().BoolVar(&skipTrash, "skip-trash", false, "delete for good, also if what is removed is kept")
	cmd.RunE = program.eachPath(func(ctx context.Context, woods *client.Client, out *printer, path string) error {
		if path == "/" {
			return &fault.Error{Kind: fault.Invalid, Path: path, Reason: "the root cannot be removed"}
		}
		removed, err := woods.Remove(ctx, path, client.RemoveOptions{Recursive: recursive, Trash: !skipTrash})
		if force && errors.Is(err, fault.NotFound) {
			err = nil
		}
		if err != nil {
			return withHint(err, "use -r to remove it with everything in it", fault.NotEmpty, fault.IsDirectory)
		}
		out.object("removed", record{
			"path": path, "files": removed.Files, "directories": removed.Directories, "bytes": removed.Bytes,
			"trashed": removed.Trashed, "trash_path": removed.TrashPath,
		})
		if removed.Trashed {
			program.note("%s is in the trash: ww undelete brings it back", shown(path))
		}
		return nil
	})
	return cmd
}

func newMkdir(program *app) *cobra.Command {
	var parents bool
	cmd := program.ofPaths(1, -1, &cobra.Command{
		Use:     "mkdir [flags] PATH…",
		Short:   "make directories",
		Example: "  ww mkdir /photos\n  ww mkdir -p /logs/2026/11",
	})
	cmd.Flags().BoolVarP(&parents, "parents", "p", false, "make missing parents too; an existing directory is no error")
	cmd.RunE = program.eachPath(func(ctx context.Context, woods *client.Client, out *printer, path string) error {
		if err := woods.Mkdir(ctx, path, client.MkdirOptions{Parents: parents}); err != nil {
			return err
		}
		out.object("directory", record{"path": path})
		return nil
	})
	return cmd
}

func newTouch(program *app) *cobra.Command {
	var flags transferFlags
	var parents bool
	cmd := program.ofPaths(1, -1, &cobra.Command{
		Use:   "touch [flags] PATH…",
		Short: "make empty files where there are none",
		Long: "Make an empty file at each path that does not exist. Existing files and\n" +
			"directories stay as they are.",
		Example: "  ww touch /done",
	})
	cmd.Flags().BoolVarP(&parents, "parents", "p", false, "make missing parent directories")
	flags.parallel = 1
	flags.registerCreate(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		options, err := flags.options()
		if err != nil {
			return err
		}
		return program.eachPath(func(ctx context.Context, woods *client.Client, out *printer, path string) error {
			w, err := woods.Create(ctx, path, client.CreateOptions{
				Parents: parents, Replication: options.Replication, ChunkSize: options.ChunkSize,
				VisibleOnComplete: true,
			})
			made := err == nil
			if made {
				err = w.Close()
			}
			if errors.Is(err, fault.Exists) || errors.Is(err, fault.IsDirectory) || errors.Is(err, fault.LeaseHeld) {
				made, err = false, nil
			}
			if err == nil {
				out.object("touched", record{"path": path, "created": made})
			}
			return err
		})(cmd, args)
	}
	return cmd
}
