package entry

import "github.com/whispering-woods/ww/internal/limits"

// Bounds of one batch.
const (
	BatchRecordsMax = limits.BatchRecordsMax
	BatchBytesMax   = limits.BatchBytesMax
	HolderBytesMax  = 256
	// BytesMax bounds one encoded entry: header, 12 bytes per record, the
	// records, the sum. Below raft-wal's 64 MiB.
	BytesMax = headerBytes + BatchRecordsMax*recordHeaderBytes + BatchBytesMax + sumBytes
)
