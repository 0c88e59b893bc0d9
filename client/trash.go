package client

import (
	"context"
	"iter"
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// TrashedReplica is a deleted replica that a datanode still has.
type TrashedReplica struct {
	Chunk      chunk.ID
	Generation chunk.Generation
	Length     int64       // bytes; of an open one those of its file
	State      chunk.State // Sealed; Open: it was being written; 0: a copy that was never whole
	Disk       string      // id of its disk
	Deleted    time.Time
	Until      time.Time // its room is free then
	number     uint64
}

// Trash lists the deleted replicas that a datanode still has, of one chunk or (zero id) of all, in the order in which
// their room becomes free. Disks out of service are left out. The address is that of its data server. Errors:
// fault.Unavailable, fault.Protocol from a datanode that is too old; the first one ends the list.
func (c *Client) Trash(ctx context.Context, address string, of chunk.ID) iter.Seq2[TrashedReplica, error] {
	return func(yield func(TrashedReplica, error) bool) {
		request := &wire.Trash{BodyVersion: wire.BodyVersion, Action: wire.TrashList}
		if !of.IsZero() {
			request.ChunkID = of[:]
		}
		for {
			reply, err := c.datanodes.Trash(ctx, wire.Hop{Address: address}, request)
			if err != nil {
				yield(TrashedReplica{}, err)
				return
			}
			for _, entry := range reply.Entries {
				id, err := chunk.IDFrom(entry.ChunkID)
				if err == nil && entry.Number <= request.Number {
					err = fault.New(fault.Protocol, "list trash", "the list does not go on")
				}
				request.Number = entry.Number
				replica := TrashedReplica{Chunk: id, Generation: chunk.Generation(entry.Generation),
					Length: entry.Length, State: chunk.State(entry.State), Disk: entry.VolumeID,
					Deleted: time.Unix(0, entry.DeletedNanos), Until: time.Unix(0, entry.UntilNanos),
					number: entry.Number}
				if !yield(replica, err) || err != nil {
					return
				}
			}
			if len(reply.Entries) == 0 {
				return
			}
		}
	}
}

// RestoreReplica has a datanode serve and report a deleted replica again, durably. What becomes of it is the namenode's
// to say: a replica of a chunk that it knows counts again, any other it has deleted again, after a grace.
//
// Errors: fault.NotFound: it is not in the trash any more, or the datanode was restarted since it was listed;
// fault.Exists: the datanode has a replica of the chunk; fault.Invalid: it was never whole; fault.StaleGeneration;
// fault.CorruptData; fault.NoSpace; fault.Disk; fault.Unavailable.
func (c *Client) RestoreReplica(ctx context.Context, address string, replica TrashedReplica) error {
	return c.changeTrash(ctx, wire.TrashRestore, address, replica)
}

// DiscardReplica has a datanode give the room of a deleted replica free now. Errors: fault.NotFound, as RestoreReplica;
// fault.Disk; fault.Unavailable.
func (c *Client) DiscardReplica(ctx context.Context, address string, replica TrashedReplica) error {
	return c.changeTrash(ctx, wire.TrashEmpty, address, replica)
}

func (c *Client) changeTrash(ctx context.Context, action wire.TrashAction, address string,
	replica TrashedReplica) error {
	_, err := c.datanodes.Trash(ctx, wire.Hop{Address: address}, &wire.Trash{BodyVersion: wire.BodyVersion,
		Action: action, ChunkID: replica.Chunk[:], Generation: uint64(replica.Generation), Number: replica.number})
	return err
}
