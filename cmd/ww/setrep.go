package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/limits"
)

func newSetrep(program *app) *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use:   "setrep [-w] N PATH…",
		Short: "change how many copies files have",
		Long: `Change how many copies a file has of each of its chunks. Datanodes make the copies that lack and
remove those that are too many; a copy is removed only while as many others as wanted are known to be whole.
A file that is being written cannot be changed.`,
		Example: `  ww setrep 2 /logs/old
  ww setrep -w 5 /config/keys`,
		Args: arguments(2, -1),
	}
	cmd.Flags().BoolVarP(&wait, "wait", "w", false, "return when every chunk has so many copies")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		replication, err := strconv.Atoi(args[0])
		if err != nil || replication < 1 || limits.CheckReplication(replication) != "" {
			return usageOf(cmd, "%q is no number of copies, 1 to %d", args[0], limits.ReplicationMax)
		}
		return program.eachPath(func(ctx context.Context, woods *client.Client, out *printer, path string) error {
			_, err := woods.SetReplication(ctx, path, replication)
			if err == nil && wait {
				err = woods.AwaitReplication(ctx, path, replication)
			}
			if err == nil {
				out.object("replication", record{"path": path, "replication": replication})
			}
			return err
		})(cmd, args[1:])
	}
	return cmd
}
