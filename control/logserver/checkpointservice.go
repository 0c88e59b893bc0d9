package logserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/hashicorp/raft"
	"github.com/zeebo/xxh3"
	"google.golang.org/grpc"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/fault"
)

// UploadCheckpoint implements controlpb.EditLogServer. Only the leader takes
// one, from the writer of the current epoch, of a txid that is committed: so
// the content is what the committed records make. It answers once the file is
// durable and verified; the log in front of the older of the two newest ones is
// cut behind that, and a failure there is not the caller's.
func (v *service) UploadCheckpoint(stream grpc.ClientStreamingServer[controlpb.CheckpointPiece, controlpb.UploadCheckpointResponse]) error {
	const op = "upload checkpoint"
	s := v.server
	if s.uploads.Add(1) > checkpointUploadsMax {
		s.uploads.Add(-1)
		return fault.New(fault.Busy, op, "%d uploads run already", checkpointUploadsMax)
	}
	defer s.uploads.Add(-1)
	message, err := stream.Recv()
	if err != nil {
		return err
	}
	begin := message.GetBegin()
	if begin == nil {
		return fault.New(fault.Protocol, op, "the first message does not begin a checkpoint")
	}
	head, err := s.checkpointHead(begin)
	if err != nil {
		return err
	}
	for _, txid := range begin.UnreadableTxids {
		s.checkpoints.damaged(checkpointName(txid, false), badCheckpoint("the namenode cannot read it"))
		s.checkpoints.damaged(checkpointName(txid, true), badCheckpoint("the namenode cannot read it"))
	}
	w, err := s.checkpoints.create()
	if err != nil {
		return err
	}
	defer w.discard()
	if err := w.begin(head); err != nil {
		return err
	}
	for {
		if err := s.mayUpload(head.epoch); err != nil {
			return err
		}
		if w.end.pieces%checkpointSpaceEvery == 0 {
			if err := s.spaceForCheckpoint(); err != nil {
				return err
			}
		}
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return fault.New(fault.Protocol, op, "the stream ended before the checkpoint did")
		}
		if err != nil {
			return err
		}
		if end := message.GetEnd(); end != nil {
			return s.endUpload(stream, w, end)
		}
		if err := w.take(message.GetData()); err != nil {
			return err
		}
	}
}

// take verifies and writes a piece of an upload.
func (w *checkpointWriter) take(piece *controlpb.CheckpointData) error {
	data := piece.GetData()
	if len(data) == 0 || len(data) > checkpointPieceBytesMax || w.end.bytes+uint64(len(data)) > checkpointBytesMax {
		return fault.New(fault.Protocol, "upload checkpoint", "a piece of %d bytes at offset %d", len(data), w.end.bytes)
	}
	if xxh3.HashSeed(data, w.end.bytes) != piece.Sum {
		return fault.New(fault.CorruptData, "upload checkpoint", "checksum mismatch at offset %d", w.end.bytes)
	}
	return w.piece(data, piece.Sum)
}

// endUpload makes an uploaded file count.
func (s *Server) endUpload(stream grpc.ClientStreamingServer[controlpb.CheckpointPiece, controlpb.UploadCheckpointResponse], w *checkpointWriter, end *controlpb.CheckpointEnd) error {
	if sum := w.content.Sum64(); end.Bytes != w.end.bytes || end.Sum != sum || end.Bytes == 0 {
		return fault.New(fault.CorruptData, "upload checkpoint", "%d bytes with sum %016x came, %d with %016x were sent", w.end.bytes, sum, end.Bytes, end.Sum)
	}
	if err := w.finish(); err != nil {
		return err
	}
	s.checkpoints.changing.Lock()
	defer s.checkpoints.changing.Unlock()
	f, err := w.publish(func(f checkpointFile) (string, error) {
		return checkpointName(f.head.txid, false), s.mayUpload(f.head.epoch)
	})
	if err != nil {
		return err
	}
	s.checkpoints.add(f)
	s.o.Logger.Info("checkpoint stored", "txid", f.head.txid, "epoch", f.head.epoch, "bytes", f.bytes)
	if err := s.settleCheckpoints(); err != nil {
		s.o.Logger.Warn("the log was not cut behind a new checkpoint", "err", err)
	}
	return stream.SendAndClose(&controlpb.UploadCheckpointResponse{Checkpoint: infoOf(f)})
}

// mayUpload refuses all but the writer of the current epoch.
func (s *Server) mayUpload(epoch uint64) error {
	const op = "upload checkpoint"
	if err := s.refusal(); err != nil {
		return err
	}
	if !s.leading() {
		return raftFault(op, raft.ErrNotLeader)
	}
	switch now := s.fsm.view(); {
	case epoch < now.epoch:
		return now.fenced(epoch)
	case epoch > now.epoch || epoch == 0:
		return fault.New(fault.Protocol, op, "epoch %d was never acquired, the highest is %d", epoch, now.epoch)
	}
	return nil
}

// checkpointHead checks what an upload says of itself and finds the entry
// behind which the log completes it: the last known point at or before its
// txid.
func (s *Server) checkpointHead(begin *controlpb.CheckpointInfo) (checkpointHead, error) {
	const op = "upload checkpoint"
	if err := s.mayUpload(begin.Epoch); err != nil {
		return checkpointHead{}, err
	}
	view := s.fsm.view()
	if begin.Txid == 0 || begin.Txid > view.lastTxid {
		return checkpointHead{}, fault.New(fault.Gap, op, "it is of txid %d, the log ends at txid %d", begin.Txid, view.lastTxid)
	}
	first, err := s.store.begins()
	if err != nil {
		return checkpointHead{}, err
	}
	if usable := s.checkpoints.usable(first); len(usable) > 0 && usable[0].head.txid >= begin.Txid {
		return checkpointHead{}, fault.New(fault.Exists, op, "there is one of txid %d already", usable[0].head.txid)
	}
	at, ok := s.fsm.before(begin.Txid + 1)
	if !ok || at.index == 0 {
		return checkpointHead{}, fault.New(fault.Gap, op, "the log in front of txid %d is cut off already", begin.Txid)
	}
	var log raft.Log
	if _, err := s.store.read(at.index, &log); err != nil {
		return checkpointHead{}, s.readFailed(err)
	}
	group := s.raft.GetConfiguration()
	if err := group.Error(); err != nil {
		return checkpointHead{}, raftFault(op, err)
	}
	h := checkpointHead{txid: begin.Txid, epoch: begin.Epoch, created: s.o.Clock.Now().UnixMilli(), index: at.index, term: log.Term, state: at.state(),
		members: raft.EncodeConfiguration(group.Configuration())}
	if h.state.epoch == view.epoch {
		h.state.holder = view.holder
	}
	return h, nil
}

// spaceForCheckpoint keeps room for the log on the same disk: a full disk ends
// the log server.
func (s *Server) spaceForCheckpoint() error {
	space, err := s.checkpoints.fs.StatFS(s.checkpoints.dir)
	if err != nil {
		return diskFault("write checkpoint", err)
	}
	if reserve := int64(checkpointReserveSegments * s.o.SegmentBytes); space.Free < reserve {
		return fault.New(fault.NoSpace, "write checkpoint", "%d bytes are free, %d are kept for the log", space.Free, reserve)
	}
	return nil
}

// settleCheckpoints cuts the log in front of the older of the two newest good
// checkpoints and removes what is older still. changing is held. A crash at any
// point leaves more than is needed, and the next call finishes it.
func (s *Server) settleCheckpoints() error {
	first, err := s.store.begins()
	if err != nil {
		return err
	}
	kept, ok := s.checkpoints.kept(first)
	if !ok {
		return nil
	}
	// Who begins to read from now on begins behind the cut.
	s.fsm.rebase(kept.head.index, s.checkpoints.usable(first))
	cut, err := s.store.cutHead(kept.head.index)
	if err != nil {
		return err
	}
	if cut > 0 {
		s.o.Logger.Info("the log was cut in front of the older checkpoint", "checkpoint", kept.name, "entries", cut, "first_index", kept.head.index)
	}
	return s.checkpoints.prune(kept)
}

// infoOf describes a checkpoint to a client.
func infoOf(f checkpointFile) *controlpb.CheckpointInfo {
	info := &controlpb.CheckpointInfo{Txid: f.head.txid, Epoch: f.head.epoch, CreatedMs: f.head.created, Bytes: f.bytes, Index: f.head.index}
	if f.damage != nil {
		info.Error = f.damage.Error()
	}
	return info
}

// DownloadCheckpoint implements controlpb.EditLogServer. Damage ends the stream
// with fault.CorruptData, and the checkpoint is not offered again.
func (v *service) DownloadCheckpoint(request *controlpb.DownloadCheckpointRequest, stream grpc.ServerStreamingServer[controlpb.CheckpointPiece]) error {
	const op = "download checkpoint"
	s := v.server
	if err := s.refusal(); err != nil {
		return err
	}
	first, err := s.store.begins()
	if err != nil {
		return err
	}
	for _, f := range s.checkpoints.usable(first) {
		switch {
		case request.RawTxid != 0 && f.head.txid == request.RawTxid:
			return s.sendFile(f, stream)
		case request.RawTxid == 0 && (request.BeforeTxid == 0 || f.head.txid < request.BeforeTxid):
			return s.sendCheckpoint(f, stream)
		}
	}
	damaged := 0
	for _, f := range s.checkpoints.all() {
		if f.damage != nil {
			damaged++
		}
	}
	return fault.New(fault.NotFound, op, "there is no such checkpoint that can be read; %d are damaged", damaged)
}

// sendCheckpoint sends a file's content.
func (s *Server) sendCheckpoint(f checkpointFile, stream grpc.ServerStreamingServer[controlpb.CheckpointPiece]) error {
	if err := stream.Send(&controlpb.CheckpointPiece{Piece: &controlpb.CheckpointPiece_Begin{Begin: infoOf(f)}}); err != nil {
		return err
	}
	_, err := openCheckpointFile(s.checkpoints.fs, s.checkpoints.path(f), func(c *checkpointReader) error {
		for {
			offset := c.bytes
			piece, err := c.next()
			if errors.Is(err, io.EOF) {
				return stream.Send(endPiece(c.bytes, c.sum))
			}
			if err != nil {
				return err
			}
			if err := stream.Send(dataPiece(piece, offset)); err != nil {
				return err
			}
			if err := s.refusal(); err != nil {
				return err
			}
		}
	})
	return s.checkpointReadFailed(f, err)
}

// checkpointReadFailed remembers damage.
func (s *Server) checkpointReadFailed(f checkpointFile, err error) error {
	if errors.Is(err, fault.CorruptData) || errors.Is(err, fault.Disk) || errors.Is(err, fault.Version) {
		s.checkpoints.damaged(f.name, err)
		return &fault.Error{Kind: fault.CorruptData, Op: "download checkpoint", Reason: fmt.Sprintf("the checkpoint of txid %d cannot be read", f.head.txid), Err: err}
	}
	return err
}

// sendFile sends a file as it is, for a peer, which verifies it.
func (s *Server) sendFile(f checkpointFile, stream grpc.ServerStreamingServer[controlpb.CheckpointPiece]) error {
	if err := stream.Send(&controlpb.CheckpointPiece{Piece: &controlpb.CheckpointPiece_Begin{Begin: infoOf(f)}}); err != nil {
		return err
	}
	file, err := s.checkpoints.fs.OpenFile(s.checkpoints.path(f), os.O_RDONLY, 0)
	if err != nil {
		return diskFault("read checkpoint", err)
	}
	defer file.Close()
	var whole xxh3.Hasher
	reader := io.NewSectionReader(file, 0, f.fileBytes)
	buf := make([]byte, checkpointPieceBytesMax)
	for offset := uint64(0); ; {
		n, err := io.ReadFull(reader, buf)
		if n > 0 {
			_, _ = whole.Write(buf[:n])
			if err := stream.Send(dataPiece(buf[:n], offset)); err != nil {
				return err
			}
			offset += uint64(n)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return stream.Send(endPiece(offset, whole.Sum64()))
		}
		if err != nil {
			return s.checkpointReadFailed(f, diskFault("read checkpoint", err))
		}
	}
}

func dataPiece(data []byte, offset uint64) *controlpb.CheckpointPiece {
	return &controlpb.CheckpointPiece{Piece: &controlpb.CheckpointPiece_Data{Data: &controlpb.CheckpointData{Data: data, Sum: xxh3.HashSeed(data, offset)}}}
}

func endPiece(bytes, sum uint64) *controlpb.CheckpointPiece {
	return &controlpb.CheckpointPiece{Piece: &controlpb.CheckpointPiece_End{End: &controlpb.CheckpointEnd{Bytes: bytes, Sum: sum}}}
}

// watchCheckpoints finishes what a crash left, and then fetches what the leader
// has: a server that follows cuts its log too, and can lead with it.
func (s *Server) watchCheckpoints() {
	s.checkpoints.changing.Lock()
	err := s.settleCheckpoints()
	s.checkpoints.changing.Unlock()
	if err != nil {
		s.o.Logger.Warn("the log was not cut in front of its checkpoints", "err", err)
	}
	if len(s.o.Peers) < 2 {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.group.Go(func() {
		defer cancel()
		<-s.stopping
	})
	timer := s.o.Clock.NewTimer(checkpointFetchInterval)
	defer timer.Stop()
	for {
		select {
		case <-s.stopping:
			return
		case <-s.failed:
			return
		case <-timer.C():
			if err := s.fetchCheckpoint(ctx); err != nil && ctx.Err() == nil {
				s.o.Logger.Warn("the leader's checkpoint was not fetched", "err", err)
			}
			timer.Reset(checkpointFetchInterval)
		}
	}
}

// fetchCheckpoint copies the leader's newest checkpoint, if this server follows,
// lacks it, and has applied the log up to its txid.
func (s *Server) fetchCheckpoint(ctx context.Context) error {
	const op = "fetch checkpoint"
	address := s.leaderAddress()
	if s.leading() || address == "" || s.refusal() != nil {
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
	first, err := s.store.begins()
	if err != nil {
		return err
	}
	if own := s.checkpoints.usable(first); newest.Error != "" || s.fsm.view().lastTxid < newest.Txid || len(own) > 0 && own[0].head.txid >= newest.Txid {
		return nil
	}
	if err := s.spaceForCheckpoint(); err != nil {
		return err
	}
	stream, err := client.DownloadCheckpoint(ctx, &controlpb.DownloadCheckpointRequest{RawTxid: newest.Txid})
	if err != nil {
		return rpc.FromStatus(err, op, address)
	}
	w, err := s.checkpoints.create()
	if err != nil {
		return err
	}
	defer w.discard()
	var whole xxh3.Hasher
	for {
		message, err := stream.Recv()
		if err != nil {
			return rpc.FromStatus(err, op, address)
		}
		data := message.GetData().GetData()
		_, _ = whole.Write(data)
		if err := w.raw(data); err != nil {
			return err
		}
		if end := message.GetEnd(); end != nil {
			if end.Bytes != uint64(w.position) || end.Sum != whole.Sum64() {
				return fault.New(fault.CorruptData, op, "%d bytes came from %s, %d were sent, or the sum differs", w.position, address, end.Bytes)
			}
			break
		}
	}
	s.checkpoints.changing.Lock()
	defer s.checkpoints.changing.Unlock()
	f, err := w.publish(func(f checkpointFile) (string, error) {
		if f.head.txid != newest.Txid || s.fsm.view().lastTxid < f.head.txid {
			return "", fault.New(fault.Protocol, op, "txid %d was asked for, %d came", newest.Txid, f.head.txid)
		}
		return checkpointName(f.head.txid, false), nil
	})
	if err != nil {
		return err
	}
	s.checkpoints.add(f)
	s.o.Logger.Info("checkpoint fetched from the leader", "txid", f.head.txid, "bytes", f.bytes, "leader", address)
	return s.settleCheckpoints()
}
