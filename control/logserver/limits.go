package logserver

import "time"

// Bounds of the server. Its memory, with the defaults (docs/operations.md#memory):
//
//	batches      inFlightBytesMax, as messages and as raft's entries   128 MiB
//	connections  connectionsDefault · ≈ 19 KiB (control/rpc)            19 MiB
//	readers      each tailMessageBytes + limits.BatchBytesMax           5 MiB
//	index        24 bytes per pointStride entries                        1 MB for 10 million
//	start        one segment, while it is verified; a scrub too         64 MiB
const (
	// inFlightPerStream bounds the batches of one Append stream that wait for
	// their fsync; the next one waits in the client's flow-control window.
	inFlightPerStream = 256
	// inFlightBytesMax bounds the record bytes of all streams together that
	// wait for their fsync: what raft keeps in memory for us.
	inFlightBytesMax = 64 << 20
	// tailMessageBytes is the size at which a message of Tail is sent; it may be
	// exceeded by one batch: 1 MiB + 4 MiB < rpc.MessageBytesMax.
	tailMessageBytes   = 1 << 20
	tailMessageRecords = 16 << 10
	// pointStride is how many entries lie between two points of the index from txid to log position; a Tail reads
	// at most so many entries to find its first one. 24 bytes each: 1 MB for 10 million batches.
	pointStride = 256
	// handshakesMax bounds connections to the raft port that have not sent the preamble yet; more are closed at once.
	handshakesMax = 64
	// checkpointUploadsMax bounds the uploads that run: one, and one of a namenode
	// that was replaced and has not noticed.
	checkpointUploadsMax = 2
	// checkpointReserveSegments of free space are left for the log.
	checkpointReserveSegments = 4
	// checkpointSpaceEvery is after how many pieces the free space is checked.
	checkpointSpaceEvery = 64
	// scrubBytesPerSecond bounds what the scrub reads, one file after the other: little for a disk that must sync.
	scrubBytesPerSecond = 16 << 20
	// snapshotsKept is how many of raft's snapshots stay.
	snapshotsKept = 2
)

// Times.
const (
	tailHeartbeat    = time.Second
	markInterval     = time.Second
	raftIOTimeout    = 10 * time.Second
	handshakeTimeout = 5 * time.Second
	barrierTimeout   = 10 * time.Second
	transferTimeout  = 2 * time.Second
	applyTimeout     = 5 * time.Second // for a place in raft's queue
	// scrubFirst passes between a start and its first scrub.
	scrubFirst = 10 * time.Minute
	// scrubRestMin lies between two scrubs also when one takes longer than the period.
	scrubRestMin = time.Second
	// checkpointFetchInterval: a server that follows asks the leader for a newer checkpoint.
	checkpointFetchInterval = 5 * time.Second
)
