package client

import (
	"time"

	"github.com/whispering-woods/ww/client/internal/datanode"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/limits"
)

// Bounds of one Client. The memory that it can use, with the defaults:
//
//	one FileWriter:  (1 + sealingMax) chunks in flight · WindowBytes + 1 packet
//	                 = 3 · 8 MiB + 256 KiB                       ≈ 24.3 MiB
//	one Store:       ParallelChunks · (WindowBytes + 1 packet)
//	                 = 4 · 8.25 MiB                              = 33 MiB
//	one Fetch:       ParallelChunks · segmentBytes = 4 · 1 MiB   = 4 MiB
//	one FileReader:  ReadaheadBytes + 1 segment + 1 view
//	                 = 4 MiB + 1 MiB + 1 MiB                     = 6 MiB
//
// A window that the datanodes grant may be smaller, never larger, than WindowBytes.
const (
	// BandwidthLeast is the lowest limit of a client's bandwidth, bytes per second: with less, packets would take
	// longer than datanodes wait for them.
	BandwidthLeast = datanode.BandwidthLeast

	ParallelChunksMax = limits.ParallelChunksMax // bounds Options.ParallelChunks

	parallelChunksDefault = 4
	packetBytesDefault    = wire.PacketBytesDefault
	windowBytesDefault    = 8 << 20
	readaheadBytesDefault = 4 * segmentBytes
	readaheadBytesMax     = 256 << 20

	listPage    = limits.EntriesPerListMax // how many entries one List call asks for
	allocateMax = 16                       // how many chunks one call allocates for a Store
	// sealingMax is how many full chunks of a FileWriter may still wait for their seal while the next one is written.
	sealingMax = 2
	// allocateAheadBytes: the next chunk is asked for when so much room is left in the current one (or half of it, if
	// that is less).
	allocateAheadBytes = 8 << 20

	segmentBytes        = 1 << 20                  // the unit of reading ahead, Fetch and WriteTo
	segmentFirstBytes   = chunk.ChecksumBlockBytes // the first segment after a jump
	fetchUnitBytes      = 8 << 20                  // what one worker of a Fetch reads at once
	firstContactDefault = 5 * time.Second
	callTimeoutDefault  = 15 * time.Second
	dataTimeoutDefault  = 30 * time.Second
	dialTimeoutDefault  = 2 * time.Second
	leaseRenewalDefault = 15 * time.Second

	silenceTimeoutDefault = 2 * time.Second
	copyAttempts          = 3 // bounds how often a chunk of a Copy is placed

	// Truncate asks so often whether the datanodes are done.
	truncatePollFirst = 20 * time.Millisecond
	truncatePollMost  = 250 * time.Millisecond

	followEveryDefault = 500 * time.Millisecond

	keepAliveDefault = time.Minute

	// growTimeLeast is how much time a call must have left for nodes to join the pipeline in it.
	growTimeLeast = 10 * time.Second

	// slowRateDefault is that of Options.SlowBytesPerSecond; slowNodesMax bounds a FileWriter's list of slow nodes.
	slowRateDefault = 16 << 20
	slowNodesMax    = 64

	retryElapsedDefault = 60 * time.Second
	retryInitialDefault = 50 * time.Millisecond
	retryMaximumDefault = 2 * time.Second
)
