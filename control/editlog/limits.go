package editlog

import "time"

// Bounds of a Writer.
const (
	// inFlightBatchesDefault and inFlightBytesDefault bound what is sent and
	// not yet durable. The server keeps 256 batches in flight per stream.
	inFlightBatchesDefault = 64
	inFlightBytesDefault   = 16 << 20
	inFlightBatchesMax     = 256
)

// Times of the search for the leader.
const (
	statusTimeout  = 2 * time.Second
	searchPause    = 50 * time.Millisecond
	searchPauseMax = 250 * time.Millisecond
)
