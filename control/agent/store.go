package agent

import (
	"context"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
)

// ChunkStore is what the agent needs of disk.Store. Methods are called from
// several goroutines. The store applies a change before it calls Events.
type ChunkStore interface {
	Identity() datanode.Identity
	// Join binds the store to a cluster, once, durably.
	Join(clusterID string) error
	// ObserveEpoch writes risen values down, durably, and refuses a lower epoch (fault.Fenced).
	ObserveEpoch(epoch, txid uint64) error
	Volumes() []datanode.VolumeState
	// VolumeOf is the id of the volume that a replica is on; "": there is none. It does no I/O.
	VolumeOf(id chunk.ID) string
	// Replicas is a snapshot that the caller owns.
	Replicas() []chunk.Replica
	// Announce reports to Events what there is of a chunk, in order with its other changes: the replica, or that there
	// is none of this generation.
	Announce(id chunk.ID, generation chunk.Generation)
	// Delete moves a replica to the trash. Errors: fault.NotFound,
	// fault.StaleGeneration if the replica is at another generation.
	Delete(id chunk.ID, generation chunk.Generation) error
	// VerifyReplica reads a whole replica and compares it with its checksums. A corrupt one it puts in quarantine,
	// reports to Events, and returns fault.CorruptData. Other errors: fault.Disk if it cannot be read;
	// fault.NotFound, fault.Busy.
	VerifyReplica(id chunk.ID) error
}

// Recoverer leads recoveries, as dataplane.Server does: of the result it sets
// Length and NodeIDs. Called from recoverWorkers goroutines; ends when ctx does.
type Recoverer interface {
	Recover(ctx context.Context, order datanode.RecoverChunk) (datanode.RecoverResult, error)
}

// Copier copies a sealed replica over the data plane, verifies every byte, makes it durable and seals it, as
// dataplane.Server does. A node that has the replica answers nil. badSources are the nodes whose bytes did not match
// their checksums. Called from copyWorkers goroutines; ends when ctx does.
type Copier interface {
	CopyReplica(ctx context.Context, order datanode.CopyReplica) (badSources []string, err error)
}
