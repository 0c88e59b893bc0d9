package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/daemon/config"
	"github.com/whispering-woods/ww/internal/limits"
)

func newRepair(program *app) *cobra.Command {
	show := &cobra.Command{
		Use:   "repair [flags]",
		Short: "show how far the repair of chunks that lack copies is, and what blocks it",
		Long: `Show the chunks that lack copies, the most endangered first, the copies under way, how fast they arrive
and how long the rest takes at that rate, and why the first of the chunks that wait do so, in the words of ww why.

The numbers are those of the active namenode, since it became active. ww admin repair set changes its limits.`,
		Example: "  ww admin repair\n  ww admin repair --json | jq .waiting",
		Args:    arguments(0, 0),
		RunE: program.asking(func(ctx context.Context, woods *client.Client, out *printer, _ []string) error {
			return out.askRepair(ctx, woods, client.RepairLimits{})
		}),
	}
	show.AddCommand(newRepairSet(program))
	return show
}

func newRepairSet(program *app) *cobra.Command {
	var change client.RepairLimits
	var bandwidth string
	cmd := &cobra.Command{
		Use:   "set [flags]",
		Short: "change the limits of the repair while it runs",
		Long: `Change how many copies may be under way, in the whole cluster and to one datanode (which carries out two
at once, the others wait there), and with how many bytes per second they may begin. Copies under way go on.

The change holds until the active namenode ends. The settings namenode.repair_streams, repair_node_streams and
repair_bandwidth are the lasting form.`,
		Example: "  ww admin repair set --bandwidth 200MiB\n  ww admin repair set --streams 128 --node-streams 8",
		Args:    arguments(0, 0),
	}
	cmd.Flags().IntVar(&change.Streams, "streams", 0, "copies under way in the cluster")
	cmd.Flags().IntVar(&change.NodeStreams, "node-streams", 0, "copies under way to one datanode")
	cmd.Flags().StringVar(&bandwidth, "bandwidth", "", "at most this `size` per second over all copies; 0: no limit")
	set := program.asking(func(ctx context.Context, woods *client.Client, out *printer, _ []string) error {
		return out.askRepair(ctx, woods, change)
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		changed := cmd.Flags().Changed
		switch {
		case !changed("streams") && !changed("node-streams") && !changed("bandwidth"):
			return usageOf(cmd, "nothing is to be changed: use --streams, --node-streams or --bandwidth")
		case changed("streams") && (change.Streams < 1 || change.Streams > limits.RepairStreamsMax):
			return usageOf(cmd, "--streams %d is not within 1 to %d", change.Streams, limits.RepairStreamsMax)
		case changed("node-streams") && (change.NodeStreams < 1 || change.NodeStreams > limits.RepairNodeStreamsMax):
			return usageOf(cmd, "--node-streams %d is not within 1 to %d", change.NodeStreams,
				limits.RepairNodeStreamsMax)
		case changed("bandwidth"):
			bytes, err := copyBandwidth(bandwidth)
			if err != nil {
				return usageOf(cmd, "%v", err)
			}
			change.Bandwidth = &bytes
		}
		return set(cmd, args)
	}
	return cmd
}

// copyBandwidth reads the bound of copies that datanodes make: 0 for none.
func copyBandwidth(text string) (int64, error) {
	size, err := config.ParseSize(text)
	if err == nil && size != 0 && size < limits.CopyBandwidthMin {
		err = fmt.Errorf("%s is less than %s per second", text, config.Size(limits.CopyBandwidthMin))
	}
	if err != nil {
		return 0, fmt.Errorf("--bandwidth: %w", err)
	}
	return int64(size), nil
}

func (p *printer) askRepair(ctx context.Context, woods *client.Client, change client.RepairLimits) error {
	status, err := woods.Repair(ctx, change)
	if err == nil {
		p.repair(&status)
	}
	return err
}

// repair writes how far the repair is.
func (p *printer) repair(status *client.RepairStatus) {
	queue, copies, reasons := []record{}, []record{}, []record{}
	for _, d := range status.Queue {
		queue = append(queue, record{"copies": d.Copies, "chunks": d.Chunks})
	}
	for _, c := range status.Copies {
		copies = append(copies, record{"chunk": c.Chunk.String(), "bytes": c.Length, "node": c.NodeID, "name": c.Name,
			"address": c.Address, "running_seconds": seconds(c.Running)})
	}
	for _, r := range status.Reasons {
		reasons = append(reasons, record{"reason": r.Text, "blocked": r.Blocked, "chunks": r.Chunks,
			"example_chunk": r.Example.String()})
	}
	p.object("repair", record{
		"streams": status.Limits.Streams, "node_streams": status.Limits.NodeStreams,
		"bandwidth": *status.Limits.Bandwidth, "queue": queue, "leaving_chunks": status.Leaving,
		"away_chunks": status.Away, "missing_chunks": status.Missing, "running": status.Running,
		"waiting": status.Waiting, "counting": status.Counting, "paused": status.Paused, "copies": copies,
		"arrived_chunks": status.ArrivedChunks, "arrived_bytes": status.ArrivedBytes,
		"chunks_per_second": status.ChunksPerSecond, "bytes_per_second": status.BytesPerSecond,
		"left_seconds": seconds(status.Left), "examined_chunks": status.Examined, "reasons": reasons,
	})
	for _, d := range status.Queue {
		p.text("%s with %s left", count(int(d.Chunks), "chunk"), countOf(d.Copies))
	}
	if status.Missing > 0 {
		p.text("%s without a good copy: see ww fsck", count(int(status.Missing), "chunk"))
	}
	if status.Leaving > 0 {
		p.text("%s to be moved from datanodes that leave", count(int(status.Leaving), "chunk"))
	}
	if status.Away > 0 {
		p.text("%s waiting for datanodes in maintenance", count(int(status.Away), "chunk"))
	}
	p.text("copies under way %d, waiting %d; arrived %d, %s", status.Running, status.Waiting, status.ArrivedChunks,
		size(status.ArrivedBytes, true))
	p.text("rate of the last minute: %.1f chunks/s, %s/s%s", status.ChunksPerSecond,
		size(int64(status.BytesPerSecond), true), leftText(status))
	bound := "any bandwidth"
	if *status.Limits.Bandwidth > 0 {
		bound = "at most " + size(*status.Limits.Bandwidth, true) + "/s"
	}
	p.text("limits: %d copies, %d to one datanode, %s", status.Limits.Streams, status.Limits.NodeStreams, bound)
	for _, c := range status.Copies {
		p.text("  %s  %s to %s for %.1fs", c.Chunk, size(c.Length, true), c.Name, c.Running.Seconds())
	}
	for _, r := range status.Reasons {
		what := "waiting"
		if r.Blocked {
			what = "blocked"
		}
		p.text("%d of the first %d %s (such as %s): %s", r.Chunks, status.Examined, what, r.Example, r.Text)
	}
	if status.Paused != "" {
		p.text("nothing is copied now: %s", status.Paused)
	}
	if status.Counting {
		p.text("chunks are being counted")
	}
}

// countOf is a number of copies.
func countOf(copies int64) string {
	if copies == 1 {
		return "1 copy"
	}
	return fmt.Sprintf("%d copies", copies)
}

// leftText says how long the rest takes, after the rate.
func leftText(status *client.RepairStatus) string {
	switch {
	case status.Running+status.Waiting == 0:
		return ""
	case status.Left == 0:
		return "; how long the rest takes is not known"
	}
	return fmt.Sprintf("; about %s for the rest", max(status.Left.Round(time.Second), time.Second))
}
