package rpc

import (
	"math"
	"time"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/lateness"
)

// SystemToProto tells how busy a machine is, on the same way.
func SystemToProto(s datanode.SystemLoad) *controlpb.SystemLoad {
	return &controlpb.SystemLoad{CpuPermille: s.CPUPermille, StalledPermille: s.StalledPermille,
		ReceivedBytesPerSecond: s.ReceivedBytesPerSecond, SentBytesPerSecond: s.SentBytesPerSecond}
}

// VolumesToProto describes the disks of a datanode, from it to a namenode and from there to clients.
func VolumesToProto(volumes []datanode.VolumeState) []*controlpb.VolumeState {
	out := make([]*controlpb.VolumeState, 0, len(volumes))
	for _, v := range volumes {
		out = append(out, &controlpb.VolumeState{VolumeId: v.ID, Directory: v.Directory, CapacityBytes: v.CapacityBytes,
			FreeBytes: v.FreeBytes, Replicas: v.Replicas, Healthy: v.Healthy, Error: v.Error,
			Health: controlpb.VolumeHealth(v.Health), Errors: v.Errors, SinceMs: v.Since.UnixMilli(),
			Scrub: scrubToProto(v.Scrub), BusyPermille: v.BusyPermille, Reads: LatenessToProto(v.Lateness.Reads),
			Writes: LatenessToProto(v.Lateness.Writes), UsedBytes: v.UsedBytes, ReserveBytes: v.ReserveBytes})
	}
	return out
}

func scrubToProto(s datanode.Scrub) *controlpb.ScrubState {
	return &controlpb.ScrubState{Passes: s.Passes, Running: s.Running, Percent: s.Percent,
		BeganMs: unixMilli(s.Began), EndedMs: unixMilli(s.Ended), Replicas: s.Replicas, Bytes: s.Bytes, Bad: s.Bad,
		BadTotal: s.BadTotal}
}

// LatenessToProto tells how late operations were, on the same way.
func LatenessToProto(s lateness.Sample) *controlpb.LatenessSample {
	return &controlpb.LatenessSample{Operations: s.Operations, LateUs: uint64(s.Late.Microseconds())}
}

// LatenessFromProto is what LatenessToProto wrote; what no clock can count is none.
func LatenessFromProto(s *controlpb.LatenessSample) lateness.Sample {
	late := s.GetLateUs()
	if late > math.MaxInt64/1000 {
		late = 0
	}
	return lateness.Sample{Operations: s.GetOperations(), Late: time.Duration(late) * time.Microsecond}
}

// unixMilli is a time in Unix milliseconds; 0: there is none.
func unixMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// FromMilli is the time that VolumesToProto wrote; the zero time for 0.
func FromMilli(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
