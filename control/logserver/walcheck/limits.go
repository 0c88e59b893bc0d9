package walcheck

import (
	"github.com/whispering-woods/ww/control/logserver/entry"
)

// Bounds of the log files that a log server may write, and a check accepts. A check takes the memory of one file.
const (
	// EntriesPerWriteMax is raft's MaxAppendEntries: how many entries share one fsync or one message to a follower.
	EntriesPerWriteMax = 256
	// SegmentBytesMin and SegmentBytesMax bound Options.SegmentBytes; a segment
	// is read into memory when it is verified.
	SegmentBytesMin = 1 << 20
	SegmentBytesMax = 256 << 20
	// scrubPieceBytes is what a scrub reads at once: the disk has to sync meanwhile.
	scrubPieceBytes = 1 << 20
	// segmentFileBytesMax bounds a log file: the last write, of up to
	// EntriesPerWriteMax entries, may exceed the segment's size by itself.
	segmentFileBytesMax = SegmentBytesMax + EntriesPerWriteMax*entry.BytesMax + 64<<20
)
