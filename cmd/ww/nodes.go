package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

// nodeHelp says how verbs name a datanode.
const nodeHelp = "NODE is a datanode's name (datanode.name), its address, its id or the beginning of that."

func newNode(program *app) *cobra.Command {
	return group(&cobra.Command{Use: "node", Short: "look at datanodes, take them out of service, and forget them",
		Example: "  ww admin node list"}, newNodeList(program), newDecommission(program), newMaintenance(program),
		newRecommission(program), newForget(program))
}

func newNodeList(program *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list [flags] [NODE]",
		Short: "show the state of datanodes",
		Long: `Show one datanode, or all. ` + nodeHelp + `

The states are live, slow (live, but far later than its peers, and the line says how far: new chunks are placed on it,
and it is read, last), flapping (live, but it registered at least 4 times within ten minutes), stale (its stream broke
or it is silent: nothing new is placed on it, and it is read last) and dead (silent for namenode.dead_after, or
without any disk: its replicas do not count). Of a datanode out of service the line says how many chunks still need
it, or that none does.`,
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
		"active_writes": n.ActiveWrites, "active_reads": n.ActiveReads, "slow_reason": n.SlowReason,
		"cpu": n.System.CPU, "disk_stalled": n.System.Stalled, "received_bytes_per_second": n.System.Received,
		"sent_bytes_per_second":  n.System.Sent,
		"last_heartbeat_seconds": seconds(n.LastHeartbeatAge), "slow_seconds": seconds(n.SlowFor),
		"duty": n.Duty.String(), "duty_since": stamp(n.DutySince), "duty_until": stamp(n.DutyUntil),
		"duty_done": n.DutyDone, "needed_chunks": n.NeededChunks, "needed_open_chunks": n.NeededOpenChunks,
	}
}

// node is a datanode in one line.
func (p *printer) node(n client.NodeStatus) {
	address := ""
	if n.Name != n.Address {
		address = "  " + n.Address
	}
	p.text("  %-21s%s  %-8s  heard %.1fs ago  %s of %s free  %d replicas  %d writes  %d reads%s", n.Name, address,
		n.State, n.LastHeartbeatAge.Seconds(), size(n.FreeBytes, true), size(n.CapacityBytes, true), n.Replicas,
		n.ActiveWrites, n.ActiveReads, systemText(n.System)+slowText(n)+dutyText(n, "  "))
}

// slowText is the part of a datanode's line that says why it is slow.
func slowText(n client.NodeStatus) string {
	if n.SlowReason == "" {
		return ""
	}
	return fmt.Sprintf("  slow for %s: %s", n.SlowFor.Round(time.Second), n.SlowReason)
}

// dutyText says how far a datanode out of service is, after a separator; empty if it serves.
func dutyText(node client.NodeStatus, separator string) string {
	left := ""
	if !node.DutyDone {
		left = fmt.Sprintf(", %s left", count(int(node.NeededChunks), "chunk"))
		if node.NeededOpenChunks > 0 {
			left += fmt.Sprintf(" (%d being written)", node.NeededOpenChunks)
		}
		if node.NeededChunks == 0 {
			left = ", not confirmed yet"
		}
	}
	until := node.DutyUntil.Local().Format(time.DateTime)
	switch {
	case node.Duty == client.NodeDecommission && node.DutyDone:
		return separator + "decommissioned: it can be stopped"
	case node.Duty == client.NodeDecommission:
		return separator + "decommissioning" + left
	case node.Duty == client.NodeMaintenance && time.Now().After(node.DutyUntil):
		return separator + "its maintenance ended at " + until
	case node.Duty == client.NodeMaintenance && node.DutyDone:
		return separator + "in maintenance until " + until + ": it can be stopped"
	case node.Duty == client.NodeMaintenance:
		return separator + "goes to maintenance until " + until + left
	case node.Duty == client.NodeForgotten:
		return separator + "forgotten"
	}
	return ""
}

func newDecommission(program *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "decommission [flags] NODE",
		Short: "move all chunks off a datanode, so that it can go",
		Long: `Copy what a datanode holds to others, so that it can be stopped for good. ` + nodeHelp + `

At once nothing new is placed on it and its replicas count no more; they are still read and copied from. It is
decommissioned when no chunk needs it, those that are being written included, and the holders of all chunks have
confirmed this. ww admin node list shows how many are left, ww admin node recommission takes the wish back.
With --wait the command returns then. Exit code 0: accepted, or with --wait decommissioned; 5: the wait was over.`,
		Example: "  ww admin node decommission dn3\n  ww admin node decommission --wait --timeout 2h dn3",
	}
	return program.dutyVerb(cmd, client.NodeDecommission, new(time.Duration))
}

func newMaintenance(program *app) *cobra.Command {
	span := time.Hour
	cmd := &cobra.Command{
		Use:   "maintenance [flags] NODE",
		Short: "let a datanode be away for a time without copying what it holds",
		Long: `Let a datanode be away for a time. ` + nodeHelp + `

Nothing new is placed on it, and while it is away its chunks are not copied, except those of which fewer than two
others would be left: they are copied at once, and until they are, the list says how many are left. After --for, or
with ww admin node recommission, it is a datanode like others: if it is still away, its chunks are copied.
With --wait the command returns when the datanode can be stopped. Exit code 0: accepted, or with --wait it can be
stopped; 5: the wait was over.`,
		Example: "  ww admin node maintenance --for 30m --wait dn3",
	}
	cmd.Flags().DurationVar(&span, "for", span, "how long it may be away, at most 168h")
	return program.dutyVerb(cmd, client.NodeMaintenance, &span)
}

func newRecommission(program *app) *cobra.Command {
	return program.dutyVerb(&cobra.Command{
		Use:     "recommission [flags] NODE",
		Short:   "take a datanode back into service",
		Long:    `End a decommission or a maintenance at once: the datanode serves again. ` + nodeHelp,
		Example: "  ww admin node recommission dn3",
	}, client.NodeServes, new(time.Duration))
}

func newForget(program *app) *cobra.Command {
	return program.dutyVerb(&cobra.Command{
		Use:   "forget [flags] NODE",
		Short: "show a dead datanode no more",
		Long: `Forget a dead datanode that will not be back: no list shows it, nothing waits for it. ` + nodeHelp + `

It is refused while the datanode is not dead, and while it may have the last copy of a chunk. Nothing is deleted
because of it: a datanode that starts again is known again, with all that it has. Exit code 0: forgotten.`,
		Example: "  ww admin node forget dn3",
	}, client.NodeForgotten, new(time.Duration))
}

// dutyVerb makes cmd the verb that asks for a duty of one datanode.
func (a *app) dutyVerb(cmd *cobra.Command, duty client.NodeDuty, span *time.Duration) *cobra.Command {
	var wait bool
	var most time.Duration
	if duty == client.NodeDecommission || duty == client.NodeMaintenance {
		cmd.Flags().BoolVar(&wait, "wait", false, "return when no chunk needs the datanode")
		cmd.Flags().DurationVar(&most, "timeout", 0, "how long to wait at most; 0: as long as it takes")
	}
	cmd.Args = arguments(1, 1)
	cmd.ValidArgsFunction = a.completeNode
	cmd.RunE = a.asking(func(ctx context.Context, woods *client.Client, out *printer, args []string) error {
		nodes, err := nodesOf(ctx, woods, args)
		if err != nil {
			return err
		}
		node, err := woods.SetNodeDuty(ctx, nodes[0].NodeID, duty, *span)
		if err != nil {
			return err
		}
		done := true
		if wait {
			done, err = await(ctx, cmp.Or(most, math.MaxInt64), func() (bool, error) {
				nodes, err := nodesOf(ctx, woods, []string{node.NodeID})
				if err == nil {
					node = nodes[0]
				}
				return node.DutyDone, err
			})
		}
		out.object("node", nodeRecord(node))
		out.text("%s: %s", node.Name, cmp.Or(dutyText(node, ""), "in service"))
		if err == nil && !done {
			return &fault.Error{Kind: fault.Busy, Node: node.Name, Reason: "chunks still need the datanode",
				Hint: "the wish stands: see `ww admin node list`"}
		}
		return err
	})
	return cmd
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
