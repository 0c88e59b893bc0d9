package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

func newUndelete(program *app) *cobra.Command {
	var list bool
	var options client.UndeleteOptions
	cmd := program.ofPaths(1, -1, &cobra.Command{
		Use:   "undelete [flags] PATH…",
		Short: "bring back what ww rm moved to the trash",
		Long: `Bring back files and directories that ww rm moved to the trash: of each PATH the newest version, or
with --from an older one. Missing directories on the way are made; what is at PATH stays, and is an error. With --list
it shows the versions, the newest first, with the minute in which each was removed, and brings nothing back.

The trash is the directory /.trash/USER, if the namenode keeps what is removed (namenode.trash_expiry). What was
removed with its directory can be brought back alone, too: its path in the trash is that of before.`,
		Example: `  ww undelete /photos/1.jpg
  ww undelete --list /photos/1.jpg
  ww undelete --from 20261201T0914Z-002 /photos/1.jpg
  ww ls -l /.trash/$USER`,
	})
	cmd.Flags().BoolVar(&list, "list", false, "show what there is, and leave it there")
	cmd.Flags().StringVar(&options.From, "from", "", "a version that --list shows; empty: the newest")
	cmd.Flags().StringVar(&options.User, "user", "", "whose trash; empty: that of the user who runs ww")
	cmd.RunE = program.eachPath(func(ctx context.Context, woods *client.Client, out *printer, path string) error {
		if list {
			return out.deleted(ctx, woods, path, options)
		}
		found, err := woods.Undelete(ctx, path, options)
		if err != nil {
			return withHint(err, "move what is there away first", fault.Exists)
		}
		out.object("undeleted", deletedRecord(path, found))
		program.note("%s is back, as it was removed at %s", shown(path), found.Removed.Local().Format(time.DateTime))
		return nil
	})
	return cmd
}

// deleted lists what the trash has of a path.
func (p *printer) deleted(ctx context.Context, woods *client.Client, path string, o client.UndeleteOptions) error {
	versions := 0
	for found, err := range woods.ListDeleted(ctx, path, o) {
		if err != nil {
			return err
		}
		versions++
		p.object("deleted", deletedRecord(path, found))
		kind := size(found.Info.Length, true)
		if found.Info.Directory {
			kind = "directory"
		}
		p.text("%s  %-18s  %-10s  %s", found.Removed.Local().Format(time.DateTime), found.Version, kind,
			shown(found.TrashPath))
	}
	if versions == 0 {
		return &fault.Error{Kind: fault.NotFound, Path: path, Reason: "the trash has nothing of it"}
	}
	return errors.Join(p.err)
}

func deletedRecord(path string, found client.Deleted) record {
	return record{"path": path, "trash_path": found.TrashPath, "trash_version": found.Version,
		"removed": stamp(found.Removed), "directory": found.Info.Directory, "length": found.Info.Length}
}
