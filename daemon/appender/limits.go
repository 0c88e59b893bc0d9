package appender

import (
	"cmp"
	"time"

	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/record"
)

// Limits bound what an Appender holds. A zero field means its default.
//
// Memory: the records that wait are the data server's, at most QueueBytesMax in all. A writer holds at most the
// batch that it flushes, so the writers together hold no more than what waits; and each file has one scratch buffer
// for a frame, kept up to scratchBytesKept, so with the defaults
//
//	128 MiB waiting + ≤ 128 MiB in packets + 1,024 · 256 KiB scratch at worst
type Limits struct {
	FilesMax int // bounds the files that are open; default 1,024
	// QueueBytesMax bounds the payload of all records that wait; default
	// 128 MiB. A further record is refused with fault.Busy.
	QueueBytesMax int64
	// BatchBytesMax and BatchRecordsMax bound the records of one flush; default
	// 4 MiB (one record may exceed it) and 4,096.
	BatchBytesMax   int
	BatchRecordsMax int
	IdleAfter       time.Duration // a file without a record for it is sealed, its lease given up; default 30 s
}

const (
	// scratchBytesKept is the largest frame buffer that a file keeps.
	scratchBytesKept = 256 << 10
	// cleanEndsMax bounds the remembered ends of files; ≈ 200 B each.
	cleanEndsMax = 4096
)

func (l Limits) withDefaults() (Limits, error) {
	l.FilesMax = cmp.Or(l.FilesMax, 1024)
	l.QueueBytesMax = cmp.Or(l.QueueBytesMax, 128<<20)
	l.BatchBytesMax = cmp.Or(l.BatchBytesMax, 4<<20)
	l.BatchRecordsMax = cmp.Or(l.BatchRecordsMax, 4096)
	l.IdleAfter = cmp.Or(l.IdleAfter, 30*time.Second)
	if l.FilesMax < 1 || l.QueueBytesMax < record.PayloadBytesMax || l.BatchBytesMax < 1 ||
		l.BatchRecordsMax < 1 || l.IdleAfter < 0 {
		return l, fault.New(fault.Invalid, "appender limits",
			"%+v: the queue has to hold one record of %d bytes, the rest has to be positive", l, record.PayloadBytesMax)
	}
	return l, nil
}
