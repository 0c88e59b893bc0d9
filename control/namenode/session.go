package namenode

import (
	"sync"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
)

// session is one registered datanode stream. The actor goroutine puts messages in, the stream's handler sends them.
type session struct {
	number uint64 // never reused
	nodeID string
	peer   string // remote address, for people
	// gone: its NodeGone was stepped. Only the actor goroutine.
	gone bool

	out   chan any // bodies: see toNamenodeMessage
	stats *counters

	once   sync.Once
	ended  chan struct{} // closed by cut
	reason error         // set before ended is closed
}

// welcome is the body that answers a registration.
type welcome struct{ cluster string }

// heartbeatReply is the body that answers a heartbeat.
type heartbeatReply struct{ sequence uint64 }

func newSession(number uint64, nodeID, peer string, stats *counters) *session {
	return &session{number: number, nodeID: nodeID, peer: peer, stats: stats,
		out: make(chan any, sessionQueueMax), ended: make(chan struct{})}
}

// enqueue queues a message; it never blocks. The stream of a node that does not
// read is cut: the node registers anew and reports, so nothing is lost.
func (s *session) enqueue(body any) {
	select {
	case s.out <- body:
	default:
		s.stats.cut.Add(1)
		s.cut(fault.New(fault.Busy, "datanode stream", "%d messages wait for datanode %s: stream cut", sessionQueueMax,
			s.nodeID))
	}
}

// cut ends the stream from any goroutine; the first reason counts.
func (s *session) cut(reason error) {
	s.once.Do(func() {
		s.reason = reason
		close(s.ended)
	})
}

// toNamenodeMessage makes the message of a body; epoch and txid are stamped by the caller.
func (d *datanodes) toNamenodeMessage(body any) *controlpb.NamenodeMessage {
	message := &controlpb.NamenodeMessage{}
	switch order := body.(type) {
	case welcome:
		message.Body = &controlpb.NamenodeMessage_Registered{Registered: &controlpb.Registered{ClusterId: order.cluster,
			HeartbeatIntervalMs: d.server.options.HeartbeatInterval.Milliseconds(),
			ReportIntervalMs:    d.server.options.ReportInterval.Milliseconds()}}
	case heartbeatReply:
		message.Body = &controlpb.NamenodeMessage_HeartbeatReply{
			HeartbeatReply: &controlpb.HeartbeatReply{Sequence: order.sequence}}
	case *datanode.DeleteReplicas:
		message.Body = &controlpb.NamenodeMessage_DeleteReplicas{
			DeleteReplicas: &controlpb.DeleteReplicas{Replicas: namesToProto(order.Replicas)}}
	case *datanode.RecoverChunk:
		message.Body = &controlpb.NamenodeMessage_RecoverChunk{
			RecoverChunk: &controlpb.RecoverChunk{ChunkId: idToProto(order.Chunk), Generation: uint64(order.Generation),
				MinimumGeneration: uint64(order.MinimumGeneration), Replicas: replicasToProto(order.Replicas),
				Length: order.Length}}
	case *datanode.CopyReplica:
		message.Body = &controlpb.NamenodeMessage_CopyReplica{
			CopyReplica: &controlpb.CopyReplica{ChunkId: idToProto(order.Chunk), Generation: uint64(order.Generation),
				Length: order.Length, Sources: replicasToProto(order.Sources)}}
	case *datanode.VerifyReplica:
		message.Body = &controlpb.NamenodeMessage_VerifyReplica{
			VerifyReplica: &controlpb.VerifyReplica{ChunkId: idToProto(order.Chunk),
				Generation: uint64(order.Generation)}}
	case *datanode.TellReplicas:
		message.Body = &controlpb.NamenodeMessage_TellReplicas{
			TellReplicas: &controlpb.TellReplicas{Replicas: namesToProto(order.Replicas)}}
	case *datanode.SendReport:
		message.Body = &controlpb.NamenodeMessage_SendReport{SendReport: &controlpb.SendReport{}}
	default:
		return nil
	}
	return message
}

func idToProto(id chunk.ID) []byte { return append([]byte(nil), id[:]...) }

// namesToProto names replicas by chunk and generation.
func namesToProto(replicas []chunk.Replica) []*controlpb.ReplicaReport {
	names := make([]*controlpb.ReplicaReport, 0, len(replicas))
	for _, r := range replicas {
		names = append(names, &controlpb.ReplicaReport{ChunkId: idToProto(r.ID), Generation: uint64(r.Generation)})
	}
	return names
}

func replicasToProto(replicas []chunk.Location) []*controlpb.Replica {
	out := make([]*controlpb.Replica, 0, len(replicas))
	for _, r := range replicas {
		out = append(out, &controlpb.Replica{NodeId: r.NodeID, Address: r.Address})
	}
	return out
}
