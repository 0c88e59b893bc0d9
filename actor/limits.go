package actor

import "time"

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

	// fsckItemsPerPage bounds the chunks and entries that one page examines (≈ 0.3 µs each), fsckTextBytesPerPage the
	// paths in it: with 100 bytes for each chunk it stays below 4 MiB.
	fsckItemsPerPage     = 8192
	fsckTextBytesPerPage = 1 << 20

	// explanationsPerPage bounds the chunks that one answer explains: each looks at all datanodes (≈ 0.2 ms for 1,000).
	explanationsPerPage = 16

	// MaintenanceMax bounds how long a datanode's replicas may count while it is away.
	MaintenanceMax = 7 * 24 * time.Hour

	// expiredPerTick bounds the files, directories and chunks of the trash that one Tick deletes (≈ 2 µs each),
	// trashUsersPerTick the users and trashNamesPerTick the names of places that it looks at.
	expiredPerTick    = 1024
	trashUsersPerTick = 64
	trashNamesPerTick = 1024
	// leasesPerTick bounds leases ended and recoveries started in one Tick.
	leasesPerTick = 1024
	// growablePerRenewal bounds the chunks that one RenewLeases answer names as growable.
	growablePerRenewal = 256
	// growableExamined bounds the open files that one RenewLeases looks at for that, growableWork the work.
	growableExamined = 1024
	growableWork     = 1 << 17
	// recoveredAtEnd bounds the chunks at a file's end that its recovery looks at again before it closes the file: a
	// writer has three open at most.
	recoveredAtEnd = 4
	// recoveryAttemptsForCopies: after so many attempts a recovery goes on with fewer holders than a writer needs, and
	// has the chunk copied.
	recoveryAttemptsForCopies = 6
)
