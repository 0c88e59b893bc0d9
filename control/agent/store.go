package agent

import (
	"context"

	"github.com/whispering-woods/ww/internal/chunk"
)

// Identity is what a datanode must never forget. HighestEpoch and HighestTxid
// are the highest that any namenode has shown it.
type Identity struct {
	NodeID       string
	ClusterID    string // empty until the node has joined
	HighestEpoch uint64
	HighestTxid  uint64
}

// VolumeState is one directory of the chunk store.
type VolumeState struct {
	ID            string
	Directory     string
	CapacityBytes int64
	FreeBytes     int64
	Replicas      int
	Healthy       bool
	Error         string
}

// ChunkStore is what the agent needs of disk.Store. Methods are called from
// several goroutines. The store applies a change before it tells Events of it.
type ChunkStore interface {
	Identity() Identity
	// Join takes the cluster's id, once, durably.
	Join(clusterID string) error
	// ObserveEpoch writes risen values down, durably, and refuses a lower
	// epoch (fault.Fenced).
	ObserveEpoch(epoch, txid uint64) error
	Volumes() []VolumeState
	// Replicas is a snapshot that the caller owns.
	Replicas() []chunk.Replica
	// Delete moves a replica to the trash. Errors: fault.NotFound,
	// fault.StaleGeneration if the replica is at another generation.
	Delete(id chunk.ID, generation chunk.Generation) error
	// VerifyReplica reads a whole replica and compares it with its checksums. A
	// corrupt one it puts in quarantine, tells Events, and returns
	// fault.CorruptData. Other errors: fault.Disk if it cannot be read;
	// fault.NotFound, fault.Busy.
	VerifyReplica(id chunk.ID) error
}

// Load is a datanode's load at one moment.
type Load struct {
	ActiveWrites       int
	ActiveReads        int
	QueuedDiskOps      int
	GrantedWindowBytes int64
}

// Peer is a replica's place: a datanode and its data server's host:port.
type Peer struct {
	NodeID  string
	Address string
}

// RecoverRequest orders this node to lead the recovery of an open chunk.
type RecoverRequest struct {
	ChunkID           chunk.ID
	Generation        chunk.Generation // what recovery writes; above every replica's
	MinimumGeneration chunk.Generation // below it a replica is stale
	Replicas          []Peer           // every known holder
	Length            int64            // bytes to cut to; -1: what the replicas agree on
}

// RecoverResult is a recovery's outcome: all named nodes hold the chunk, sealed,
// at Length bytes. No nodes and length 0: all that were asked say that they hold
// no replica.
type RecoverResult struct {
	Length  int64
	NodeIDs []string
}

// Recoverer leads recoveries. Called from recoverWorkers goroutines; ends when
// ctx does.
type Recoverer interface {
	Recover(ctx context.Context, request RecoverRequest) (RecoverResult, error)
}

// CopyRequest orders this node to make a replica from one of the sources.
type CopyRequest struct {
	ChunkID    chunk.ID
	Generation chunk.Generation
	Length     int64
	Sources    []Peer // tried in order
}

// Copier copies a sealed replica over the data plane, verifies every byte,
// makes it durable and seals it. A node that has the replica answers nil.
// Called from copyWorkers goroutines; ends when ctx does.
type Copier interface {
	Copy(ctx context.Context, request CopyRequest) error
}
