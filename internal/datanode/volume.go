package datanode

import (
	"time"

	"github.com/whispering-woods/ww/internal/lateness"
)

// VolumeHealth is what a datanode thinks of one of its disks.
type VolumeHealth uint8

// States of a volume. A failed, read-only or missing one is out of service: its replicas are not read, not
// reported and not counted, until a start finds it whole.
const (
	VolumeUnknown  VolumeHealth = iota // of a datanode that does not say
	VolumeHealthy                      // takes and gives
	VolumeSuspect                      // had errors lately, is slow beside its siblings, or an operation takes too long
	VolumeFull                         // gives, but has no room above its reserve
	VolumeReadOnly                     // its file system refuses writes
	VolumeFailed                       // too many errors, or an operation that did not return
	VolumeMissing                      // its disk is not there: unmounted, or pulled out
	VolumeDraining                     // to be removed: gives, and gets nothing; its replicas do not count
)

var volumeHealthNames = [...]string{
	VolumeUnknown: "unknown", VolumeHealthy: "healthy", VolumeSuspect: "suspect", VolumeFull: "full",
	VolumeReadOnly: "read-only", VolumeFailed: "failed", VolumeMissing: "missing",
	VolumeDraining: "draining",
}

// String names the state.
func (h VolumeHealth) String() string {
	if int(h) < len(volumeHealthNames) {
		return volumeHealthNames[h]
	}
	return volumeHealthNames[VolumeUnknown]
}

// OutOfService tells whether a volume in this state is used for nothing.
func (h VolumeHealth) OutOfService() bool {
	return h == VolumeReadOnly || h == VolumeFailed || h == VolumeMissing
}

// VolumeState is one disk directory of a datanode.
type VolumeState struct {
	ID            string
	Directory     string
	CapacityBytes int64
	FreeBytes     int64  // what new replicas may use: the reserve is subtracted
	UsedBytes     int64  // of its file system, whoever uses them
	ReserveBytes  int64  // that new replicas may not use
	Replicas      uint64 // in all states
	Healthy       bool   // in service
	Error         string // last I/O error; "" if there was none
	Health        VolumeHealth
	Errors        uint64    // I/O errors since the start
	Since         time.Time // when Health became what it is
	Device        uint64    // number of its file system's; 0 if it is not known. It stays on the node
	BusyPermille  int64     // share of the time in which its disk had work lately; 0 also if the machine does not tell
	Scrub         Scrub
	Lateness      lateness.IO // since it was opened
}

// Scrub is how far the verification of all replicas of a volume came.
type Scrub struct {
	Passes   uint64 // whole ones, ever
	Running  bool
	Percent  uint32    // of the pass under way
	Began    time.Time // the pass under way, or the last one; the zero time: there was none
	Ended    time.Time // the last whole pass
	Replicas uint64    // that the pass under way, or the last one, has verified
	Bytes    uint64    // in them
	Bad      uint64    // replicas among them that were taken out of service
	BadTotal uint64    // in all passes
}
