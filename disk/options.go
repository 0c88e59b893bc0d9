package disk

import (
	"cmp"
	"crypto/rand"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/whispering-woods/ww/disk/health"
	"github.com/whispering-woods/ww/disk/pack"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
	"github.com/whispering-woods/ww/internal/vfs"
)

// Options configure a Store.
type Options struct {
	// Directories are the volumes, one directory each (one per disk). They are created if needed.
	Directories []string
	FS          vfs.FS       // nil: the machine's
	Clock       clock.Clock  // nil: the machine's
	Logger      *slog.Logger // nil: no log
	Random      io.Reader    // for new node and volume ids; nil: crypto/rand
	// TrashDelay passes between the deletion of a replica and its unlinking; 0 unlinks at once.
	TrashDelay time.Duration
	// ReserveBytes of each volume are kept free of new replicas; 0: none.
	ReserveBytes     int64
	WorkersPerVolume int // 0: 8
	QueueDepth       int // jobs per worker; 0: 1,024
	// WriteoutStepBytes written to a chunk start their write-out; 0: 8 MiB.
	WriteoutStepBytes int64
	// PackBytesMax is the longest replica that becomes a record in a pack segment instead of a file, if its
	// length is known before: up to 64 KiB; 0: none.
	PackBytesMax     int64
	PackSegmentBytes int64 // size of a segment; 0: 64 MiB
	// ScrubPeriod is the time in which every replica is compared with its checksums; 0: only on demand.
	ScrubPeriod time.Duration
	// ScrubBandwidth is how many bytes a second that reads of each volume; 0: no bound.
	ScrubBandwidth int64
	// OnEvent is called for every change after Open. It is called in order for each chunk, with that chunk's
	// lock held: it must not block and may call nothing of the store but Volumes and Identity. nil: nobody
	// listens.
	OnEvent func(Event)
	// FailedVolumesTolerated: Open starts without so many volumes that are missing or broken; -1: all but one.
	// What is to be done when more fail later is up to OnVolume's owner.
	FailedVolumesTolerated int
	// VolumeErrorsMax I/O errors within a minute end the service of a volume; 0: 3.
	VolumeErrorsMax int
	// VolumeHangAfter is how long an operation may take until it ends the service of its volume; 0: a minute.
	VolumeHangAfter time.Duration
	// OnVolume is called after Open when a volume went out of service and all of its replicas were reported as
	// Removed, from a goroutine of the store. It must not block. nil: nobody listens.
	OnVolume func(datanode.VolumeState)

	// of tests
	noCompactor   bool  // they compact by hand
	noMonitor     bool  // they inspect the volumes by hand
	packZeroBytes int64 // written ahead in a segment; 0: the pack's default
}

// TolerableFailures is how many of a number of volumes may be out of service, for a setting of
// Options.FailedVolumesTolerated.
func TolerableFailures(setting, volumes int) int {
	if setting < 0 {
		return volumes - 1
	}
	return setting
}

// withDefaults fills in zero values and refuses impossible ones.
func (o Options) withDefaults() (Options, error) {
	o.FS = cmp.Or[vfs.FS](o.FS, vfs.OS{})
	o.Clock = cmp.Or[clock.Clock](o.Clock, clock.Real{})
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	o.Random = cmp.Or(o.Random, rand.Reader)
	o.WorkersPerVolume = cmp.Or(o.WorkersPerVolume, workersDefault)
	o.QueueDepth = cmp.Or(o.QueueDepth, queueDepthDefault)
	o.WriteoutStepBytes = cmp.Or(o.WriteoutStepBytes, writeoutStepDefault)
	o.PackSegmentBytes = cmp.Or(o.PackSegmentBytes, packSegmentDefault)
	o.VolumeErrorsMax = cmp.Or(o.VolumeErrorsMax, health.ErrorsMax)
	o.VolumeHangAfter = cmp.Or(o.VolumeHangAfter, health.HangAfter)
	if _, machine := o.FS.(vfs.OS); machine {
		o.Directories = slices.Clone(o.Directories)
		for i, directory := range o.Directories { // the disks remember them, and the next start may be elsewhere
			absolute, err := filepath.Abs(directory)
			if err != nil {
				return o, &fault.Error{Kind: fault.Invalid, Op: "open chunk store", Path: directory, Err: err}
			}
			o.Directories[i] = absolute
		}
	}
	if o.OnEvent == nil {
		o.OnEvent = func(Event) {}
	}
	if o.OnVolume == nil {
		o.OnVolume = func(datanode.VolumeState) {}
	}
	for _, limit := range []struct {
		name               string
		value, least, most int64
	}{
		{"volumes", int64(len(o.Directories)), 1, limits.VolumesPerNodeMax},
		{"workers per volume", int64(o.WorkersPerVolume), 1, limits.WorkersPerVolumeMax},
		{"queue depth", int64(o.QueueDepth), 1, queueDepthMax},
		{"I/O errors of a volume", int64(o.VolumeErrorsMax), 1, limits.VolumeErrorsMost},
		{"write-out step bytes", o.WriteoutStepBytes, 1, chunk.SizeMax},
		{"pack bytes", o.PackBytesMax, 0, pack.DataBytesMax},
		{"pack segment bytes", o.PackSegmentBytes, pack.SegmentBytesMin, pack.SegmentBytesMax},
	} {
		if limit.value < limit.least || limit.value > limit.most {
			return o, fault.New(fault.Invalid, "open chunk store", "%s is %d, must be %d..%d",
				limit.name, limit.value, limit.least, limit.most)
		}
	}
	if o.VolumeHangAfter < limits.VolumeHangAfterMin || o.VolumeHangAfter > limits.VolumeHangAfterMax {
		return o, fault.New(fault.Invalid, "open chunk store", "an operation may take %v, must be %v..%v",
			o.VolumeHangAfter, limits.VolumeHangAfterMin, limits.VolumeHangAfterMax)
	}
	if o.FailedVolumesTolerated < -1 || o.FailedVolumesTolerated >= len(o.Directories) {
		return o, fault.New(fault.Invalid, "open chunk store", "%d failed volumes of %d cannot be tolerated",
			o.FailedVolumesTolerated, len(o.Directories))
	}
	if o.ScrubPeriod < 0 || o.ScrubBandwidth < 0 {
		return o, fault.New(fault.Invalid, "open chunk store", "negative scrub period (%v) or bandwidth (%d bytes)",
			o.ScrubPeriod, o.ScrubBandwidth)
	}
	if o.ReserveBytes < 0 || o.TrashDelay < 0 {
		return o, fault.New(fault.Invalid, "open chunk store", "negative reserve (%d bytes) or trash delay (%v)",
			o.ReserveBytes, o.TrashDelay)
	}
	return o, nil
}

// EventKind says what happened to a replica.
type EventKind uint8

// Kinds of events.
const (
	// Stored: the replica was opened or sealed, or its generation or state changed. Replica is the new state.
	Stored EventKind = 1
	// Removed: the replica was deleted. Replica is its last state.
	Removed EventKind = 2
	// Corrupt: the replica was put in quarantine; Reason says why.
	Corrupt EventKind = 3
)

// Event is a change of a replica, for the report to the namenode.
type Event struct {
	Kind    EventKind
	Replica chunk.Replica
	Reason  string
	Lost    bool // with Removed: it was not deleted, its volume went out of service
}

// CreateOptions describe a new replica.
type CreateOptions struct {
	// ChunkSize bounds the replica, in bytes: a multiple of 64 KiB, 64 KiB to 1 GiB.
	ChunkSize int64
	// SizeHint is how many bytes will come, if known; they are preallocated. A replica of at most
	// Options.PackBytesMax stays in memory until its first job: one that brings all of it with Seal makes it
	// a record of a pack segment.
	SizeHint int64
	// Hidden: the replica shows to nobody but its Writer, is not reported and takes no part in recoveries,
	// until the Writer seals or publishes it. The next start drops one that is still hidden. For a copy: half
	// of one must never pass for a replica that has missed acknowledged bytes.
	Hidden bool
	// Background: nobody waits for the replica. Its jobs have workers of their own, and leave the disk to others.
	Background bool
}
