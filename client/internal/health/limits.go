package health

import "time"

// Bounds of the memories: nodesMax · ≈ 200 B ≈ 200 KiB for failures and reads each.
const (
	// nodesMax bounds the memory of failed datanodes, of those read from, and of those that chunks were placed on;
	// nodeBadFor is how long a failure counts, doubled up to nodeBadTimesMax times while it repeats: to 80 s.
	nodesMax        = 1024
	nodeBadFor      = 10 * time.Second
	nodeBadTimesMax = 3

	// A node is slow to read from when the median of its last readSamples reads of at most readSmallMax is
	// readSlowFactor times the median of the others, and at least readSlowLeast. It is asked last for readSlowFor.
	// Others count if they were read from readRecent ago or less.
	readSmallMax   = 256 << 10
	readSlowFactor = 5
	readSlowLeast  = 10 * time.Millisecond
	readSamples    = 5
	readSlowFor    = 10 * time.Second
	readRecent     = time.Minute

	// The p99 of reads is that of the last readTimesKept, computed anew after every readTimesEvery.
	readTimesKept  = 1024
	readTimesEvery = 64

	fastFor = 30 * time.Second // how long it counts that some first hop was fast
	slowFor = time.Minute      // how long a slow node is not written to
	// ownLinkFor: after two first hops in a row were slow to reach, this client's own link is taken for the slow one,
	// and no first hop is suspected for so long.
	ownLinkFor   = 10 * time.Minute
	slowNodesMax = 64 // bounds the memory of slow nodes
)
