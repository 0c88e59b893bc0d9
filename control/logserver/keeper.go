package logserver

import (
	"context"
	"sync/atomic"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/logserver/checkpoint"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

// The server's ends of an UploadCheckpoint and of a DownloadCheckpoint call.
type (
	uploadStream   = grpc.ClientStreamingServer[controlpb.CheckpointPiece, controlpb.UploadCheckpointResponse]
	downloadStream = grpc.ServerStreamingServer[controlpb.CheckpointPiece]
)

// checkpointKeeper decides which checkpoints are stored and sent, and cuts the log behind them.
type checkpointKeeper struct {
	server  *Server
	files   *checkpoint.Store
	uploads atomic.Int32 // that run
}

// upload stores what a namenode sends. Only the leader accepts one, from the writer of the current epoch, of a txid
// that is committed: so the content is what the committed records make. It answers once the file is durable and
// verified; the log in front of the older of the two newest ones is cut behind that, and a failure there is not the
// caller's.
func (k *checkpointKeeper) upload(stream uploadStream) error {
	const op = "upload checkpoint"
	if k.uploads.Add(1) > checkpointUploadsMax {
		k.uploads.Add(-1)
		return fault.New(fault.Busy, op, "%d uploads run already", checkpointUploadsMax)
	}
	defer k.uploads.Add(-1)
	message, err := stream.Recv()
	if err != nil {
		return err
	}
	begin := message.GetBegin()
	if begin == nil {
		return fault.New(fault.Protocol, op, "the first message does not begin a checkpoint")
	}
	head, err := k.head(begin)
	if err != nil {
		return err
	}
	for _, txid := range begin.UnreadableTxids {
		k.files.Unreadable(txid)
	}
	writer, err := k.files.Create()
	if err != nil {
		return err
	}
	defer writer.Discard()
	if err := writer.Begin(&head); err != nil {
		return err
	}
	pieces := 0
	err = checkpoint.ReceiveContent(writer, func() (*controlpb.CheckpointPiece, error) {
		if err := k.mayUpload(head.Epoch); err != nil {
			return nil, err
		}
		if pieces%checkpointSpaceEvery == 0 {
			if err := k.files.RoomFor(k.reserve()); err != nil {
				return nil, err
			}
		}
		pieces++
		return stream.Recv()
	})
	if err != nil {
		return err
	}
	f, err := k.files.Publish(writer, false, func(h *checkpoint.Head) error { return k.mayUpload(h.Epoch) })
	if err != nil {
		return err
	}
	k.server.options.Logger.Info("checkpoint stored", "txid", f.Head.Txid, "epoch", f.Head.Epoch, "bytes", f.Bytes)
	if err := k.settle(); err != nil {
		k.server.options.Logger.Warn("the log was not cut behind a new checkpoint", "err", err)
	}
	return stream.SendAndClose(&controlpb.UploadCheckpointResponse{Checkpoint: checkpoint.Info(f)})
}

// mayUpload refuses all but the writer of the current epoch.
func (k *checkpointKeeper) mayUpload(epoch uint64) error {
	const op = "upload checkpoint"
	if err := k.server.health.refusal(); err != nil {
		return err
	}
	if !k.server.health.leading() {
		return raftFault(op, raft.ErrNotLeader)
	}
	switch now := k.server.fsm.view(); {
	case epoch < now.Epoch:
		return now.Fenced(epoch)
	case epoch > now.Epoch || epoch == 0:
		return fault.New(fault.Protocol, op, "epoch %d was never acquired, the highest is %d", epoch, now.Epoch)
	}
	return nil
}

// head checks the description of an upload and finds the entry behind which the
// log completes it: the last known point at or before its txid.
func (k *checkpointKeeper) head(begin *controlpb.CheckpointInfo) (checkpoint.Head, error) {
	const op = "upload checkpoint"
	if err := k.mayUpload(begin.Epoch); err != nil {
		return checkpoint.Head{}, err
	}
	server := k.server
	view := server.fsm.view()
	if begin.Txid == 0 || begin.Txid > view.LastTxid {
		return checkpoint.Head{}, fault.New(fault.Gap, op, "its txid is %d, the log ends at txid %d", begin.Txid,
			view.LastTxid)
	}
	usable, err := k.usable()
	if err != nil {
		return checkpoint.Head{}, err
	}
	if len(usable) > 0 && usable[0].Head.Txid >= begin.Txid {
		return checkpoint.Head{}, fault.New(fault.Exists, op, "one of txid %d exists already", usable[0].Head.Txid)
	}
	at, ok := server.fsm.before(begin.Txid + 1)
	if !ok || at.Index == 0 {
		return checkpoint.Head{}, fault.New(fault.Gap, op, "the log in front of txid %d is cut off already", begin.Txid)
	}
	var log raft.Log
	if _, err := server.store.read(at.Index, &log); err != nil {
		return checkpoint.Head{}, server.readFailed(err)
	}
	members := server.group.raft.GetConfiguration()
	if err := members.Error(); err != nil {
		return checkpoint.Head{}, raftFault(op, err)
	}
	h := checkpoint.Head{Txid: begin.Txid, Epoch: begin.Epoch, Created: server.options.Clock.Now().UnixMilli(),
		Index: at.Index, Term: log.Term, State: at.State(),
		Members: raft.EncodeConfiguration(members.Configuration())}
	if h.State.Epoch == view.Epoch {
		h.State.Holder = view.Holder
	}
	return h, nil
}

// reserve is the free space that is left for the log on the same disk: a full disk ends the log server.
func (k *checkpointKeeper) reserve() int64 {
	return int64(checkpointReserveSegments * k.server.options.SegmentBytes)
}

// usable are the checkpoints that the log continues, the newest first.
func (k *checkpointKeeper) usable() ([]checkpoint.File, error) {
	first, err := k.server.store.begins()
	return k.files.Usable(first), err
}

// settle cuts the log in front of the older of the two newest good checkpoints and removes what is older still. A
// crash at any point leaves more than is needed, and the next call finishes it.
func (k *checkpointKeeper) settle() error {
	s := k.server
	return k.files.Retire(s.store.begins, func(first uint64, kept checkpoint.File) error {
		// Tails that start from now on begin behind the cut.
		s.fsm.rebase(kept.Head.Index, k.files.Usable(first))
		cut, err := s.store.cutHead(kept.Head.Index)
		if err == nil && cut > 0 {
			s.options.Logger.Info("the log was cut in front of the older checkpoint", "checkpoint", kept.Name,
				"entries", cut, "first_index", kept.Head.Index)
		}
		return err
	})
}

// download sends a checkpoint: its content to a namenode, the file to a peer.
func (k *checkpointKeeper) download(request *controlpb.DownloadCheckpointRequest, stream downloadStream) error {
	const op = "download checkpoint"
	if err := k.server.health.refusal(); err != nil {
		return err
	}
	usable, err := k.usable()
	if err != nil {
		return err
	}
	for _, f := range usable {
		switch {
		case request.RawTxid != 0 && f.Head.Txid == request.RawTxid:
			return checkpoint.SendFile(k.files, f, stream.Send)
		case request.RawTxid == 0 && (request.BeforeTxid == 0 || f.Head.Txid < request.BeforeTxid):
			return checkpoint.SendContent(k.files, f, func(piece *controlpb.CheckpointPiece) error {
				if err := k.server.health.refusal(); err != nil {
					return err
				}
				return stream.Send(piece)
			})
		}
	}
	damaged := 0
	for _, f := range k.files.All() {
		if f.Damage != nil {
			damaged++
		}
	}
	return fault.New(fault.NotFound, op, "there is no such checkpoint that can be read; %d are damaged", damaged)
}

// watch finishes what a crash left, and then fetches what the leader has: a
// server that follows cuts its log too, and can lead with it.
func (k *checkpointKeeper) watch() {
	server := k.server
	if err := k.settle(); err != nil {
		server.options.Logger.Warn("the log was not cut in front of its checkpoints", "err", err)
	}
	if len(server.options.Peers) < 2 {
		return
	}
	for clock.Sleep(server.good, server.options.Clock, checkpointFetchInterval) == nil {
		if err := k.fetch(server.good); err != nil && server.good.Err() == nil {
			server.options.Logger.Warn("the leader's checkpoint was not fetched", "err", err)
		}
	}
}

// fetch copies the leader's newest checkpoint, if this server follows, lacks it,
// and has applied the log up to its txid.
func (k *checkpointKeeper) fetch(ctx context.Context) error {
	const op = "fetch checkpoint"
	server := k.server
	address := server.leaderAddress()
	if server.health.leading() || address == "" || server.health.refusal() != nil {
		return nil
	}
	conn, err := rpc.Dial(address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing is sent any more
	client := controlpb.NewEditLogClient(conn)
	status, err := client.LogStatus(ctx, &controlpb.LogStatusRequest{})
	if err != nil {
		return rpc.FromStatus(err, op, address)
	}
	if len(status.Checkpoints) == 0 {
		return nil
	}
	newest := status.Checkpoints[0]
	own, err := k.usable()
	if err != nil {
		return err
	}
	if newest.Error != "" || server.fsm.view().LastTxid < newest.Txid || len(own) > 0 &&
		own[0].Head.Txid >= newest.Txid {
		return nil
	}
	if err := k.files.RoomFor(k.reserve()); err != nil {
		return err
	}
	stream, err := client.DownloadCheckpoint(ctx, &controlpb.DownloadCheckpointRequest{RawTxid: newest.Txid})
	if err != nil {
		return rpc.FromStatus(err, op, address)
	}
	writer, err := k.files.Create()
	if err != nil {
		return err
	}
	defer writer.Discard()
	err = checkpoint.ReceiveFile(writer, func() (*controlpb.CheckpointPiece, error) {
		piece, err := stream.Recv()
		return piece, rpc.FromStatus(err, op, address)
	})
	if err != nil {
		return err
	}
	f, err := k.files.Publish(writer, false, func(h *checkpoint.Head) error {
		if h.Txid != newest.Txid || server.fsm.view().LastTxid < h.Txid {
			return fault.New(fault.Protocol, op, "txid %d was requested, %d was received", newest.Txid, h.Txid)
		}
		return nil
	})
	if err != nil {
		return err
	}
	server.options.Logger.Info("checkpoint fetched from the leader", "txid", f.Head.Txid, "bytes", f.Bytes, "leader",
		address)
	return k.settle()
}
