package disk

import "github.com/whispering-woods/ww/internal/chunk"

const (
	// JobBytesMax bounds Job.Data, in bytes.
	JobBytesMax = 1 << 20
	// RangeBlocksMax bounds the checksum blocks that one Reader.Range covers:
	// 4,096 blocks are 256 MiB of data and 32 KiB of sums.
	RangeBlocksMax = 4096

	blockBytes = chunk.ChecksumBlockBytes
	// jobSumsMax: a job of 1 MiB at an odd offset completes at most 16 blocks
	// and one that was begun earlier.
	jobSumsMax = JobBytesMax/blockBytes + 1

	volumesMax          = 256
	workersDefault      = 8 // per volume; a worker that waits in fdatasync must not stop the others
	workersMax          = 256
	queueDepthDefault   = 1024 // jobs per worker; their bytes are bounded by the windows that the data plane grants
	queueDepthMax       = 1 << 16
	writeoutStepDefault = 8 << 20   // bytes between two sync_file_range calls (design §11)
	preallocateMin      = 256 << 10 // smaller hints are left to the file system's delayed allocation
	idleFilesMax        = 512       // cached open files without user
	syncBatchMax        = 64        // jobs that one pass of a worker may gather behind a sync
	volumeErrorsMax     = 3         // I/O errors that make a volume unhealthy
	rangeRetriesMax     = 3         // a Range or verification that raced with a cut starts again
	verifyBufferBytes   = 1 << 20   // multiple of blockBytes
	identityBytesMax    = 4096
)
