package namenode

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/lateness"
)

// How late disks and links are reaches the state machine as it was measured, and no more of it than is kept.
func TestHeartbeatsTellHowLate(t *testing.T) {
	io := lateness.IO{Reads: lateness.Sample{Operations: 1, Late: time.Second},
		Writes: lateness.Sample{Operations: 2, Late: 5 * time.Microsecond}}
	told := rpc.VolumesToProto([]datanode.VolumeState{{ID: "v", Directory: "/v", Lateness: io}})
	volumes, err := volumesFromProto(told)
	require.NoError(t, err)
	require.Equal(t, io, volumes[0].Lateness)

	load := &controlpb.Load{}
	for range 2 * datanode.LinksMax {
		load.Links = append(load.Links, &controlpb.LinkLateness{NodeId: "n",
			Acks: &controlpb.LatenessSample{Operations: 3, LateUs: 4}})
	}
	links := loadFromProto(load).Links
	require.Len(t, links, datanode.LinksMax)
	require.Equal(t, datanode.Link{NodeID: "n", Acks: lateness.Sample{Operations: 3, Late: 4 * time.Microsecond}},
		links[0])
	require.Zero(t, rpc.LatenessFromProto(&controlpb.LatenessSample{LateUs: math.MaxUint64}).Late)
	require.Empty(t, loadFromProto(nil).Links)
}
