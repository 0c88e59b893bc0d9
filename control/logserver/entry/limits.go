package entry

import "github.com/whispering-woods/ww/internal/limits"

// BytesMax bounds one encoded entry: header, 12 bytes per record, the records, the sum. Below raft-wal's 64 MiB.
const BytesMax = headerBytes + limits.BatchRecordsMax*recordHeaderBytes + limits.BatchBytesMax + sumBytes
