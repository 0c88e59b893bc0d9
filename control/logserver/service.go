package logserver

import (
	"context"

	"github.com/hashicorp/raft"

	"github.com/whispering-woods/ww/control/controlpb"
)

// service is the gRPC face of a Server.
type service struct {
	controlpb.UnimplementedEditLogServer
	server *Server
}

// AcquireEpoch implements controlpb.EditLogServer.
func (v *service) AcquireEpoch(ctx context.Context, request *controlpb.AcquireEpochRequest) (*controlpb.AcquireEpochResponse, error) {
	const op = "acquire epoch"
	s := v.server
	e := entry{kind: entryAcquire, holder: request.Holder}
	if err := e.check(); err != nil {
		return nil, err
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	future := s.raft.Apply(e.encode(), s.o.ApplyTimeout)
	if err := future.Error(); err != nil {
		return nil, s.explain(raftFault(op, err))
	}
	result := future.Response().(outcome)
	if result.err != nil {
		return nil, result.err
	}
	s.o.Logger.Info("log epoch acquired", "epoch", result.epoch, "holder", request.Holder, "last_txid", result.lastTxid)
	return &controlpb.AcquireEpochResponse{Epoch: result.epoch, LastTxid: result.lastTxid}, nil
}

// LogStatus implements controlpb.EditLogServer; it answers also when nothing
// else does.
func (v *service) LogStatus(context.Context, *controlpb.LogStatusRequest) (*controlpb.LogStatusResponse, error) {
	s := v.server
	view := s.fsm.view()
	response := &controlpb.LogStatusResponse{
		NodeId: s.o.NodeID, Leader: s.leading(), LeaderAddress: s.leaderAddress(),
		Epoch: view.epoch, Holder: view.holder, FirstTxid: s.fsm.firstTxid(), LastTxid: view.lastTxid, Ready: true, AdminAddress: s.o.AdminAddress,
	}
	for _, f := range s.checkpoints.all() {
		response.Checkpoints = append(response.Checkpoints, infoOf(f))
	}
	if err := s.Ready(); err != nil {
		response.Ready, response.Error = false, err.Error()
	}
	return response, nil
}

// leaderAddress is the leader's gRPC address; "" if it is not known.
func (s *Server) leaderAddress() string {
	if s.leading() {
		return s.Addr()
	}
	_, id := s.raft.LeaderWithID()
	for _, peer := range s.o.Peers {
		if raft.ServerID(peer.NodeID) == id {
			return peer.GRPC
		}
	}
	return ""
}

// explain gives the server's own failure instead of what raft made of it.
func (s *Server) explain(err error) error {
	if refusal := s.refusal(); refusal != nil {
		return refusal
	}
	return err
}
