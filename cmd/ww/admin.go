package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

func newAdmin(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "admin",
		Short: "look after a cluster",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownVerb(cmd, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newReport(a), newSafeMode(a), newRecoverLease(a), newCheckpoint(a), newProfile(a))
	return cmd
}

func newReport(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "report",
		Short:   "show the state of the cluster and of every datanode",
		Example: "  ww admin report\n  ww admin report --json | jq .missing_chunks",
		Args:    arguments(0, 0),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		s, err := c.ClusterStatus(cmd.Context())
		if err != nil {
			return err
		}
		out := a.printer()
		out.report(s)
		return out.flush()
	}
	return cmd
}

func (p *printer) report(s client.ClusterStatus) {
	nodes, live := []record{}, 0
	for _, n := range s.Nodes {
		if n.Live {
			live++
		}
		nodes = append(nodes, record{
			"node": n.NodeID, "address": n.Address, "live": n.Live, "server_version": n.Version,
			"capacity_bytes": n.CapacityBytes, "used_bytes": n.UsedBytes, "free_bytes": n.FreeBytes,
			"admin_address": n.AdminAddress, "replicas": n.Replicas, "active_writes": n.ActiveWrites, "active_reads": n.ActiveReads,
			"last_heartbeat_seconds": seconds(n.LastHeartbeatAge),
		})
	}
	logs := []record{}
	for _, l := range s.LogServers {
		logs = append(logs, record{"node": l.NodeID, "address": l.Address, "leader": l.Leader, "error": l.Error, "admin_address": l.AdminAddress})
	}
	p.object("cluster", record{
		"cluster_id": s.ClusterID, "namenode": s.Namenode, "server_version": s.Version, "epoch": s.Epoch, "txid": s.Txid,
		"safe_mode": s.SafeMode, "safe_mode_reason": s.SafeModeReason,
		"files": s.Files, "directories": s.Directories, "chunks": s.Chunks, "open_files": s.OpenFiles,
		"under_replicated_chunks": s.UnderReplicatedChunks, "missing_chunks": s.MissingChunks, "corrupt_replicas": s.CorruptReplicas,
		"default_replication": s.DefaultReplication, "default_chunk_size": s.DefaultChunkSize, "admin_address": s.AdminAddress, "log_servers": logs, "nodes": nodes,
		"checkpoint": record{"txid": s.Checkpoint.Txid, "bytes": s.Checkpoint.Bytes, "age_seconds": seconds(s.Checkpoint.Age),
			"records_since": s.Checkpoint.RecordsSince, "running": s.Checkpoint.Running, "error": s.Checkpoint.Error},
	})
	p.text("cluster %s at %s, version %s, epoch %d, txid %d", s.ClusterID, s.Namenode, s.Version, s.Epoch, s.Txid)
	if s.SafeMode {
		p.text("safe mode: on, %s", s.SafeModeReason)
	} else {
		p.text("safe mode: off")
	}
	p.text("files %d, directories %d, chunks %d, being written %d", s.Files, s.Directories, s.Chunks, s.OpenFiles)
	p.text("chunks with too few replicas %d, without any %d, corrupt replicas %d", s.UnderReplicatedChunks, s.MissingChunks, s.CorruptReplicas)
	p.text("new files: %d copies, chunks of %s", s.DefaultReplication, size(s.DefaultChunkSize, true))
	p.text("%s", checkpointText(s.Checkpoint))
	p.text("datanodes: %d live of %d", live, len(s.Nodes))
	for _, n := range s.Nodes {
		state := "live"
		if !n.Live {
			state = "dead"
		}
		p.text("  %s  %-21s %s  heard %.1fs ago  %s of %s free  %d replicas  %d writes  %d reads", n.NodeID, n.Address, state,
			n.LastHeartbeatAge.Seconds(), size(n.FreeBytes, true), size(n.CapacityBytes, true), n.Replicas, n.ActiveWrites, n.ActiveReads)
	}
}

// checkpointText is the line about checkpoints.
func checkpointText(c client.CheckpointStatus) string {
	text := fmt.Sprintf("checkpoint: none, a start replays %s", count(int(c.RecordsSince), "record"))
	if c.Txid > 0 {
		text = fmt.Sprintf("checkpoint: txid %d, %s, %s ago, %s since", c.Txid, size(c.Bytes, true), c.Age.Round(time.Second), count(int(c.RecordsSince), "record"))
	}
	if c.Running {
		text += "; one is being written"
	}
	if c.Error != "" {
		text += "; the last attempt failed: " + c.Error
	}
	return text
}

func newCheckpoint(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "checkpoint",
		Short: "store the namespace beside the log, so that a start replays less",
		Long: `Have the namenode store everything that was acknowledged so far as a checkpoint,
and wait until the log server has it on its disk. The namenode does this by itself
(namenode.checkpoint_records, checkpoint_bytes, checkpoint_interval); files can be
changed meanwhile. The log server keeps the two newest ones and cuts its log in
front of the older.`,
		Example: "  ww admin checkpoint",
		Args:    arguments(0, 0),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		taken, err := c.Checkpoint(cmd.Context())
		if err != nil {
			return err
		}
		out := a.printer()
		out.object("checkpoint", record{"txid": taken.Txid, "bytes": taken.Bytes})
		out.text("checkpoint of txid %d, %s", taken.Txid, size(taken.Bytes, true))
		return out.flush()
	}
	return cmd
}

func newSafeMode(a *app) *cobra.Command {
	actions := map[string]client.SafeModeAction{"get": client.SafeModeGet, "enter": client.SafeModeEnter, "leave": client.SafeModeLeave}
	cmd := &cobra.Command{
		Use:   "safemode [flags] get|enter|leave",
		Short: "show or change safe mode",
		Long: `In safe mode files can be read and not changed, and no replica is deleted.
The namenode is in it after a start until the datanodes have reported their
chunks.`,
		Example:   "  ww admin safemode get\n  ww admin safemode leave",
		Args:      arguments(1, 1),
		ValidArgs: []string{"get", "enter", "leave"},
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		action, known := actions[args[0]]
		if !known {
			return usageOf(cmd, "%q is none of get, enter and leave", args[0])
		}
		c, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		state, err := c.SafeMode(cmd.Context(), action)
		if err != nil {
			return err
		}
		out := a.printer()
		out.object("safe_mode", record{"safe_mode": state.On, "reason": state.Reason})
		switch {
		case state.On && state.Reason != "":
			out.text("on: %s", state.Reason)
		case state.On:
			out.text("on")
		default:
			out.text("off")
		}
		return out.flush()
	}
	return cmd
}

func newRecoverLease(a *app) *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "recover-lease [flags] PATH",
		Short: "take a file from its writer and close it",
		Long: `End the lease of another client at once, whether it is alive or not, and close
its file at the length that all replicas agree on: everything flushed is kept.
Waits until the file is closed, --wait at most. Exit code 0: it is closed; 5:
recovery goes on, ask again.`,
		Example:           "  ww admin recover-lease /logs/today",
		Args:              arguments(1, 1),
		ValidArgsFunction: a.completeRemote,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path, err := a.remote(args[0])
		if err != nil {
			return err
		}
		c, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		closed, err := awaitRecovery(cmd.Context(), c, path, wait)
		if err != nil {
			return err
		}
		out := a.printer()
		out.object("lease", record{"path": path, "closed": closed})
		if !closed {
			return out.done(&fault.Error{Kind: fault.Busy, Path: path, Reason: "recovery has begun", Hint: "ask again in a moment"})
		}
		out.text("%s is closed", shown(path))
		return out.flush()
	}
	cmd.Flags().DurationVar(&wait, "wait", 30*time.Second, "wait so long for the file to be closed")
	return cmd
}

// awaitRecovery asks until the file is closed or the wait is over.
func awaitRecovery(ctx context.Context, c *client.Client, path string, wait time.Duration) (closed bool, err error) {
	const pause = 200 * time.Millisecond
	over := time.NewTimer(wait)
	defer over.Stop()
	again := time.NewTicker(pause)
	defer again.Stop()
	for {
		if closed, err = c.RecoverLease(ctx, path); closed || err != nil {
			return closed, err
		}
		select {
		case <-again.C:
		case <-over.C:
			return false, nil
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}
