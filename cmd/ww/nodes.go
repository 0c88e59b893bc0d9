package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

// nodeHelp says how verbs name a datanode.
const nodeHelp = "NODE is a datanode's name (datanode.name), its address, its id or the beginning of that."

func newNode(program *app) *cobra.Command {
	return group(&cobra.Command{Use: "node", Short: "look at datanodes, and take them out of service",
		Example: "  ww admin node list"}, newNodeList(program))
}

func newNodeList(program *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list [flags] [NODE]",
		Short: "show the state of datanodes",
		Long: `Show one datanode, or all. ` + nodeHelp + `

The states are live, flapping (live, but it registered at least 4 times within ten minutes), stale (its stream broke
or it is silent: nothing new is placed on it, and it is read last) and dead (silent for namenode.dead_after, or
without any disk: its replicas do not count).`,
		Example:           "  ww admin node list\n  ww admin node list --json | jq 'select(.state != \"live\")'",
		Args:              arguments(0, 1),
		ValidArgsFunction: program.completeNode,
		RunE: program.asking(func(ctx context.Context, woods *client.Client, out *printer, args []string) error {
			nodes, err := nodesOf(ctx, woods, args)
			for _, n := range nodes {
				out.object("node", nodeRecord(n))
				out.node(n)
			}
			return err
		}),
	}
}

// nodesOf asks for the datanodes: the one that args name, or all.
func nodesOf(ctx context.Context, woods *client.Client, args []string) ([]client.NodeStatus, error) {
	status, err := woods.ClusterStatus(ctx)
	if err != nil || len(args) == 0 {
		return status.Nodes, err
	}
	node, err := findNode(status.Nodes, args[0])
	if err != nil {
		return nil, err
	}
	return []client.NodeStatus{node}, nil
}

// findNode finds the one datanode that a person means: by name, address, id, or the beginning of an id.
func findNode(nodes []client.NodeStatus, name string) (client.NodeStatus, error) {
	const op = "find datanode"
	rules := []func(client.NodeStatus) bool{
		func(n client.NodeStatus) bool { return n.NodeID == name },
		func(n client.NodeStatus) bool { return n.Name == name || n.Address == name },
		func(n client.NodeStatus) bool { return strings.HasPrefix(n.NodeID, name) },
	}
	for _, means := range rules {
		found := slices.DeleteFunc(slices.Clone(nodes), func(n client.NodeStatus) bool { return !means(n) })
		switch len(found) {
		case 0:
		case 1:
			return found[0], nil
		default:
			return client.NodeStatus{}, &fault.Error{Kind: fault.Invalid, Op: op, Node: name,
				Reason: count(len(found), "datanode") + " are called so, or have an id that begins so",
				Hint:   "name more of the id (`ww admin node list --json`)"}
		}
	}
	return client.NodeStatus{}, &fault.Error{Kind: fault.NotFound, Op: op, Node: name,
		Reason: "the cluster has no such datanode", Hint: "see `ww admin node list`"}
}

// nodeRecord is a datanode in JSON.
func nodeRecord(n client.NodeStatus) record {
	return record{
		"node": n.NodeID, "name": n.Name, "address": n.Address, "rack": n.Rack, "live": n.Live, "state": n.State,
		"registrations": n.Registrations, "server_version": n.Version, "capacity_bytes": n.CapacityBytes,
		"used_bytes": n.UsedBytes, "free_bytes": n.FreeBytes, "admin_address": n.AdminAddress, "replicas": n.Replicas,
		"active_writes": n.ActiveWrites, "active_reads": n.ActiveReads,
		"cpu": n.System.CPU, "disk_stalled": n.System.Stalled, "received_bytes_per_second": n.System.Received,
		"sent_bytes_per_second": n.System.Sent, "last_heartbeat_seconds": seconds(n.LastHeartbeatAge),
	}
}

// node is a datanode in one line.
func (p *printer) node(n client.NodeStatus) {
	address := ""
	if n.Name != n.Address {
		address = "  " + n.Address
	}
	p.text("  %-21s%s  %-8s  heard %.1fs ago  %s of %s free  %d replicas  %d writes  %d reads%s", n.Name, address, n.State,
		n.LastHeartbeatAge.Seconds(), size(n.FreeBytes, true), size(n.CapacityBytes, true), n.Replicas,
		n.ActiveWrites, n.ActiveReads, systemText(n.System))
}

// completeNode offers the names of datanodes.
func (a *app) completeNode(cmd *cobra.Command, args []string, start string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if len(args) == 0 {
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		status, _ := a.clusterStatus(ctx) // without a cluster there is nothing to offer
		for _, n := range status.Nodes {
			if strings.HasPrefix(n.Name, start) {
				names = append(names, n.Name)
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
