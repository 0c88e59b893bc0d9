package actor

import "github.com/whispering-woods/ww/internal/limits"

// Bounds of everything that peers can make grow.
const (
	// replicationMax bounds a file's replication.
	replicationMax = limits.ReplicationMax
	// chunksPerCallMax bounds the chunks that one call allocates.
	chunksPerCallMax = limits.ChunksPerCallMax
	// commitsPerCallMax bounds the commits in one call.
	commitsPerCallMax = limits.CommitsPerCallMax
	// nodesPerCallMax bounds a list of node ids in a request.
	nodesPerCallMax = limits.NodesPerCallMax
	// chunksPerFileMax bounds a file: 2^20 chunks are 64 TiB at 64 MiB each.
	chunksPerFileMax = 1 << 20
	// listLimitMax bounds one page of a listing.
	listLimitMax = limits.EntriesPerListMax
	// locateMax bounds the chunks of one Locate answer.
	locateMax = 4096
	// clientNameBytesMax and nodeNameBytesMax bound texts that are stored.
	clientNameBytesMax = limits.TextBytesMax
	nodeNameBytesMax   = limits.TextBytesMax
	// volumesPerNodeMax bounds what a node may tell of its disks.
	volumesPerNodeMax = limits.VolumesPerNodeMax
	// openFilesMax bounds the files with a lease, over all clients.
	openFilesMax = 1 << 20

	// checkpointKeysShared entries of a loaded checkpoint share the memory of
	// their keys: a lone survivor among removed neighbours wastes little.
	checkpointKeysShared = 32
	// checkpointBytesPerChunk is about what a file with one chunk takes in a
	// checkpoint; checkpointChunksInit bounds what is made for it before any was
	// read.
	checkpointBytesPerChunk = 72
	checkpointChunksInit    = 16 << 20

	// leasesPerTick bounds leases ended and recoveries started in one Tick.
	leasesPerTick = 1024
)
