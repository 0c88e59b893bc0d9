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
	// nodesMax bounds the node table; indexes are 1..nodesMax.
	nodesMax = 10_000
	// volumesPerNodeMax bounds what a node may tell of its disks.
	volumesPerNodeMax = limits.VolumesPerNodeMax
	// reportPageMax bounds the replicas in one page or delta.
	reportPageMax = limits.ReplicasPerMessageMax
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

	// oddPerNodeMax bounds the replicas remembered per node that are not in
	// their place (unknown, stale, open, bad); the next full report finds the
	// rest.
	oddPerNodeMax = 1 << 20
	// deletesPerNodeMax bounds delete orders waiting for confirmation.
	deletesPerNodeMax = 100_000
	// deletesPerMessage bounds one DeleteReplicas.
	deletesPerMessage = 1000
	// deleteMessagesPerStep bounds DeleteReplicas messages per step.
	deleteMessagesPerStep = 64
	// deleteAttemptsMax is how often an order is sent; the next full report
	// finds the replica again.
	deleteAttemptsMax = 10
	// sweepSlotsPerStep bounds the chunks assessed again in one step.
	sweepSlotsPerStep = 1 << 20
	// repairExaminedPerTick and trimsPerTick bound repair work in one Tick,
	// repairExaminedPerCopy that after a copy has arrived.
	repairExaminedPerTick = 8192
	repairExaminedPerCopy = 64
	trimsPerTick          = 1024
	// verifyOrdersPerTick bounds the repeated orders to verify in one Tick.
	verifyOrdersPerTick = 1024
	// oddExaminedPerTick bounds the odd replicas looked at in one Tick.
	oddExaminedPerTick = 16_384
	// leasesPerTick bounds leases ended and recoveries started in one Tick.
	leasesPerTick = 1024
	// freshMax bounds the memory of chunks sealed a moment ago.
	freshMax = 65_536
)
