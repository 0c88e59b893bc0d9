package namenode

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/whispering-woods/ww/actor"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// FuzzDatanodeMessage: whatever a datanode sends, what passes the checks is
// within the bounds that the actor relies on, and what does not is Invalid.
func FuzzDatanodeMessage(f *testing.F) {
	id := testIDBytes()
	replica := &controlpb.ReplicaReport{ChunkId: id, Generation: 2, Length: 7,
		State: controlpb.ReplicaState_REPLICA_STATE_SEALED}
	for _, m := range []*controlpb.DatanodeMessage{
		{Body: &controlpb.DatanodeMessage_Register{Register: someNode()}},
		{Body: &controlpb.DatanodeMessage_Heartbeat{
			Heartbeat: &controlpb.Heartbeat{Sequence: 1, Volumes: someNode().Volumes,
				Load: &controlpb.Load{ActiveReads: 1}}}},
		{Body: &controlpb.DatanodeMessage_Report{
			Report: &controlpb.ChunkReport{ReportId: 1, Last: true, Replicas: []*controlpb.ReplicaReport{replica}}}},
		{Body: &controlpb.DatanodeMessage_Delta{
			Delta: &controlpb.ChunkDelta{Stored: []*controlpb.ReplicaReport{replica},
				Removed: []*controlpb.ReplicaReport{replica}}}},
		{Body: &controlpb.DatanodeMessage_RecoverResult{
			RecoverResult: &controlpb.RecoverResult{ChunkId: id, Generation: 3, Length: 5,
				NodeIds: []string{"node-1"}}}},
	} {
		b, err := proto.Marshal(m)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m controlpb.DatanodeMessage
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		var err error
		switch body := m.Body.(type) {
		case *controlpb.DatanodeMessage_Register:
			var r *actor.RegisterNode
			if r, err = registerFromProto(body.Register); err == nil {
				require.NotEmpty(t, r.NodeID)
				require.LessOrEqual(t, len(r.Volumes), limits.VolumesPerNodeMax)
			}
		case *controlpb.DatanodeMessage_Heartbeat:
			var volumes []datanode.VolumeState
			volumes, err = volumesFromProto(body.Heartbeat.GetVolumes())
			for _, v := range volumes {
				require.GreaterOrEqual(t, v.FreeBytes, int64(0))
			}
			loadFromProto(body.Heartbeat.GetLoad())
		case *controlpb.DatanodeMessage_Report:
			var replicas []chunk.Replica
			replicas, err = reportFromProto(body.Report.GetReplicas(), false)
			requireSound(t, replicas, err)
		case *controlpb.DatanodeMessage_Delta:
			var replicas []chunk.Replica
			replicas, err = reportFromProto(body.Delta.GetStored(), false)
			requireSound(t, replicas, err)
			_, err = reportFromProto(body.Delta.GetRemoved(), true)
		case *controlpb.DatanodeMessage_RecoverResult:
			var r *actor.RecoverResult
			if r, err = recoverResultFromProto("node", 1, body.RecoverResult); err == nil {
				requireSound(t, []chunk.Replica{
					{ID: r.Chunk, Generation: r.Generation, Length: r.Length, State: chunk.Sealed}}, nil)
			}
		case *controlpb.DatanodeMessage_CopyResult:
			var r *actor.CopyResult
			if r, err = copyResultFromProto("node", 1, body.CopyResult); err == nil {
				requireSound(t, []chunk.Replica{{ID: r.Chunk, Generation: r.Generation, State: chunk.Sealed}}, nil)
			}
		case *controlpb.DatanodeMessage_VerifyResult:
			var r *actor.VerifyResult
			if r, err = verifyResultFromProto("node", 1, body.VerifyResult); err == nil {
				requireSound(t, []chunk.Replica{{ID: r.Chunk, Generation: r.Generation, State: chunk.Sealed}}, nil)
			}
		}
		if err != nil {
			require.ErrorIs(t, err, fault.Invalid)
		}
	})
}

func requireSound(t *testing.T, replicas []chunk.Replica, err error) {
	if err != nil {
		return
	}
	for _, r := range replicas {
		require.False(t, r.ID.IsZero())
		require.NotZero(t, r.Generation)
		require.True(t, r.Length >= 0 && r.Length <= chunk.SizeMax)
		require.True(t, r.State >= chunk.Open && r.State <= chunk.Recovered)
	}
}

func testIDBytes() []byte { return []byte{1, 2, 3, 4, 5, 6, 0x70, 8, 0x80, 10, 11, 12, 13, 14, 15, 16} }
