package main

import (
	"cmp"
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
)

func newDisk(program *app) *cobra.Command {
	return group(&cobra.Command{
		Use:     "disk",
		Short:   "look at the disks of datanodes, and change them",
		Example: "  ww admin disk list",
	}, newDiskList(program), newDiskAdd(program), newDiskRemove(program), newDiskReplace(program))
}

func newDiskList(program *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list [flags] [NODE]",
		Short: "show the state, space and errors of disks",
		Long: `Show the disks of one datanode, or of all, as their last heartbeats described them.

NODE is a datanode's name, its address, its id or the beginning of that. The states are healthy, suspect (errors within
the last minute, or an operation that takes too long), full, and those of disks that are out of service: failed,
read-only and missing, whose replicas are copied from others. A draining disk is to be removed (ww admin disk remove):
its replicas are copied, and it gets nothing new. Free is what new replicas may use: what is above
the reserve (datanode.reserve). Used are the bytes of the file system, whoever has them, busy is the share of the last
seconds in which the disk had work.`,
		Example: "  ww admin disk list\n  ww admin disk list --json | jq 'select(.state != \"healthy\")'",
		Args:    arguments(0, 1),
		RunE: program.asking(func(ctx context.Context, woods *client.Client, out *printer, args []string) error {
			nodes, err := nodesOf(ctx, woods, args)
			for _, n := range nodes {
				out.disks(n)
			}
			return err
		}),
	}
}

func (p *printer) disks(node client.NodeStatus) {
	for _, disk := range node.Volumes {
		p.object("disk", record{
			"node": node.NodeID, "name": node.Name, "address": node.Address, "live": node.Live,
			"disk": disk.ID, "directory": disk.Directory, "state": disk.State,
			"since":          disk.Since.UTC().Format(time.RFC3339),
			"capacity_bytes": disk.CapacityBytes, "free_bytes": disk.FreeBytes, "used_bytes": disk.UsedBytes,
			"reserve_bytes": disk.ReserveBytes, "replicas": disk.Replicas, "errors": disk.Errors,
			"error": disk.Error, "scrub": scrubRecord(disk.Scrub), "busy": disk.Busy,
		})
		p.text("%-21s %s  %-9s since %s  %s of %s free  %d replicas  busy %.0f%%  %d errors%s", node.Name,
			disk.Directory, disk.State, disk.Since.Local().Format(time.DateTime), size(disk.FreeBytes, true),
			size(disk.CapacityBytes, true), disk.Replicas, 100*disk.Busy, disk.Errors, reasonText(disk.Error))
		p.text("    id %s  %s used  %s reserve", cmp.Or(disk.ID, "not known"), size(disk.UsedBytes, true),
			size(disk.ReserveBytes, true))
		p.text("    %s", scrubText(disk.Scrub))
	}
}

// reasonText is the end of a line that has a reason.
func reasonText(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}
