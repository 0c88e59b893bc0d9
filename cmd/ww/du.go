package main

import (
	"cmp"
	"context"
	"path"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
)

func newDu(program *app) *cobra.Command {
	var summary bool
	cmd := program.ofPaths(0, -1, &cobra.Command{
		Use:   "du [flags] [PATH…]",
		Short: "sum up the bytes below directories",
		Long: `Show the bytes of files, the bytes that all their copies take, and the number of
files: for each entry of a directory and then for the directory itself, or with -s
for the directory only.`,
		Example: "  ww du -h /photos\n  ww du -s -h /",
	})
	human := humanFlag(cmd)
	cmd.Flags().BoolVarP(&summary, "summary", "s", false, "one line for each path")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			args = []string{cmp.Or(program.directory, "/")}
		}
		titled := false
		show := func(ctx context.Context, woods *client.Client, out *printer, root string) error {
			sum, err := woods.Summary(ctx, root)
			if err != nil {
				return err
			}
			if !titled {
				out.text("%14s %14s %9s  %s", "bytes", "with copies", "files", "path")
				titled = true
			}
			out.object("usage", record{
				"path": root, "bytes": sum.Bytes, "stored_bytes": sum.StoredBytes,
				"files": sum.Files, "directories": sum.Directories, "chunks": sum.Chunks,
			})
			out.text("%14s %14s %9d  %s", size(sum.Bytes, *human), size(sum.StoredBytes, *human),
				sum.Files, shown(root))
			return nil
		}
		if summary {
			return program.eachPath(show)(cmd, args)
		}
		return program.eachPath(func(ctx context.Context, woods *client.Client, out *printer, root string) error {
			info, err := woods.Stat(ctx, root)
			if err != nil {
				return err
			}
			if info.Directory {
				for entry, err := range woods.List(ctx, root) {
					if err == nil {
						err = show(ctx, woods, out, path.Join(root, entry.Name))
					}
					if err != nil {
						return err
					}
				}
			}
			return show(ctx, woods, out, root)
		})(cmd, args)
	}
	return cmd
}

func newDf(program *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "df [flags]",
		Short:   "show the space of the cluster and its datanodes",
		Example: "  ww df -h",
		Args:    arguments(0, 0),
	}
	human := humanFlag(cmd)
	cmd.RunE = program.asking(func(ctx context.Context, woods *client.Client, out *printer, _ []string) error {
		status, err := woods.ClusterStatus(ctx)
		if err != nil {
			return err
		}
		out.text("%-38s %-22s %14s %14s %14s %5s", "datanode", "address", "capacity", "used", "free", "use")
		row := func(kind, id, address string, capacity, used, free int64) {
			out.object(kind, record{
				"node": id, "address": address, "capacity_bytes": capacity, "used_bytes": used, "free_bytes": free,
			})
			share := 0.0
			if capacity > 0 {
				share = 100 * float64(capacity-free) / float64(capacity)
			}
			out.text("%-38s %-22s %14s %14s %14s %4.0f%%", id, address, size(capacity, *human), size(used, *human),
				size(free, *human), share)
		}
		var capacity, used, free int64
		for _, n := range status.Nodes {
			if !n.Live {
				continue
			}
			row("node_space", n.NodeID, n.Address, n.CapacityBytes, n.UsedBytes, n.FreeBytes)
			capacity, used, free = capacity+n.CapacityBytes, used+n.UsedBytes, free+n.FreeBytes
		}
		row("total_space", "total", "", capacity, used, free)
		return nil
	})
	return cmd
}
