package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/daemon/config"
)

func newTruncate(program *app) *cobra.Command {
	var text string
	cmd := program.ofPaths(1, -1, &cobra.Command{
		Use:   "truncate -s SIZE PATH…",
		Short: "cut files to a size",
		Long: `Cut files to a size; the bytes after it are lost. A file cannot grow this way,
and one that is being written cannot be cut.`,
		Example: `  ww truncate -s 0 /logs/today
  ww truncate -s 64MiB /data/image.raw`,
	})
	cmd.Flags().StringVarP(&text, "size", "s", "", "the new `size`, bytes or with a unit")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if text == "" {
			return usageOf(cmd, "-s is missing: the size to cut to")
		}
		wanted, err := config.ParseSize(text)
		if err != nil {
			return usageOf(cmd, "-s: %v", err)
		}
		return program.eachPath(func(ctx context.Context, woods *client.Client, out *printer, path string) error {
			info, err := woods.Truncate(ctx, path, int64(wanted))
			if err == nil {
				out.object("truncated", record{"path": path, "length": info.Length})
			}
			return err
		})(cmd, args)
	}
	return cmd
}
