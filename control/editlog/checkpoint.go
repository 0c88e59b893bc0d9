package editlog

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/zeebo/xxh3"
	"google.golang.org/grpc"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// Checkpoint describes one that a log server keeps.
type Checkpoint struct {
	Txid    uint64 // it holds what the records up to this one make
	Epoch   uint64 // of the namenode that made it
	Bytes   uint64
	Created time.Time
}

func checkpointOf(info *controlpb.CheckpointInfo) Checkpoint {
	return Checkpoint{Txid: info.GetTxid(), Epoch: info.GetEpoch(), Bytes: info.GetBytes(),
		Created: time.UnixMilli(info.GetCreatedMs())}
}

// Upload is what UploadCheckpoint stores.
type Upload struct {
	Grant Grant
	Txid  uint64 // durable under the grant or before it
	// Unreadable are the txids of checkpoints that could not be loaded: the
	// server must not rely on them when it cuts the log.
	Unreadable []uint64
}

// UploadCheckpoint stores what the records up to upload.Txid make, which write writes. On return without an error
// the log server has verified it and has it on its disk. It blocks write while the server is slow. Errors:
// fault.Fenced, fault.Gap (the log does not reach txid), fault.Exists (there is one as new), fault.Busy,
// fault.NoSpace, those of write, and fault.Unavailable, after which it may be there or not.
func (l *Log) UploadCheckpoint(ctx context.Context, upload Upload, write func(io.Writer) error) (Checkpoint, error) {
	const op = "upload checkpoint"
	leader, err := l.granting(op, upload.Grant)
	if err != nil {
		return Checkpoint{}, err
	}
	ctx, cancel := context.WithCancel(ctx) // ends the stream when write fails
	defer cancel()
	stream, err := leader.client.UploadCheckpoint(ctx)
	if err != nil {
		return Checkpoint{}, rpc.FromStatus(err, op, leader.address)
	}
	u := &uploader{stream: stream, pending: make([]byte, 0, limits.CheckpointPieceBytesMax)}
	begin := &controlpb.CheckpointInfo{Txid: upload.Txid, Epoch: upload.Grant.Epoch, UnreadableTxids: upload.Unreadable}
	err = stream.Send(&controlpb.CheckpointPiece{Piece: &controlpb.CheckpointPiece_Begin{Begin: begin}})
	if err == nil {
		err = write(u)
	}
	if err == nil {
		err = u.flush()
	}
	if err == nil {
		end := &controlpb.CheckpointEnd{Bytes: u.offset, Sum: u.whole.Sum64()}
		err = stream.Send(&controlpb.CheckpointPiece{Piece: &controlpb.CheckpointPiece_End{End: end}})
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return Checkpoint{}, err
	}
	response, err := stream.CloseAndRecv() // after io.EOF: why the server ended it
	if err != nil {
		return Checkpoint{}, rpc.FromStatus(err, op, leader.address)
	}
	return checkpointOf(response.Checkpoint), nil
}

// granting finds the server that granted an epoch.
func (l *Log) granting(op string, grant Grant) (server, error) {
	for _, s := range l.servers {
		if s.address == grant.Address {
			return s, nil
		}
	}
	return server{}, fault.New(fault.Invalid, op, "the grant names no log server of this connection: %q", grant.Address)
}

// uploader sends what is written in pieces.
type uploader struct {
	stream  grpc.ClientStreamingClient[controlpb.CheckpointPiece, controlpb.UploadCheckpointResponse]
	pending []byte
	offset  uint64 // of pending in the content
	whole   xxh3.Hasher
}

// Write implements io.Writer.
func (u *uploader) Write(b []byte) (int, error) {
	for written := 0; written < len(b); {
		n := copy(u.pending[len(u.pending):cap(u.pending)], b[written:])
		u.pending = u.pending[:len(u.pending)+n]
		written += n
		if len(u.pending) == cap(u.pending) {
			if err := u.flush(); err != nil {
				return written, err
			}
		}
	}
	return len(b), nil
}

// flush sends what is pending; io.EOF if the server has ended the stream.
func (u *uploader) flush() error {
	if len(u.pending) == 0 {
		return nil
	}
	_, _ = u.whole.Write(u.pending)
	data := &controlpb.CheckpointData{Data: u.pending, Sum: xxh3.HashSeed(u.pending, u.offset)}
	err := u.stream.Send(&controlpb.CheckpointPiece{Piece: &controlpb.CheckpointPiece_Data{Data: data}})
	u.offset += uint64(len(u.pending))
	u.pending = u.pending[:0]
	return err
}

// DownloadCheckpoint passes the newest checkpoint of a txid below before to fn, or the newest of all with before 0.
// Every piece that fn reads is verified; the whole is verified once fn's reader has returned io.EOF. An error of fn
// ends it and is returned. Errors: fault.NotFound if there is none, fault.CorruptData for a damaged one: ask for
// one before it, its txid is in the result also with an error; fault.Unavailable.
func (l *Log) DownloadCheckpoint(ctx context.Context, grant Grant, before uint64,
	fn func(Checkpoint, io.Reader) error) (Checkpoint, error) {
	const op = "download checkpoint"
	leader, err := l.granting(op, grant)
	if err != nil {
		return Checkpoint{}, err
	}
	ctx, cancel := context.WithCancel(ctx) // ends the stream when fn fails
	defer cancel()
	stream, err := leader.client.DownloadCheckpoint(ctx, &controlpb.DownloadCheckpointRequest{BeforeTxid: before})
	if err != nil {
		return Checkpoint{}, rpc.FromStatus(err, op, leader.address)
	}
	first, err := stream.Recv()
	if err != nil {
		return Checkpoint{}, rpc.FromStatus(err, op, leader.address)
	}
	if first.GetBegin().GetTxid() == 0 {
		return Checkpoint{}, &fault.Error{Kind: fault.Protocol, Op: op, Address: leader.address,
			Reason: "the first message does not begin a checkpoint"}
	}
	checkpoint := checkpointOf(first.GetBegin())
	d := &downloader{stream: stream, address: leader.address}
	err = fn(checkpoint, d)
	if d.err != nil && !errors.Is(d.err, io.EOF) {
		return checkpoint, d.err // why fn failed
	}
	if err != nil {
		return checkpoint, err
	}
	if d.err == nil {
		_, err = io.Copy(io.Discard, d)
	}
	return checkpoint, err
}

// downloader reads and verifies pieces.
type downloader struct {
	stream  grpc.ServerStreamingClient[controlpb.CheckpointPiece]
	address string
	rest    []byte // of the last piece
	offset  uint64 // behind the last piece
	whole   xxh3.Hasher
	err     error // of the stream; io.EOF behind a verified end
}

// Read implements io.Reader.
func (d *downloader) Read(b []byte) (int, error) {
	for len(d.rest) == 0 {
		if d.err == nil {
			d.next()
		}
		if d.err != nil {
			return 0, d.err
		}
	}
	n := copy(b, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

// next receives one message.
func (d *downloader) next() {
	const op = "download checkpoint"
	bad := func(kind fault.Kind, reason string) {
		d.err = &fault.Error{Kind: kind, Op: op, Address: d.address, Reason: reason}
	}
	message, err := d.stream.Recv()
	switch {
	case errors.Is(err, io.EOF):
		bad(fault.Unavailable, "the stream ended before the checkpoint did")
		return
	case err != nil:
		d.err = rpc.FromStatus(err, op, d.address)
		return
	}
	if end := message.GetEnd(); end != nil {
		if end.Bytes != d.offset || end.Sum != d.whole.Sum64() {
			bad(fault.CorruptData, "the whole does not fit its checksum")
			return
		}
		d.err = io.EOF
		return
	}
	data := message.GetData().GetData()
	if len(data) == 0 {
		bad(fault.Protocol, "an empty piece")
		return
	}
	if xxh3.HashSeed(data, d.offset) != message.GetData().GetSum() {
		bad(fault.CorruptData, "checksum mismatch in a piece")
		return
	}
	_, _ = d.whole.Write(data)
	d.offset += uint64(len(data))
	d.rest = data
}
