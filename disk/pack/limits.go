package pack

import (
	"time"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/limits"
)

const (
	// DataBytesMax is the longest replica that a record may hold: one checksum block, so that one sum covers it.
	DataBytesMax = chunk.ChecksumBlockBytes
	// SegmentBytesMin has room for one record.
	SegmentBytesMin = chunkfile.SectorBytes + recordBytesMax
	// SegmentBytesMax bounds Options.SegmentBytes.
	SegmentBytesMax = limits.PackSegmentBytesMax

	recordBytesMax     = chunkfile.SectorBytes + DataBytesMax
	queueDepth         = 1024    // records that wait for a packer; their data are counted in the data plane's windows
	batchMax           = 256     // records of one batch; 16.8 MB at most
	zeroBytesDefault   = 1 << 20 // zeros written ahead in a segment (tuning.md#pack)
	scanWindowBytes    = 256 << 10
	compactLiveDivisor = 2       // a closed segment is compacted when at most 1/2 of it is live
	compactBatchMax    = 64      // records that a compactor has in the packer's queue
	compactRateBytes   = 8 << 20 // per second and set
	compactRetryDelay  = time.Minute
	compactAgainDelay  = time.Hour // of a segment that could not be compacted
)
