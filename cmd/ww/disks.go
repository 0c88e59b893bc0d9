package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
)

func newDisk(program *app) *cobra.Command {
	return group(&cobra.Command{
		Use:     "disk",
		Short:   "look at the disks of datanodes",
		Example: "  ww admin disk list",
	}, newDiskList(program))
}

func newDiskList(program *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list [flags] [NODE]",
		Short: "show the state, space and errors of disks",
		Long: `Show the disks of one datanode, or of all, as their last heartbeats described them.

NODE is a datanode's name, its address, its id or the beginning of that. The states are healthy, suspect (errors within
the last minute, or an operation that takes too long), full, and those of disks that are out of service: failed,
read-only and missing. The replicas of these are copied from others. Free is what is above datanode.reserve, busy
the share of the last seconds in which the disk had work.`,
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
	for _, v := range node.Volumes {
		p.object("disk", record{
			"node": node.NodeID, "name": node.Name, "address": node.Address, "live": node.Live,
			"disk": v.ID, "directory": v.Directory, "state": v.State, "since": v.Since.UTC().Format(time.RFC3339),
			"capacity_bytes": v.CapacityBytes, "free_bytes": v.FreeBytes, "replicas": v.Replicas, "errors": v.Errors,
			"error": v.Error, "scrub": scrubRecord(v.Scrub), "busy": v.Busy,
		})
		p.text("%-21s %s  %-9s since %s  %s of %s free  %d replicas  busy %.0f%%  %d errors%s", node.Name, v.Directory,
			v.State, v.Since.Local().Format(time.DateTime), size(v.FreeBytes, true), size(v.CapacityBytes, true),
			v.Replicas, 100*v.Busy, v.Errors, reasonText(v.Error))
		p.text("    %s", scrubText(v.Scrub))
	}
}

// reasonText is the end of a line that has a reason.
func reasonText(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}
