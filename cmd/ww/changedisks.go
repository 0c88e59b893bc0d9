package main

import (
	"cmp"
	"context"
	"math"
	"time"

	"github.com/spf13/cobra"

	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/internal/fault"
)

// diskHelp says how verbs name a disk.
const diskHelp = nodeHelp +
	" DISK is its directory on the datanode, its id (ww admin disk list) or the beginning of that."

func newDiskAdd(program *app) *cobra.Command {
	return diskVerb(program, &cobra.Command{
		Use:   "add [flags] NODE DIR",
		Short: "have a running datanode use a further disk",
		Long: `Have a running datanode use a further disk: new replicas go there at once. ` + nodeHelp + `

DIR is the whole path of an empty directory that is there, as the datanode sees it: mount the disk first. The datanode
remembers it, so that a restart uses it too, whether datanode.disks names it or not. It is refused inside or above
another disk, and if it has no room above datanode.reserve. A disk that was removed from this datanode is taken back
with all that is on it. To add one that is in use already does nothing. Exit code 0: it is in use.`,
		Example: "  ww admin disk add dn3 /srv/ww/disk3",
		Args:    arguments(2, 2),
	}, func(ctx context.Context, woods *client.Client, address string, args []string) (client.ChangedDisk, error) {
		return woods.AddDisk(ctx, address, args[0])
	})
}

func newDiskRemove(program *app) *cobra.Command {
	var cancel, wait bool
	var most time.Duration
	cmd := &cobra.Command{
		Use:   "remove [flags] NODE DISK",
		Short: "have a datanode use a disk no more",
		Long: `Have a datanode use a disk no more. ` + diskHelp + `

A disk that is out of service is removed at once: the chunks that were on it are copied from others, where there are
any. One that works drains first: nothing new goes there, its chunks are copied to other disks of this datanode or to
others, and when the holders of all have confirmed that none needs it, it is removed by itself. Meanwhile ww admin disk
list shows it as draining, with the replicas that are left, and --cancel takes the order back. ww why says of a chunk
what it waits for.

A removed disk is not in the list, and no restart uses it, whether datanode.disks names it or not. Nothing is deleted
from it: what it held stays there, some in trash/. It can be unmounted, and ww admin disk add takes it back. The only
disk that takes new chunks is not removed. With --wait the command returns when it is removed. Exit code 0: removed or
draining; 5: the wait was over.`,
		Example: "  ww admin disk remove dn3 /srv/ww/disk2\n" +
			"  ww admin disk remove --wait --timeout 2h dn3 /srv/ww/disk2",
		Args: arguments(2, 2),
	}
	cmd.Flags().BoolVar(&cancel, "cancel", false, "go on to use a disk that drains")
	cmd.Flags().BoolVar(&wait, "wait", false, "return when the disk is removed")
	cmd.Flags().DurationVar(&most, "timeout", 0, "how long to wait at most; 0: as long as it takes")
	cmd.MarkFlagsMutuallyExclusive("cancel", "wait")
	return diskVerb(program, cmd, func(ctx context.Context, woods *client.Client, address string,
		args []string) (client.ChangedDisk, error) {
		if cancel {
			return woods.KeepDisk(ctx, address, args[0])
		}
		disk, err := woods.RemoveDisk(ctx, address, args[0])
		if !wait || err != nil {
			return disk, err
		}
		done, err := await(ctx, cmp.Or(most, math.MaxInt64), func() (bool, error) {
			disk, err = woods.RemoveDisk(ctx, address, args[0]) // again: it tells how far it is
			return disk.State == diskRemoved, err
		})
		if err == nil && !done {
			err = &fault.Error{Kind: fault.Busy, Path: disk.Directory, Reason: "chunks still need the disk",
				Hint: "it goes on to drain: see `ww admin disk list`"}
		}
		return disk, err
	})
}

// diskRemoved is the state of a disk that is used no more.
const diskRemoved = "removed"

func newDiskReplace(program *app) *cobra.Command {
	return diskVerb(program, &cobra.Command{
		Use:   "replace [flags] NODE DISK [DIR]",
		Short: "have a datanode use an empty disk in the place of a failed one",
		Long: `Have a datanode use an empty disk in the place of one that is out of service, or was removed: ww admin
disk remove and ww admin disk add in one. ` + diskHelp + `

DIR is the directory of the new disk; without it, it is mounted where the old one was. If that was a mount point, the
new disk must be mounted there. Exit code 0: it is in use.`,
		Example: "  ww admin disk replace dn3 /srv/ww/disk2\n  ww admin disk replace dn3 5e8c2f10 /srv/ww/disk4",
		Args:    arguments(2, 3),
	}, func(ctx context.Context, woods *client.Client, address string, args []string) (client.ChangedDisk, error) {
		directory := ""
		if len(args) > 1 {
			directory = args[1]
		}
		return woods.ReplaceDisk(ctx, address, args[0], directory)
	})
}

// diskVerb makes cmd a verb that changes the disks of a datanode; change gets the arguments behind NODE.
func diskVerb(program *app, cmd *cobra.Command, change func(ctx context.Context, woods *client.Client, address string,
	args []string) (client.ChangedDisk, error)) *cobra.Command {
	cmd.ValidArgsFunction = program.completeNode
	cmd.RunE = program.asking(func(ctx context.Context, woods *client.Client, out *printer, args []string) error {
		nodes, err := nodesOf(ctx, woods, args[:1])
		if err != nil {
			return err
		}
		node := nodes[0]
		disk, err := change(ctx, woods, node.Address, args[1:])
		if err != nil {
			return err
		}
		out.object("disk", record{"node": node.NodeID, "name": node.Name, "address": node.Address, "disk": disk.ID,
			"directory": disk.Directory, "state": disk.State, "replicas": disk.Replicas, "note": disk.Note})
		out.text("%s %s: %s%s", node.Name, disk.Directory, disk.State, reasonText(disk.Note))
		return nil
	})
	return cmd
}
