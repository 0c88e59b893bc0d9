package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// trashRequests are under way to one datanode at a time.
const trashRequests = 8

const trashArguments = nodeHelp + ` With --all it is every datanode, and the only argument is CHUNK. CHUNK is a chunk's
id: without one it is about all of them.`

func newAdminTrash(program *app) *cobra.Command {
	return group(&cobra.Command{Use: "trash", Short: "look at deleted replicas, bring them back, or free their room",
		Example: "  ww admin trash list"},
		trashVerb(program, &cobra.Command{
			Use:   "list [flags] [NODE] [CHUNK]",
			Short: "show the deleted replicas that datanodes still have",
			Long: `Show the deleted replicas that datanodes still have, in the order in which their room becomes free:
node, disk, chunk, generation, bytes, when it was deleted, and until when it can be restored (datanode.trash_delay).
` + trashArguments + ` A disk that does not answer is left out.

A small replica is a record of a pack segment: it may go before its time, when its segment is compacted.`,
			Example: "  ww admin trash list\n" +
				"  ww admin trash list n1 01a20a39-168a-7eb1-bb93-01f0dca57103\n" +
				"  ww admin trash list --json | jq .chunk",
		}, 0, (*adminTrash).list),
		trashVerb(program, &cobra.Command{
			Use:   "restore [flags] NODE|--all [CHUNK]",
			Short: "have datanodes serve and report deleted replicas again",
			Long: `Have datanodes serve and report deleted replicas again: of each chunk the one with the highest
generation. ` + trashArguments + `

It brings no file back by itself: the namenode decides. A replica of a chunk that it knows counts again, if its
generation is right. Any other is unknown to it, and it orders its deletion again after namenode.unknown_replica_grace.
So this is for a file that was deleted by mistake and is in the namenode's metadata again, from an older checkpoint or
log: restore these first, or within that time. To have more time, restart the datanodes with a longer
datanode.trash_delay: it holds for what is in the trash already.

A replica that was still open when it was deleted comes back as after a restart of its datanode: cut to what of it was
synced, and closed for writing until the namenode recovers its chunk. If nothing was ever synced it stays deleted; if
synced bytes are lost it goes to quarantine. A copy that was never whole (unfinished) does not come back.

Where a datanode has a replica of the chunk, nothing changes. Bytes are compared with their checksums when they are
read; ww admin scrub does it at once.`,
			Example: "  ww admin trash restore --all\n" +
				"  ww admin trash restore n1 01a20a39-168a-7eb1-bb93-01f0dca57103",
		}, 1, (*adminTrash).restore),
		trashVerb(program, &cobra.Command{
			Use:   "empty [flags] NODE|--all CHUNK|--yes",
			Short: "free the room of deleted replicas now",
			Long: `Free the room of deleted replicas now, before datanode.trash_delay is over. They cannot be
restored any more: for a file that was deleted by mistake this is the last chance. So without CHUNK, --yes has to say
that all of them shall go; look at ww admin trash list first. ` + trashArguments + `

The room of a small replica, a record of a pack segment, is free when at least half of its segment is: the datanode
compacts it then.`,
			Example: "  ww admin trash empty --yes n1\n" +
				"  ww admin trash empty --all 01a20a39-168a-7eb1-bb93-01f0dca57103",
		}, 1, (*adminTrash).empty))
}

// adminTrash is the work of a verb on the trashes of datanodes.
type adminTrash struct {
	program *app
	verb    string
	out     *printer
	woods   *client.Client
	chunk   chunk.ID // zero: all

	mu struct { // held by who adds up, or writes
		sync.Mutex
		failed      failures
		done, bytes int64
	}
}

// trashVerb completes a verb on the trashes of one datanode, or of all. least is how many arguments it wants, --all
// among them.
func trashVerb(program *app, cmd *cobra.Command, least int,
	work func(*adminTrash, context.Context, client.NodeStatus) error) *cobra.Command {
	all := cmd.Flags().Bool("all", false, "of every datanode")
	everything := true // may be meant
	if cmd.Name() == "empty" {
		cmd.Flags().BoolVar(&everything, "yes", false, "without CHUNK: yes, all that there is")
	}
	cmd.ValidArgsFunction = program.completeNode
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		most := 2
		if *all {
			least, most = 0, 1
		}
		if err := arguments(least, most)(cmd, args); err != nil {
			return err
		}
		if len(args) < most && !everything {
			return usageOf(cmd, "nothing of what this frees can be restored: name a CHUNK, or say --yes to all")
		}
		return nil
	}
	cmd.RunE = program.asking(func(ctx context.Context, woods *client.Client, out *printer, args []string) (err error) {
		trash := &adminTrash{program: program, verb: verbName(cmd), out: out, woods: woods}
		var named []string
		if !*all && len(args) > 0 {
			named, args = args[:1], args[1:]
		}
		if len(args) > 0 {
			if trash.chunk, err = chunk.ParseID(args[0]); err != nil {
				return usageOf(cmd, "%v", err)
			}
		}
		nodes, err := nodesOf(ctx, woods, named)
		if err != nil {
			return err
		}
		for _, node := range nodes {
			if err := work(trash, ctx, node); ctx.Err() != nil {
				return context.Cause(ctx)
			} else if err != nil {
				trash.failed(err)
			}
		}
		return trash.end(cmd.Name() == "list")
	})
	return cmd
}

func (t *adminTrash) list(ctx context.Context, node client.NodeStatus) error {
	for replica, err := range t.woods.Trash(ctx, node.Address, t.chunk) {
		if err != nil {
			return err
		}
		t.show(node, replica, "")
	}
	return t.out.err
}

// show writes a line about a replica. An action is what became of it.
func (t *adminTrash) show(node client.NodeStatus, replica client.TrashedReplica, action string) {
	directory, state := replica.Disk, "sealed"
	for _, v := range node.Volumes {
		if v.ID == replica.Disk {
			directory = v.Directory
		}
	}
	switch replica.State {
	case chunk.Sealed:
	case 0:
		state = "unfinished"
	default:
		state = "open"
	}
	fields := record{"node": node.NodeID, "name": node.Name, "address": node.Address, "disk": replica.Disk,
		"directory": directory, "chunk": replica.Chunk.String(), "generation": uint64(replica.Generation),
		"bytes": replica.Length, "state": state, "deleted": stamp(replica.Deleted), "until": stamp(replica.Until)}
	if action != "" {
		fields["action"], action = action, action+"  "
	}
	t.out.object("trashed", fields)
	t.out.text("%s%-21s %s  %s  generation %d  %s %s  deleted %s  until %s", action, node.Name, directory,
		replica.Chunk, replica.Generation, size(replica.Length, true), state,
		replica.Deleted.Local().Format(time.DateTime), replica.Until.Local().Format(time.DateTime))
}

// restore brings back the best replica of each chunk.
func (t *adminTrash) restore(ctx context.Context, node client.NodeStatus) error {
	best := make(map[chunk.ID]client.TrashedReplica)
	for replica, err := range t.woods.Trash(ctx, node.Address, t.chunk) {
		if err != nil {
			return err
		}
		old, known := best[replica.Chunk]
		if replica.State != 0 && (!known || replica.Generation > old.Generation ||
			replica.Generation == old.Generation && (replica.State == chunk.Sealed || old.State != chunk.Sealed)) {
			best[replica.Chunk] = replica
		}
	}
	var group errgroup.Group
	group.SetLimit(trashRequests)
	for _, replica := range best {
		group.Go(func() error {
			t.did(ctx, node, replica, "restored", t.woods.RestoreReplica(ctx, node.Address, replica), fault.Exists)
			return nil
		})
	}
	return group.Wait()
}

func (t *adminTrash) empty(ctx context.Context, node client.NodeStatus) error {
	var group errgroup.Group
	group.SetLimit(trashRequests)
	var failure error
	for replica, err := range t.woods.Trash(ctx, node.Address, t.chunk) {
		if failure = err; err != nil {
			break
		}
		group.Go(func() error {
			err := t.woods.DiscardReplica(ctx, node.Address, replica)
			t.did(ctx, node, replica, "discarded", err, fault.NotFound)
			return nil
		})
	}
	_ = group.Wait() // errors are noted
	return failure
}

// did notes what became of a replica. An error of the kind harmless is none, unless the replica was asked for by name.
func (t *adminTrash) did(ctx context.Context, node client.NodeStatus, replica client.TrashedReplica, action string,
	err error, harmless fault.Kind) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err == nil:
		t.mu.done, t.mu.bytes = t.mu.done+1, t.mu.bytes+replica.Length
		t.show(node, replica, action)
	case errors.Is(err, harmless) && t.chunk.IsZero(), ctx.Err() != nil:
	default:
		t.program.complain(t.verb, &t.mu.failed, err)
	}
}

func (t *adminTrash) failed(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.program.complain(t.verb, &t.mu.failed, err)
}

// end sums up.
func (t *adminTrash) end(listed bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if listed {
		return t.mu.failed.err()
	}
	t.out.object("total", record{"replicas": t.mu.done, "bytes": t.mu.bytes})
	t.out.text("%s, %s", count(int(t.mu.done), "replica"), size(t.mu.bytes, true))
	if !t.chunk.IsZero() && t.mu.done == 0 && t.mu.failed.failed == 0 {
		e := fault.New(fault.NotFound, "", "it is in no trash that was asked")
		e.Chunk, e.Hint = t.chunk.String(), "see `ww admin trash list`"
		return e
	}
	t.mu.failed.total = int(t.mu.done) + t.mu.failed.failed
	return t.mu.failed.err()
}
