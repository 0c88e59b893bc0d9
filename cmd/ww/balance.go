package main

import (
	"cmp"
	"context"
	"math"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/daemon/config"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

func newBalance(program *app) *cobra.Command {
	var wish client.BalanceWish
	var bandwidth string
	var planned, status, stop, wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "balance [flags]",
		Short: "move copies from datanodes that are fuller than the mean to emptier ones",
		Long: `Even out how full the datanodes are. The utilisation of a datanode is the share of its capacity that the
bytes of its copies take. The balance ends when that of every datanode in service is within --threshold percentage
points of the mean, or nothing more can move; --status says which, and why.

It runs in the namenode, one at a time, and goes behind the repair of chunks that lack copies. Each move copies first;
the copy on the fuller datanode goes when as many others as wanted are confirmed. The spread over racks is kept.
When the namenode ends, the balance ends, with nothing half done: begin another one, which goes on from there.

With --wait the command returns when the balance has ended, and begins it again if the namenode changes meanwhile.
Exit code 0: begun, or with --wait all datanodes are even; 5: they are not, or the wait was over.`,
		Example: "  ww admin balance --dry-run\n  ww admin balance --threshold 5 --bandwidth 50MiB --wait\n" +
			"  ww admin balance --status\n  ww admin balance --stop",
		Args: arguments(0, 0),
	}
	flags := cmd.Flags()
	flags.Float64Var(&wish.Threshold, "threshold", limits.BalanceThresholdDefault,
		"percentage points between a datanode and the mean that are even enough")
	flags.StringVar(&bandwidth, "bandwidth", config.Size(limits.BalanceBandwidthDefault).String(),
		"at most this `size` per second to, and from, each datanode")
	flags.BoolVar(&planned, "dry-run", false, "only say what would move first")
	flags.BoolVar(&status, "status", false, "only say how far the balance is, or why the last one ended")
	flags.BoolVar(&stop, "stop", false, "end the balance that runs")
	flags.BoolVar(&wait, "wait", false, "return when the balance has ended")
	flags.DurationVar(&timeout, "timeout", 0, "how long to wait at most; 0: as long as it takes")
	run := program.asking(func(ctx context.Context, woods *client.Client, out *printer, _ []string) error {
		action := client.BalanceStart
		switch {
		case planned:
			action = client.BalancePlan
		case status:
			action = client.BalanceGet
		case stop:
			action = client.BalanceStop
		}
		found, err := woods.Balance(ctx, action, wish)
		if err == nil && wait {
			_, err = await(ctx, cmp.Or(timeout, math.MaxInt64), func() (ended bool, err error) {
				found, err = woods.Balance(ctx, client.BalanceGet, wish)
				if err == nil && !found.Running && found.Ended == "" { // another namenode, which knows of none
					found, err = woods.Balance(ctx, client.BalanceStart, wish)
				}
				return err == nil && !found.Running, err
			})
		}
		if err != nil {
			return err
		}
		out.balance(&found, planned)
		if wait && (found.Running || !found.Even) {
			return &fault.Error{Kind: fault.Busy, Op: "balance", Hint: "see `ww admin balance --status`",
				Reason: "the datanodes are not even: " + cmp.Or(found.Ended, "the balance goes on")}
		}
		return nil
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if wish.Bandwidth, err = copyBandwidth(bandwidth); err != nil {
			return usageOf(cmd, "%v", err)
		}
		var asked []string
		for _, flag := range []string{"dry-run", "status", "stop", "wait"} {
			if cmd.Flags().Changed(flag) {
				asked = append(asked, "--"+flag)
			}
		}
		switch {
		case len(asked) > 1:
			return usageOf(cmd, "%s exclude each other", strings.Join(asked, " and "))
		case wish.Bandwidth == 0:
			return usageOf(cmd, "--bandwidth: a balance needs a bound")
		case !(wish.Threshold >= limits.BalanceThresholdMin && wish.Threshold <= limits.BalanceThresholdMax):
			return usageOf(cmd, "--threshold %g is not within %g to %g", wish.Threshold, limits.BalanceThresholdMin,
				limits.BalanceThresholdMax)
		case timeout < 0:
			return usageOf(cmd, "--timeout %s is below 0", timeout)
		}
		return run(cmd, args)
	}
	return cmd
}

// balance writes how far a balance is, or what one would move.
func (p *printer) balance(status *client.BalanceStatus, planned bool) {
	nodes, moves := []record{}, []record{}
	for _, n := range status.Nodes {
		nodes = append(nodes, record{"node": n.NodeID, "name": n.Name, "address": n.Address, "bytes": n.Bytes,
			"capacity_bytes": n.CapacityBytes, "percent": n.Percent})
	}
	for _, m := range status.Moves {
		moves = append(moves, record{"chunk": m.Chunk.String(), "bytes": m.Length, "source": m.Source,
			"target": m.Target})
	}
	p.object("balance", record{
		"running": status.Running, "threshold": status.Threshold, "bandwidth": status.Bandwidth,
		"running_seconds": seconds(status.For), "paused": status.Paused, "ended": status.Ended, "even": status.Even,
		"mean_percent": status.Mean, "left_bytes": status.LeftBytes, "moved_chunks": status.MovedChunks,
		"moved_bytes": status.MovedBytes, "failed_copies": status.FailedCopies,
		"bytes_per_second": status.BytesPerSecond, "nodes": nodes, "moving": status.MovesUnderWay, "moves": moves,
		"more": status.MoreMovesFollow,
	})
	for _, n := range status.Nodes {
		p.text("  %-21s  %5.1f %%  %s of %s", n.Name, n.Percent, size(n.Bytes, true), size(n.CapacityBytes, true))
	}
	p.text("mean %.1f %%, threshold %g; at least %s to move", status.Mean, status.Threshold,
		size(status.LeftBytes, true))
	if planned {
		for _, m := range status.Moves {
			p.text("%s  %s from %s to %s", m.Chunk, size(m.Length, true), m.Source, m.Target)
		}
		if status.MoreMovesFollow {
			p.text("and so on")
		}
		return
	}
	if status.Running || status.Ended != "" {
		p.text("moved %s, %s (%s/s in the last minute); under way %d, failed copies %d",
			count(int(status.MovedChunks), "chunk"), size(status.MovedBytes, true),
			size(int64(status.BytesPerSecond), true), status.MovesUnderWay, status.FailedCopies)
	}
	switch {
	case status.Running && status.Paused != "":
		p.text("runs for %s, and waits: %s", status.For.Round(time.Second), status.Paused)
	case status.Running:
		p.text("runs for %s", status.For.Round(time.Second))
	case status.Ended != "":
		p.text("ended: %s", status.Ended)
	default:
		p.text("no balance runs")
	}
}
