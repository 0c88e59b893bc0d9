package client

import (
	"context"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
)

// DiskScrub is how far a datanode is with the comparison of a disk's replicas with their checksums.
type DiskScrub struct {
	Disk     string // its id
	Passes   int64  // whole ones
	Wanted   int64  // so many there are when all is verified that BeginScrub asked for
	Percent  int    // of the pass under way
	Replicas int64  // that the pass under way, or the last one, has verified
	Bytes    int64  // in them
	Bad      int64  // among them; they are in quarantine, and copied from others
}

// BeginScrub has a datanode compare all of its replicas with their checksums, from now on, and does not wait for it.
// The address is that of its data server. Errors: fault.Unavailable, fault.Protocol from a datanode that is too old.
func (c *Client) BeginScrub(ctx context.Context, address string) ([]DiskScrub, error) {
	return c.scrubState(ctx, address, true)
}

// ScrubProgress tells how far the scrub of a datanode is. Disks that are out of service are not listed. Errors: as
// BeginScrub.
func (c *Client) ScrubProgress(ctx context.Context, address string) ([]DiskScrub, error) {
	return c.scrubState(ctx, address, false)
}

func (c *Client) scrubState(ctx context.Context, address string, begin bool) ([]DiskScrub, error) {
	reply, err := c.datanodes.Scrub(ctx, wire.Hop{Address: address}, chunk.ID{}, 0, begin)
	if err != nil {
		return nil, err
	}
	disks := make([]DiskScrub, 0, len(reply.Volumes))
	for _, v := range reply.Volumes {
		disks = append(disks, DiskScrub{Disk: v.VolumeID, Passes: int64(v.Passes), Wanted: int64(v.Wanted),
			Percent: int(v.Percent), Replicas: int64(v.Replicas), Bytes: int64(v.Bytes), Bad: int64(v.Bad)})
	}
	return disks, nil
}

// ScrubReplica has a datanode compare its replica of a chunk with its checksums, and waits for it. Errors:
// fault.CorruptData: it was bad, is in quarantine now, and is copied from another one; fault.NotFound; fault.Busy: it
// is being changed; fault.Unavailable.
func (c *Client) ScrubReplica(ctx context.Context, at Replica, located ChunkLocation) error {
	hop := wire.Hop{NodeID: at.NodeID, Address: at.Address}
	_, err := c.datanodes.Scrub(ctx, hop, located.ID, located.Length, false)
	return err
}
