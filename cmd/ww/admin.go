package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"time"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

func newAdmin(program *app) *cobra.Command {
	return group(&cobra.Command{Use: "admin", Short: "administer a cluster"}, newReport(program), newSafeMode(program),
		newRecoverLease(program), newCheckpoint(program), newProfile(program), newDisk(program), newScrub(program),
		newNode(program), newAdminTrash(program), newRepair(program),
		newBalance(program))
}

func newReport(program *app) *cobra.Command {
	var awaited string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "report",
		Short: "show the state of the cluster and of every datanode",
		Long: `Show the state of the cluster and of every datanode. The last line is the verdict on all chunks, with the
words of ww fsck: healthy only if all datanodes that are awaited have reported in full, all chunks were counted since,
and none lacks a copy, has a bad one that is not made good, or one that its datanode has not told of.

With --wait healthy it waits for that, at most for --timeout, and shows the state then; the exit code is that of ww fsck
with the same verdict. Chunks to be moved from datanodes that leave do not count: see ww admin node decommission.`,
		Example: "  ww admin report\n  ww admin report --json | jq .missing_chunks\n" +
			"  ww admin report --wait healthy --timeout 10m",
		Args: arguments(0, 0),
	}
	cmd.Flags().StringVar(&awaited, "wait", "", "wait for this verdict: healthy")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait at most; 0: as long as it takes")
	show := program.asking(func(ctx context.Context, woods *client.Client, out *printer, _ []string) error {
		most := cmp.Or(timeout, math.MaxInt64)
		if awaited == "" {
			bounded, cancel := context.WithTimeout(ctx, most)
			defer cancel()
			status, err := woods.ClusterStatus(bounded)
			if err == nil {
				out.report(status)
			}
			return err
		}
		var status client.ClusterStatus
		_, err := await(ctx, most, func() (_ bool, err error) {
			status, err = woods.ClusterStatus(ctx)
			return status.Health == client.Healthy, err
		})
		if err != nil {
			return err
		}
		out.report(status)
		return healthError(status.Health)
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case awaited != "" && awaited != client.Healthy.String():
			return usageOf(cmd, "--wait %q: only %s can be waited for", awaited, client.Healthy)
		case timeout < 0:
			return usageOf(cmd, "--timeout %s is below 0", timeout)
		}
		return show(cmd, args)
	}
	return cmd
}

func (p *printer) report(status client.ClusterStatus) {
	nodes, live, scrubs := []record{}, 0, totalScrubs(status.Nodes)
	for _, n := range status.Nodes {
		if n.Live {
			live++
		}
		nodes = append(nodes, nodeRecord(n))
	}
	logs := []record{}
	for _, l := range status.LogServers {
		logs = append(logs, record{"node": l.NodeID, "address": l.Address, "leader": l.Leader, "error": l.Error,
			"admin_address": l.AdminAddress})
	}
	p.object("cluster", record{
		"cluster_id": status.ClusterID, "namenode": status.Namenode, "server_version": status.Version,
		"epoch": status.Epoch, "txid": status.Txid,
		"safe_mode": status.SafeMode, "safe_mode_reason": status.SafeModeReason,
		"files": status.Files, "directories": status.Directories, "chunks": status.Chunks,
		"open_files":              status.OpenFiles,
		"under_replicated_chunks": status.UnderReplicatedChunks, "missing_chunks": status.MissingChunks,
		"corrupt_replicas": status.CorruptReplicas, "status": status.Health.String(),
		"unconfirmed_chunks": status.UnconfirmedChunks, "unreported_nodes": status.UnreportedNodes,
		"counting": status.Counting, "copies_running": status.CopiesRunning, "copies_waiting": status.CopiesWaiting,
		"leaving_chunks":      status.LeavingChunks,
		"default_replication": status.DefaultReplication, "default_chunk_size": status.DefaultChunkSize,
		"admin_address": status.AdminAddress, "log_servers": logs, "nodes": nodes,
		"scrub": scrubs.record(),
		"checkpoint": record{"txid": status.Checkpoint.Txid, "bytes": status.Checkpoint.Bytes,
			"age_seconds":   seconds(status.Checkpoint.Age),
			"records_since": status.Checkpoint.RecordsSince, "running": status.Checkpoint.Running,
			"error": status.Checkpoint.Error},
	})
	p.text("cluster %s at %s, version %s, epoch %d, txid %d", status.ClusterID, status.Namenode, status.Version,
		status.Epoch, status.Txid)
	if status.SafeMode {
		p.text("safe mode: on, %s", status.SafeModeReason)
	} else {
		p.text("safe mode: off")
	}
	p.text("files %d, directories %d, chunks %d, being written %d", status.Files, status.Directories,
		status.Chunks, status.OpenFiles)
	p.text("chunks with too few replicas %d, without any %d, corrupt replicas %d", status.UnderReplicatedChunks,
		status.MissingChunks, status.CorruptReplicas)
	p.text("%s", copyingText(status))
	p.text("new files: %d copies, chunks of %s", status.DefaultReplication, size(status.DefaultChunkSize, true))
	p.text("%s", checkpointText(status.Checkpoint))
	p.text("%s", scrubs.text())
	for _, l := range status.LogServers {
		if l.Error != "" {
			p.text("log server %s at %s: %s", l.NodeID, l.Address, l.Error)
		}
	}
	p.text("datanodes: %d live of %d; free is what is above datanode.reserve", live, len(status.Nodes))
	for _, n := range status.Nodes {
		p.node(n)
	}
	p.text("Status: %s", status.Health)
}

// copyingText is the line about copies, and about what is not known yet.
func copyingText(status client.ClusterStatus) string {
	text := fmt.Sprintf("copies under way %d, waiting %d", status.CopiesRunning, status.CopiesWaiting)
	if status.LeavingChunks > 0 {
		text += fmt.Sprintf("; %s to be moved from datanodes that leave", count(int(status.LeavingChunks), "chunk"))
	}
	if status.UnreportedNodes > 0 {
		text += fmt.Sprintf("; reports awaited from %s", count(status.UnreportedNodes, "datanode"))
	}
	if status.UnconfirmedChunks > 0 {
		text += fmt.Sprintf("; %s to be confirmed", count(int(status.UnconfirmedChunks), "chunk"))
	}
	if status.Counting {
		text += "; chunks are being counted"
	}
	return text
}

// systemText is the end of a datanode's line: what its machine is busy with.
func systemText(s client.SystemLoad) string {
	if s == (client.SystemLoad{}) {
		return "" // it does not tell
	}
	return fmt.Sprintf("  cpu %.0f%%  waits for disks %.0f%%  network %s/s in, %s/s out", 100*s.CPU, 100*s.Stalled,
		size(s.Received, true), size(s.Sent, true))
}

// checkpointText is the line about checkpoints.
func checkpointText(checkpoint client.CheckpointStatus) string {
	text := fmt.Sprintf("checkpoint: none, a start replays %s", count(int(checkpoint.RecordsSince), "record"))
	if checkpoint.Txid > 0 {
		text = fmt.Sprintf("checkpoint: txid %d, %s, %s ago, %s since", checkpoint.Txid, size(checkpoint.Bytes, true),
			checkpoint.Age.Round(time.Second), count(int(checkpoint.RecordsSince), "record"))
	}
	if checkpoint.Running {
		text += "; one is being written"
	}
	if checkpoint.Error != "" {
		text += "; the last attempt failed: " + checkpoint.Error
	}
	return text
}

func newCheckpoint(program *app) *cobra.Command {
	return &cobra.Command{
		Use:   "checkpoint",
		Short: "store the namespace beside the log, so that a start replays less",
		Long: `Have the namenode store everything that was acknowledged so far as a checkpoint,
and wait until the log server has it on its disk. The namenode does this by itself
(namenode.checkpoint_records, checkpoint_bytes, checkpoint_interval); files can be
changed meanwhile. The log server keeps the two newest ones and cuts its log before
the older one.`,
		Example: "  ww admin checkpoint",
		Args:    arguments(0, 0),
		RunE: program.asking(func(ctx context.Context, woods *client.Client, out *printer, _ []string) error {
			taken, err := woods.Checkpoint(ctx)
			if err != nil {
				return err
			}
			out.object("checkpoint", record{"txid": taken.Txid, "bytes": taken.Bytes})
			out.text("checkpoint of txid %d, %s", taken.Txid, size(taken.Bytes, true))
			return nil
		}),
	}
}

func newSafeMode(program *app) *cobra.Command {
	actions := map[string]client.SafeModeAction{"get": client.SafeModeGet, "enter": client.SafeModeEnter,
		"leave": client.SafeModeLeave}
	change := program.asking(func(ctx context.Context, woods *client.Client, out *printer, args []string) error {
		state, err := woods.SafeMode(ctx, actions[args[0]])
		if err != nil {
			return err
		}
		out.object("safe_mode", record{"safe_mode": state.On, "reason": state.Reason})
		switch {
		case state.On && state.Reason != "":
			out.text("on: %s", state.Reason)
		case state.On:
			out.text("on")
		default:
			out.text("off")
		}
		return nil
	})
	return &cobra.Command{
		Use:   "safemode [flags] get|enter|leave",
		Short: "show or change safe mode",
		Long: `In safe mode, files can be read but not changed, and no replica is deleted. After a
start the namenode stays in it until the datanodes have reported their chunks.`,
		Example:   "  ww admin safemode get\n  ww admin safemode leave",
		Args:      arguments(1, 1),
		ValidArgs: []string{"get", "enter", "leave"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, known := actions[args[0]]; !known {
				return usageOf(cmd, "%q is none of get, enter and leave", args[0])
			}
			return change(cmd, args)
		},
	}
}

func newRecoverLease(program *app) *cobra.Command {
	var wait time.Duration
	cmd := program.ofPaths(1, 1, &cobra.Command{
		Use:   "recover-lease [flags] PATH",
		Short: "take a file from its writer and close it",
		Long: `End the lease of another client at once, whether it is alive or not, and close
its file at the length that all replicas agree on: everything flushed is kept.
The command waits until the file is closed, at most for --wait. Exit code 0: it is
closed; 5: the recovery still runs, try again.`,
		Example: "  ww admin recover-lease /logs/today",
	})
	cmd.RunE = program.askingOf(func(ctx context.Context, woods *client.Client, out *printer, path string) error {
		closed, err := await(ctx, wait, func() (bool, error) { return woods.RecoverLease(ctx, path) })
		if err != nil {
			return err
		}
		out.object("lease", record{"path": path, "closed": closed})
		if !closed {
			return &fault.Error{Kind: fault.Busy, Path: path, Reason: "recovery has begun",
				Hint: "ask again in a moment"}
		}
		out.text("%s is closed", shown(path))
		return nil
	})
	cmd.Flags().DurationVar(&wait, "wait", 30*time.Second, "how long to wait for the file to be closed")
	return cmd
}

// await asks again and again until the answer is yes or the wait is over.
func await(ctx context.Context, wait time.Duration, ask func() (bool, error)) (done bool, err error) {
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		if done, err = ask(); done || err != nil {
			return done, err
		}
		if clock.Sleep(waiting, clock.Real{}, 200*time.Millisecond) != nil {
			return false, context.Cause(ctx) // nil if only the wait is over
		}
	}
}
