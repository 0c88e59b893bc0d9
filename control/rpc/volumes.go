package rpc

import (
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/datanode"
)

// VolumesToProto describes the disks of a datanode, from it to a namenode and from there to clients.
func VolumesToProto(volumes []datanode.VolumeState) []*controlpb.VolumeState {
	out := make([]*controlpb.VolumeState, 0, len(volumes))
	for _, v := range volumes {
		out = append(out, &controlpb.VolumeState{VolumeId: v.ID, Directory: v.Directory, CapacityBytes: v.CapacityBytes,
			FreeBytes: v.FreeBytes, Replicas: v.Replicas, Healthy: v.Healthy, Error: v.Error,
			Health: controlpb.VolumeHealth(v.Health), Errors: v.Errors, SinceMs: v.Since.UnixMilli()})
	}
	return out
}
