package client

import "time"

// Bounds of record append. Memory of one RecordAppender: BufferBytes of payload in packets of 40 bytes more each, at
// most recordsPendingMax of them, and one connection. Of one RecordReader: a window of recordWindowBytes, one record,
// and recentFramesMax frames of 24 bytes; the sequences of the writers that it saw, about 100 bytes each.
const (
	recordBufferDefault = 8 << 20
	recordsPendingMax   = 64 << 10
	recordWriteBytes    = 256 << 10 // how much is gathered for one write to the socket
	redirectsMax        = 3         // bounds redirects that are followed at once, in a row
	// leaseHeldPatience is how long a file that somebody else writes is asked for again: a writer that just closes is
	// gone by then.
	leaseHeldPatience = 3 * time.Second
	// holderPatience is how long no datanode is asked that holds the lease and does not answer, while another one tries
	// every holderPoll at most to take it over.
	holderPatience = 4 * time.Second
	holderPoll     = 200 * time.Millisecond

	// recordReasonWait is how long a session whose write failed waits for the datanode's reason.
	recordReasonWait = 200 * time.Millisecond

	recordWindowBytes = 1 << 20
	// recentFramesMax: more frames than a datanode can have written and not acknowledged when it fails
	// (appender.Limits.BatchRecordsMax).
	recentFramesMax    = 8192
	recordEveryDefault = 500 * time.Millisecond
)
