package namenode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// rawStream is a datanode's stream without the agent, to say what the agent
// never would.
type rawStream struct {
	controlpb.DatanodeControl_ConnectClient
	t *testing.T
}

func connect(t *testing.T, address string) rawStream {
	t.Helper()
	connection, err := rpc.Dial(address)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	stream, err := controlpb.NewDatanodeControlClient(connection).Connect(ctx)
	require.NoError(t, err)
	t.Cleanup(func() { cancel(); _ = connection.Close() })
	return rawStream{stream, t}
}

// say sends; an end of the stream is for the receiver to see.
func (s rawStream) say(m *controlpb.DatanodeMessage) rawStream {
	s.t.Helper()
	if err := s.Send(m); err != nil {
		require.ErrorIs(s.t, err, io.EOF)
	}
	return s
}

func (s rawStream) register(m *controlpb.Register) rawStream {
	return s.say(&controlpb.DatanodeMessage{Body: &controlpb.DatanodeMessage_Register{Register: m}})
}

func (s rawStream) beat() rawStream {
	return s.say(&controlpb.DatanodeMessage{
		Body: &controlpb.DatanodeMessage_Heartbeat{Heartbeat: &controlpb.Heartbeat{Sequence: 7}}})
}

// registered waits for the welcome.
func (s rawStream) registered() *controlpb.NamenodeMessage {
	s.t.Helper()
	m, err := s.Recv()
	require.NoError(s.t, faultOf(err))
	require.NotNil(s.t, m.GetRegistered())
	return m
}

// end reads to the end of the stream.
func (s rawStream) end() error {
	s.t.Helper()
	for {
		if _, err := s.Recv(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return faultOf(err)
		}
	}
}

func someNode() *controlpb.Register {
	return &controlpb.Register{NodeId: "node-1", Address: "127.0.0.1:1",
		Volumes: []*controlpb.VolumeState{{VolumeId: "v", CapacityBytes: 1 << 30, FreeBytes: 1 << 29, Healthy: true}}}
}

func TestRegistrationIsStampedAndComesFirst(t *testing.T) {
	c := startCluster(t, 0, Options{Log: newFakeLog(), HeartbeatInterval: 123 * time.Millisecond,
		ReportInterval: time.Hour})
	s := connect(t, c.server.Addr()).register(someNode())
	m := s.registered()
	require.NotEmpty(t, m.GetRegistered().ClusterId)
	require.EqualValues(t, 123, m.GetRegistered().HeartbeatIntervalMs)
	require.EqualValues(t, 3_600_000, m.GetRegistered().ReportIntervalMs)
	require.EqualValues(t, 1, m.Epoch)
	require.NotZero(t, m.Txid)
	s.beat()
	for last := m.Txid; ; {
		m, err := s.Recv()
		require.NoError(t, err)
		require.EqualValues(t, 1, m.Epoch)
		require.GreaterOrEqual(t, m.Txid, last)
		last = m.Txid
		if m.GetHeartbeatReply() != nil {
			require.EqualValues(t, 7, m.GetHeartbeatReply().Sequence)
			return
		}
	}
}

func TestSecondRegistrationReplacesTheFirst(t *testing.T) {
	cluster := startCluster(t, 0, Options{Log: newFakeLog()})
	first := connect(t, cluster.server.Addr()).register(someNode())
	first.registered()
	second := connect(t, cluster.server.Addr()).register(someNode())
	second.registered()
	err := first.end()
	require.ErrorIs(t, err, fault.Closed)
	require.Contains(t, err.Error(), "registered again")
	// The end of the first stream does not take the node away.
	cluster.live(1)
	require.NoError(t, second.CloseSend())
	require.NoError(t, second.end())
	cluster.live(0)
}

func TestDatanodesThatAreRefused(t *testing.T) {
	for _, test := range []struct {
		name   string
		kind   fault.Kind
		change func(*controlpb.Register)
	}{
		{"another cluster", fault.Invalid, func(r *controlpb.Register) { r.ClusterId = "elsewhere" }},
		{"has seen a higher epoch", fault.Fenced, func(r *controlpb.Register) { r.HighestEpoch = 99 }},
		{"has seen a higher txid", fault.Fenced,
			func(r *controlpb.Register) { r.HighestEpoch, r.HighestTxid = 1, 1<<40 }},
		{"no node id", fault.Invalid, func(r *controlpb.Register) { r.NodeId = "" }},
		{"no address", fault.Invalid, func(r *controlpb.Register) { r.Address = "" }},
		{"long rack", fault.Invalid, func(r *controlpb.Register) { r.Rack = string(make([]byte, 256)) }},
		{"too many volumes", fault.Invalid, func(r *controlpb.Register) {
			r.Volumes = make([]*controlpb.VolumeState,
				limits.VolumesPerNodeMax+1)
		}},
		{"negative capacity", fault.Invalid, func(r *controlpb.Register) { r.Volumes[0].CapacityBytes = -1 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := startCluster(t, 0, Options{Log: newFakeLog()})
			r := someNode()
			test.change(r)
			err := connect(t, c.server.Addr()).register(r).end()
			require.ErrorIs(t, err, test.kind)
			c.live(0)
		})
	}
}

func TestMalformedDatanodeMessagesCutTheStream(t *testing.T) {
	report := func(r *controlpb.ReplicaReport) *controlpb.DatanodeMessage {
		return &controlpb.DatanodeMessage{Body: &controlpb.DatanodeMessage_Report{
			Report: &controlpb.ChunkReport{ReportId: 1, Last: true, Replicas: []*controlpb.ReplicaReport{r}}}}
	}
	id := make([]byte, 16)
	id[0] = 1
	good := func() *controlpb.ReplicaReport {
		return &controlpb.ReplicaReport{ChunkId: id, Generation: 1, Length: 5,
			State: controlpb.ReplicaState_REPLICA_STATE_SEALED}
	}
	bad := func(change func(*controlpb.ReplicaReport)) *controlpb.DatanodeMessage {
		r := good()
		change(r)
		return report(r)
	}
	many := make([]*controlpb.ReplicaReport, limits.ReplicasPerMessageMax+1)
	for i := range many {
		many[i] = good()
	}
	for name, message := range map[string]*controlpb.DatanodeMessage{
		"short id":          bad(func(r *controlpb.ReplicaReport) { r.ChunkId = id[:15] }),
		"zero id":           bad(func(r *controlpb.ReplicaReport) { r.ChunkId = make([]byte, 16) }),
		"zero generation":   bad(func(r *controlpb.ReplicaReport) { r.Generation = 0 }),
		"negative length":   bad(func(r *controlpb.ReplicaReport) { r.Length = -1 }),
		"huge length":       bad(func(r *controlpb.ReplicaReport) { r.Length = 1 << 50 }),
		"no state":          bad(func(r *controlpb.ReplicaReport) { r.State = 0 }),
		"unknown state":     bad(func(r *controlpb.ReplicaReport) { r.State = 9 }),
		"too many replicas": {Body: &controlpb.DatanodeMessage_Delta{Delta: &controlpb.ChunkDelta{Stored: many}}},
		"register again":    {Body: &controlpb.DatanodeMessage_Register{Register: someNode()}},
		"bad result": {Body: &controlpb.DatanodeMessage_RecoverResult{
			RecoverResult: &controlpb.RecoverResult{ChunkId: id}}},
		"bad verify result": {Body: &controlpb.DatanodeMessage_VerifyResult{
			VerifyResult: &controlpb.VerifyResult{ChunkId: id}}},
		"bad copy result": {Body: &controlpb.DatanodeMessage_CopyResult{CopyResult: &controlpb.CopyResult{}}},
	} {
		t.Run(name, func(t *testing.T) {
			c := startCluster(t, 0, Options{Log: newFakeLog()})
			s := connect(t, c.server.Addr()).register(someNode())
			s.registered()
			require.ErrorIs(t, s.say(message).end(), fault.Invalid)
			require.EqualValues(t, 1, c.server.Stats().Malformed)
			c.live(0)
		})
	}
	t.Run("not a registration", func(t *testing.T) {
		c := startCluster(t, 0, Options{Log: newFakeLog()})
		require.ErrorIs(t, connect(t, c.server.Addr()).beat().end(), fault.Invalid)
	})
	t.Run("nothing at all", func(t *testing.T) {
		c := startCluster(t, 0, Options{Log: newFakeLog()})
		require.NoError(t, connect(t, c.server.Addr()).say(&controlpb.DatanodeMessage{}).CloseSend())
	})
}

// A datanode that takes no messages is cut when its queue is full; the actor
// never waits for it.
func TestSlowDatanodeIsCut(t *testing.T) {
	var stats counters
	session := newSession(1, "node-1", "peer", &stats)
	for range sessionQueueMax {
		session.enqueue(&datanode.SendReport{})
	}
	select {
	case <-session.ended:
		require.FailNow(t, "cut too early")
	default:
	}
	session.enqueue(&datanode.SendReport{})
	<-session.ended
	require.ErrorIs(t, session.reason, fault.Busy)
	require.EqualValues(t, 1, stats.cut.Load())
	session.cut(fault.New(fault.Closed, "later", "reason"))
	require.ErrorIs(t, session.reason, fault.Busy, "the first reason counts")
}

// A large report does not keep clients out: they are served between its pages.
func TestClientsAreServedBetweenPages(t *testing.T) {
	cluster := startCluster(t, 0, Options{Log: newFakeLog(), Mailbox: 8})
	s := connect(t, cluster.server.Addr()).register(someNode())
	s.registered()
	done := async(func() error {
		for page := range uint32(64) {
			m := &controlpb.ChunkReport{ReportId: 1, Page: page, Last: page == 63}
			for i := range 2000 {
				id := make([]byte, 16)
				copy(id, fmt.Sprintf("%08d%08d", page, i))
				m.Replicas = append(m.Replicas, &controlpb.ReplicaReport{ChunkId: id, Generation: 1, Length: 1,
					State: controlpb.ReplicaState_REPLICA_STATE_SEALED})
			}
			if err := s.Send(&controlpb.DatanodeMessage{
				Body: &controlpb.DatanodeMessage_Report{Report: m}}); err != nil {
				return err
			}
		}
		return nil
	})
	for i := range 200 {
		require.NoError(t, cluster.client.mkdir(fmt.Sprintf("/%d", i)))
	}
	require.NoError(t, result(t, done))
}
