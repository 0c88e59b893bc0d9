package entry

// Bounds of one batch. They equal editlog's; a test holds that.
const (
	BatchRecordsMax = 16 << 10
	BatchBytesMax   = 4 << 20
	HolderBytesMax  = 256
	// BytesMax bounds one encoded entry: header, 12 bytes per record, the
	// records, the sum. Below raft-wal's 64 MiB.
	BytesMax = headerBytes + BatchRecordsMax*recordHeaderBytes + BatchBytesMax + sumBytes
)
