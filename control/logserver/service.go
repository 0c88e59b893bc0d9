package logserver

import (
	"context"

	"google.golang.org/grpc"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/logserver/checkpoint"
	"github.com/whispering-woods/ww/control/logserver/entry"
)

// service serves the calls of the gRPC service for a Server. Every server of a
// group answers Tail and LogStatus, the others only while it leads.
type service struct {
	controlpb.UnimplementedEditLogServer
	server *Server
}

// AcquireEpoch implements controlpb.EditLogServer.
func (v *service) AcquireEpoch(ctx context.Context,
	request *controlpb.AcquireEpochRequest) (*controlpb.AcquireEpochResponse, error) {
	const op = "acquire epoch"
	server := v.server
	e := entry.Entry{Kind: entry.Acquire, Holder: request.Holder}
	if err := e.Check(); err != nil {
		return nil, err
	}
	if err := server.gate.enter(server.health.refusal); err != nil {
		return nil, err
	}
	defer server.gate.leave()
	future := server.group.raft.Apply(e.Encode(), applyTimeout)
	if err := future.Error(); err != nil {
		return nil, server.explain(raftFault(op, err))
	}
	result := future.Response().(outcome)
	if result.err != nil {
		return nil, result.err
	}
	server.options.Logger.Info("log epoch acquired", "epoch", result.epoch, "holder", request.Holder, "last_txid",
		result.lastTxid)
	return &controlpb.AcquireEpochResponse{Epoch: result.epoch, LastTxid: result.lastTxid}, nil
}

// LogStatus implements controlpb.EditLogServer; it answers also when nothing else does.
func (v *service) LogStatus(context.Context, *controlpb.LogStatusRequest) (*controlpb.LogStatusResponse, error) {
	server := v.server
	view := server.fsm.view()
	response := &controlpb.LogStatusResponse{
		NodeId: server.options.NodeID, Leader: server.health.leading(), LeaderAddress: server.leaderAddress(),
		Epoch: view.Epoch, Holder: view.Holder, FirstTxid: server.fsm.firstTxid(), LastTxid: view.LastTxid,
		Ready: true, AdminAddress: server.options.AdminAddress,
	}
	for _, f := range server.keeper.files.All() {
		response.Checkpoints = append(response.Checkpoints, checkpoint.Info(f))
	}
	if err := server.Ready(); err != nil {
		response.Ready, response.Error = false, err.Error()
	} else if rot := server.health.rot(); rot != nil {
		response.Error = rot.Error()
	}
	return response, nil
}

// Append implements controlpb.EditLogServer.
func (v *service) Append(stream grpc.BidiStreamingServer[controlpb.AppendBatch, controlpb.AppendAck]) error {
	call := &appendCall{server: v.server, stream: stream, flights: make(chan flight, inFlightPerStream)}
	return call.run()
}

// Tail implements controlpb.EditLogServer.
func (v *service) Tail(request *controlpb.TailRequest, stream grpc.ServerStreamingServer[controlpb.TailBatch]) error {
	return serveTail(v.server, request, stream)
}

// UploadCheckpoint implements controlpb.EditLogServer.
func (v *service) UploadCheckpoint(stream uploadStream) error {
	return v.server.keeper.upload(stream)
}

// DownloadCheckpoint implements controlpb.EditLogServer.
func (v *service) DownloadCheckpoint(request *controlpb.DownloadCheckpointRequest, stream downloadStream) error {
	return v.server.keeper.download(request, stream)
}
