package editlog

import (
	"time"

	"github.com/whispering-woods/ww/internal/limits"
)

// Bounds that the log server enforces on a batch; a Writer refuses a larger
// one before it is sent.
const (
	// BatchBytesMax bounds the record bytes of one batch.
	BatchBytesMax = limits.BatchBytesMax
	// BatchRecordsMax bounds the records of one batch.
	BatchRecordsMax = limits.BatchRecordsMax
	// CheckpointPieceBytes is the size of one piece of a checkpoint.
	CheckpointPieceBytes = 1 << 20
	// HolderBytesMax bounds the name of an epoch's holder.
	HolderBytesMax = 256
)

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
