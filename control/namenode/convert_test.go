package namenode

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/lateness"
)

// What a datanode tells of its disks reaches the namenode, and from there clients, whole; the device stays on the node.
func TestDisksPassWhole(t *testing.T) {
	disks := []datanode.VolumeState{{ID: "v1", Directory: "/disk1", CapacityBytes: 100, FreeBytes: 30, UsedBytes: 60,
		ReserveBytes: 10, Replicas: 5, Healthy: true, Error: "input/output error", Health: datanode.VolumeSuspect,
		Errors: 2, Since: time.UnixMilli(1_700_000_000_000), BusyPermille: 250,
		Lateness: lateness.IO{Reads: lateness.Sample{Operations: 7, Late: 8 * time.Millisecond}},
		Scrub: datanode.Scrub{Passes: 3, Running: true, Percent: 40, Began: time.UnixMilli(1_700_000_001_000),
			Ended: time.UnixMilli(1_700_000_000_500), Replicas: 4, Bytes: 50, Bad: 1, BadTotal: 2}}}
	got, err := volumesFromProto(rpc.VolumesToProto(disks))
	require.NoError(t, err)
	require.Equal(t, disks, got)
}
