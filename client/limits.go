package client

import (
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
)

// Bounds of one Client. The memory that it can use, with the defaults:
//
//	one FileWriter:  (1 + sealingMax) chunks in flight · WindowBytes + 1 packet
//	                 = 3 · 8 MiB + 256 KiB                       ≈ 24.3 MiB
//	one Store:       ParallelChunks · (WindowBytes + 1 packet)
//	                 = 4 · 8.25 MiB                              = 33 MiB
//	one Fetch:       ParallelChunks · segmentBytes = 4 · 1 MiB   = 4 MiB
//	one FileReader:  ReadaheadBytes + 1 segment + locationsMax · 256 B
//	                 = 4 MiB + 1 MiB + 1 MiB                     = 6 MiB
//	connections:     idle ones ≤ idleTotalMax · a packet reader's buffer
//	                 = 256 · 8 KiB                                ≈ 2 MiB
//	                 (at worst 256 · 64 KiB: a buffer grows to the largest body
//	                 seen, about 200 bytes for acks, 8 per 64 KiB for reads)
//	mutations:       mutationsMax · a request, ≤ 16 MiB in all for any use of
//	                 this package (a commit is ≈ 200 bytes)
//	node memory:     nodesMax · ≈ 200 B                          ≈ 200 KiB
//
// A window that the datanodes grant may be smaller, never larger, than
// WindowBytes.
const (
	// ParallelChunksMax bounds Options.ParallelChunks.
	ParallelChunksMax = 64

	parallelChunksDefault = 4
	packetBytesDefault    = wire.PacketBytesDefault
	packetBytesMax        = wire.PayloadBytesMax
	windowBytesDefault    = 8 << 20
	windowBytesMax        = 256 << 20
	readaheadBytesDefault = 4 * segmentBytes
	readaheadBytesMax     = 256 << 20

	// firstBytesMax is what may follow OpenWrite before its answer (dataplane's
	// contract).
	firstBytesMax = 256 << 10

	// mutationsMax bounds the mutations of one client at once; half of what the
	// namenode remembers per client.
	mutationsMax = 512
	// listPage is how many entries one List call asks for.
	listPage = 1000
	// allocateMax is how many chunks one call allocates for a Store.
	allocateMax = 16
	// commitsMax is how many commits one AddChunks or Complete carries.
	commitsMax = 4096
	// sealingMax is how many full chunks of a FileWriter may still wait for
	// their seal while the next one is written.
	sealingMax = 2
	// allocateAheadBytes: the next chunk is asked for when so much room is left
	// in the current one (or half of it, if that is less).
	allocateAheadBytes = 8 << 20

	// segmentBytes is the unit of reading ahead, Fetch and WriteTo.
	segmentBytes = 1 << 20
	// segmentFirstBytes is the first segment after a jump.
	segmentFirstBytes = chunk.ChecksumBlockBytes
	// fetchUnitBytes is what one worker of a Fetch takes at once.
	fetchUnitBytes = 8 << 20
	// readRunBytes is the most that is read under one deadline.
	readRunBytes = 1 << 20
	// locateFirstBytes is what opening a file asks the locations of: one chunk
	// of the default size, at most 1,024 of the smallest.
	locateFirstBytes = chunk.SizeDefault
	// locateChunks is how many chunks one Locate of a reader asks for.
	locateChunks = 256
	// locationsMax bounds the locations that one reader remembers.
	locationsMax = 4096

	// idlePerNodeMax and idleTotalMax bound idle data connections.
	idlePerNodeMax = 8
	idleTotalMax   = 256
	// idleAge: an older idle connection is not trusted any more. Datanodes keep
	// idle connections longer than this.
	idleAge = 20 * time.Second

	// nodesMax bounds the memory of failed datanodes; nodeBadFor is how long a
	// failure counts.
	nodesMax   = 1024
	nodeBadFor = 10 * time.Second

	// reportsMax bounds the running reports of corrupt replicas.
	reportsMax = 64

	// recoveriesMax bounds attempts to put a pipeline up again without any
	// progress between them, recoveriesTotalMax those of one chunk. Without
	// progress they take about 5 s of waiting, beside the timeouts of nodes that
	// hang.
	recoveriesMax      = 8
	recoveriesTotalMax = 64
	// refreshesMax bounds how often one read asks for fresh locations.
	refreshesMax = 4

	firstContactDefault = 5 * time.Second
	callTimeoutDefault  = 15 * time.Second
	dataTimeoutDefault  = 30 * time.Second
	dialTimeoutDefault  = 3 * time.Second
	leaseRenewalDefault = 15 * time.Second
	// tooFewNodesPatience: datanodes that only reconnect are back within it.
	tooFewNodesPatience = 3 * time.Second
	// cleanupTimeout bounds what is done after an operation's context ended:
	// abandoning a hidden file.
	cleanupTimeout = 5 * time.Second

	reportTimeout = 10 * time.Second

	// copyRateLeast: a datanode that copies fewer bytes per second is not waited
	// for.
	copyRateLeast = 8 << 20

	// hedgeBytesMax bounds a read that is asked of two replicas: it takes a buffer
	// of its own size.
	hedgeBytesMax = segmentBytes
	// A node is slow to read from when the median of its last readSamples reads of at
	// most readSmallMax is readSlowFactor times what the others have in the median,
	// and at least readSlowLeast. It is asked last for readSlowFor. Others count if
	// they were read from readRecent ago or less.
	readSmallMax   = 256 << 10
	readSlowFactor = 5
	readSlowLeast  = 10 * time.Millisecond
	readSamples    = 5
	readSlowFor    = 10 * time.Second
	readRecent     = time.Minute

	// The p99 of reads is that of the last readTimesKept, found anew after every
	// readTimesEvery.
	readTimesKept  = 1024
	readTimesEvery = 64

	// copyAttempts bounds how often a chunk of a Copy is placed.
	copyAttempts = 3

	// Truncate asks so often whether the datanodes are done.
	truncatePollFirst = 20 * time.Millisecond
	truncatePollMost  = time.Second

	followEveryDefault = 500 * time.Millisecond

	keepAliveDefault = time.Minute

	// A hop is slow when its share of the time is slowFactor times that of the
	// median of the others, at least slowShareLeast of each ack and half of the
	// whole, over the last slowSteps steps of slowStep and slowSamples acks,
	// reports or silent steps; and the node moves less than
	// Options.SlowBytesPerSecond, by default slowRateDefault, in all sessions.
	slowFactor      = 5
	slowStep        = 250 * time.Millisecond
	slowSteps       = 12 // three seconds: a disk that commits its journal stands still for one
	slowSamples     = 3
	slowShareLeast  = 10 * time.Millisecond
	slowRateDefault = 16 << 20
	// slowReport is how often a datanode has to tell what packets wait for;
	// slowStepMost: after a longer step it was this process that was held up.
	slowReport   = 200 * time.Millisecond
	slowStepMost = 2 * slowStep
	// fastFor is how long it counts that some first hop was fast.
	fastFor = 30 * time.Second
	// slowFor is how long a slow node is not written to.
	slowFor = time.Minute
	// ownLinkFor: after two first hops in a row were slow to reach, it is this
	// client's own way that is slow, and no first hop is blamed for so long.
	ownLinkFor = 10 * time.Minute
	// slowNodesMax bounds the memory of slow nodes, and a list of them.
	slowNodesMax = 64

	retryElapsedDefault = 60 * time.Second
	retryInitialDefault = 50 * time.Millisecond
	retryMaximumDefault = 2 * time.Second
)
