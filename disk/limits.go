package disk

import (
	"time"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/internal/chunk"
)

const (
	// JobBytesMax bounds Job.Data, in bytes.
	JobBytesMax = chunkfile.AppendBytesMax
	// RangeBlocksMax bounds the checksum blocks that one Reader.Range covers: 4,096 blocks are 256 MiB of
	// data and 32 KiB of sums.
	RangeBlocksMax = 4096

	blockBytes = chunk.ChecksumBlockBytes

	workersDefault      = 8    // per volume; a worker that waits in fdatasync must not stop the others
	queueDepthDefault   = 1024 // jobs per worker; their bytes are bounded by the windows that the data plane grants
	queueDepthMax       = 1 << 16
	writeoutStepDefault = 8 << 20 // bytes between two sync_file_range calls (design §11)
	// copyStepBytes of a copy are read or written out at once, twice in all (tuning.md#copystep).
	copyStepBytes     = 1 << 20
	copyWorkers       = 4         // per volume, beside the others: they wait for the disk, and clients' jobs must not
	copyQueueDepth    = 64        // jobs per worker of copies: each copy has a few
	aheadJobBytesMax  = 32 << 10  // larger appends gain nothing by it
	preallocateMin    = 256 << 10 // smaller hints are left to the file system's delayed allocation
	idleFilesMax      = 512       // cached open files without user
	syncBatchMax      = 64        // jobs that one pass of a worker may gather behind a sync
	inspectInterval   = time.Second
	probeInterval     = 10 * time.Second       // between two writes that show whether a healthy disk still takes them
	probeIdleInterval = 2 * time.Second        // of a disk that nobody else writes to
	closePatience     = 10 * time.Second       // of Close; a daemon's other parts take 15 s, systemd's unit allows 30 s
	identityPatience  = 2 * time.Second        // for the other volumes once one has an identity durably
	clocksApartMax    = time.Hour              // of a namenode, which dates chunks, and this datanode
	fencesMax         = 1 << 16                // chunks without a replica that recoveries have asked for; about 4 MB
	rangeRetriesMax   = 3                      // a Range or verification that raced with a cut restarts
	verifyBufferBytes = 1 << 20                // multiple of blockBytes
	identityBytesMax  = 1 << 20                // VolumesPerNodeMax records of at most a path of 4 KiB, and some room
	spacePatience     = 100 * time.Millisecond // of those who ask a file system for its room
	spaceAgeMax       = time.Second            // of an answer of StatFS that places a small replica

	unreadableInARowMax = 4 // replicas whose errors are their own; from then on they are the volume's

	// changesMax disks may be removed while a store runs: the goroutines of each, WorkersPerVolume and two, end with
	// the store. So many removed ones are remembered.
	changesMax = 256

	packSegmentDefault = 64 << 20
)
