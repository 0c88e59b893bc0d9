package client

import (
	"context"

	"github.com/whispering-woods/ww/dataplane/wire"
)

// ChangedDisk is a disk after AddDisk, RemoveDisk or ReplaceDisk.
type ChangedDisk struct {
	ID, Directory string
	State         string // as VolumeStatus has it, or "removed"
	Replicas      int64
	Note          string // what else people should know; empty: nothing
}

// AddDisk has a datanode take a directory as a further disk, durably and at once. It is empty, or was removed from this
// datanode; then it is read. The address is that of its data server. Errors: fault.Invalid, fault.Exists,
// fault.NoSpace, fault.Busy, fault.Disk; fault.Unavailable; fault.Protocol from a datanode that is too old.
func (c *Client) AddDisk(ctx context.Context, address, directory string) (ChangedDisk, error) {
	return c.changeDisks(ctx, address, wire.Disks{Action: wire.DiskAdd, Directory: directory})
}

// RemoveDisk has a datanode use a disk no more. disk is its directory, its id, or the beginning of that. One that works
// is removed by itself later, when no chunk needs it; meanwhile it is "draining". Errors: as AddDisk; fault.NotFound,
// fault.TooFewNodes.
func (c *Client) RemoveDisk(ctx context.Context, address, disk string) (ChangedDisk, error) {
	return c.changeDisks(ctx, address, wire.Disks{Action: wire.DiskRemove, Disk: disk})
}

// KeepDisk takes RemoveDisk back while the disk drains. Errors: as RemoveDisk; fault.Exists if it is removed.
func (c *Client) KeepDisk(ctx context.Context, address, disk string) (ChangedDisk, error) {
	return c.changeDisks(ctx, address, wire.Disks{Action: wire.DiskKeep, Disk: disk})
}

// ReplaceDisk has a datanode take an empty directory in the place of a disk that is out of service, or removed; an
// empty name: the same directory. Errors: as RemoveDisk.
func (c *Client) ReplaceDisk(ctx context.Context, address, disk, directory string) (ChangedDisk, error) {
	return c.changeDisks(ctx, address, wire.Disks{Action: wire.DiskReplace, Disk: disk, Directory: directory})
}

func (c *Client) changeDisks(ctx context.Context, address string, request wire.Disks) (ChangedDisk, error) {
	request.BodyVersion = wire.BodyVersion
	reply, err := c.datanodes.Disks(ctx, wire.Hop{Address: address}, &request)
	return ChangedDisk{ID: reply.VolumeID, Directory: reply.Directory, State: reply.State,
		Replicas: int64(reply.Replicas), Note: reply.Note}, err
}
