package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
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

NODE is an id of a datanode, the beginning of one, or its address. The states are healthy, suspect (errors within
the last minute, or an operation that takes too long), full, and those of disks that are out of service: failed,
read-only and missing. The replicas of these are copied from others. Free is what is above datanode.reserve, busy
the share of the last seconds in which the disk had work.`,
		Example: "  ww admin disk list\n  ww admin disk list --json | jq 'select(.state != \"healthy\")'",
		Args:    arguments(0, 1),
		RunE: program.asking(func(ctx context.Context, woods *client.Client, out *printer, args []string) error {
			status, err := woods.ClusterStatus(ctx)
			nodes := status.Nodes
			if err == nil && len(args) == 1 {
				nodes, err = findNode(nodes, args[0])
			}
			for _, n := range nodes {
				out.disks(n)
			}
			return err
		}),
	}
}

// findNode finds the one datanode that a name means.
func findNode(nodes []client.NodeStatus, name string) ([]client.NodeStatus, error) {
	const op = "find datanode"
	var found []client.NodeStatus
	for _, n := range nodes {
		if n.NodeID == name || n.Address == name {
			return []client.NodeStatus{n}, nil
		}
		if strings.HasPrefix(n.NodeID, name) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 1:
		return found, nil
	case 0:
		return nil, &fault.Error{Kind: fault.NotFound, Op: op, Node: name, Reason: "the cluster has no such datanode",
			Hint: "see `ww admin report`"}
	}
	return nil, &fault.Error{Kind: fault.Invalid, Op: op, Node: name,
		Reason: count(len(found), "datanode") + " have an id that begins so", Hint: "name more of the id"}
}

func (p *printer) disks(node client.NodeStatus) {
	for _, v := range node.Volumes {
		p.object("disk", record{
			"node": node.NodeID, "address": node.Address, "live": node.Live, "disk": v.ID, "directory": v.Directory,
			"state": v.State, "since": v.Since.UTC().Format(time.RFC3339), "capacity_bytes": v.CapacityBytes,
			"free_bytes": v.FreeBytes, "replicas": v.Replicas, "errors": v.Errors, "error": v.Error,
			"scrub": scrubRecord(v.Scrub), "busy": v.Busy,
		})
		p.text("%s  %-21s %s  %-9s since %s  %s of %s free  %d replicas  busy %.0f%%  %d errors%s", node.NodeID,
			node.Address, v.Directory, v.State, v.Since.Local().Format(time.DateTime), size(v.FreeBytes, true),
			size(v.CapacityBytes, true), v.Replicas, 100*v.Busy, v.Errors, reasonText(v.Error))
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
