package actor

// Bounds of everything that peers can make grow.
const (
	// chunksPerFileMax bounds a file: 2^20 chunks are 64 TiB at 64 MiB each.
	chunksPerFileMax = 1 << 20
	// locateMax bounds the chunks of one Locate answer.
	locateMax = 4096
	// openFilesMax bounds the files with a lease, over all clients.
	openFilesMax = 1 << 20

	// checkpointKeysShared entries of a loaded checkpoint share the memory of
	// their keys: a lone survivor among removed neighbours wastes little.
	checkpointKeysShared = 32
	// checkpointBytesPerChunk is about what a file with one chunk takes in a checkpoint; checkpointChunksInit
	// bounds what is made for it before any was read.
	checkpointBytesPerChunk = 72
	checkpointChunksInit    = 16 << 20

	// leasesPerTick bounds leases ended and recoveries started in one Tick.
	leasesPerTick = 1024
)
