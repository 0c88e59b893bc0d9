package logserver

import (
	"errors"
	"fmt"
	"io"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/fault"
)

// infoOf describes a checkpoint to a client.
func (f *checkpointFile) info() *controlpb.CheckpointInfo {
	info := &controlpb.CheckpointInfo{Txid: f.head.txid, Epoch: f.head.epoch, CreatedMs: f.head.created, Bytes: f.bytes, Index: f.head.index}
	if f.damage != nil {
		info.Error = f.damage.Error()
	}
	return info
}

// pieceSender sends one piece of a checkpoint; it may keep nothing of it.
type pieceSender func(*controlpb.CheckpointPiece) error

// pieceReceiver gives the next piece of a checkpoint that comes in.
type pieceReceiver func() (*controlpb.CheckpointPiece, error)

func beginPiece(f checkpointFile) *controlpb.CheckpointPiece {
	return &controlpb.CheckpointPiece{Piece: &controlpb.CheckpointPiece_Begin{Begin: f.info()}}
}

func dataPiece(data []byte, offset uint64) *controlpb.CheckpointPiece {
	return &controlpb.CheckpointPiece{Piece: &controlpb.CheckpointPiece_Data{
		Data: &controlpb.CheckpointData{Data: data, Sum: xxh3.HashSeed(data, offset)},
	}}
}

func endPiece(bytes, sum uint64) *controlpb.CheckpointPiece {
	return &controlpb.CheckpointPiece{Piece: &controlpb.CheckpointPiece_End{End: &controlpb.CheckpointEnd{Bytes: bytes, Sum: sum}}}
}

// sendContent sends what a namenode wants of a checkpoint, verified. Damage
// ends it with fault.CorruptData, and the checkpoint does not count any more.
func (c *checkpoints) sendContent(f checkpointFile, send pieceSender) error {
	if err := send(beginPiece(f)); err != nil {
		return err
	}
	_, err := openCheckpointFile(c.fs, c.path(f), func(r *checkpointReader) error {
		for {
			offset := r.bytes
			piece, err := r.next()
			if errors.Is(err, io.EOF) {
				return send(endPiece(r.bytes, r.sum))
			}
			if err != nil {
				return err
			}
			if err := send(dataPiece(piece, offset)); err != nil {
				return err
			}
		}
	})
	return c.readFailed(f, err)
}

// sendFile sends a file as it is, for a peer, which verifies it.
func (c *checkpoints) sendFile(f checkpointFile, send pieceSender) error {
	if err := send(beginPiece(f)); err != nil {
		return err
	}
	file, err := c.open(f, false)
	if err != nil {
		return err
	}
	defer file.Close()
	var whole xxh3.Hasher
	reader := io.NewSectionReader(file, 0, f.fileBytes)
	buf := make([]byte, checkpointPieceBytesMax)
	for offset := uint64(0); ; {
		n, err := io.ReadFull(reader, buf)
		if n > 0 {
			_, _ = whole.Write(buf[:n])
			if err := send(dataPiece(buf[:n], offset)); err != nil {
				return err
			}
			offset += uint64(n)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return send(endPiece(offset, whole.Sum64()))
		}
		if err != nil {
			return c.readFailed(f, diskFault("read checkpoint", err))
		}
	}
}

// readFailed remembers damage that was met while a checkpoint was sent.
func (c *checkpoints) readFailed(f checkpointFile, err error) error {
	if errors.Is(err, fault.CorruptData) || errors.Is(err, fault.Disk) || errors.Is(err, fault.Version) {
		c.damaged(f.name, err)
		return &fault.Error{Kind: fault.CorruptData, Op: "download checkpoint", Err: err,
			Reason: fmt.Sprintf("the checkpoint of txid %d cannot be read", f.head.txid)}
	}
	return err
}

// receiveContent writes what a namenode sends behind the beginning, up to the
// end, verified. The head is written already.
func (w *checkpointWriter) receiveContent(receive pieceReceiver) error {
	const op = "upload checkpoint"
	for {
		message, err := receive()
		if errors.Is(err, io.EOF) {
			return fault.New(fault.Protocol, op, "the stream ended before the checkpoint did")
		}
		if err != nil {
			return err
		}
		if end := message.GetEnd(); end != nil {
			if sum := w.content.Sum64(); end.Bytes != w.end.bytes || end.Sum != sum || end.Bytes == 0 {
				return fault.New(fault.CorruptData, op, "%d bytes with sum %016x came, %d with %016x were sent", w.end.bytes, sum, end.Bytes, end.Sum)
			}
			return w.finish()
		}
		if err := w.receivePiece(message.GetData()); err != nil {
			return err
		}
	}
}

// receivePiece verifies and writes a piece of an upload.
func (w *checkpointWriter) receivePiece(piece *controlpb.CheckpointData) error {
	data := piece.GetData()
	if len(data) == 0 || len(data) > checkpointPieceBytesMax || w.end.bytes+uint64(len(data)) > checkpointBytesMax {
		return fault.New(fault.Protocol, "upload checkpoint", "a piece of %d bytes at offset %d", len(data), w.end.bytes)
	}
	if xxh3.HashSeed(data, w.end.bytes) != piece.Sum {
		return fault.New(fault.CorruptData, "upload checkpoint", "checksum mismatch at offset %d", w.end.bytes)
	}
	return w.piece(data, piece.Sum)
}

// receiveFile writes a file that a peer sends as it is, up to its end.
func (w *checkpointWriter) receiveFile(receive pieceReceiver) error {
	var whole xxh3.Hasher
	for {
		message, err := receive()
		if err != nil {
			return err
		}
		data := message.GetData().GetData()
		_, _ = whole.Write(data)
		if err := w.raw(data); err != nil {
			return err
		}
		if end := message.GetEnd(); end != nil {
			if end.Bytes != uint64(w.position) || end.Sum != whole.Sum64() {
				return fault.New(fault.CorruptData, "fetch checkpoint", "%d bytes came, %d were sent, or the sum differs", w.position, end.Bytes)
			}
			return nil
		}
	}
}
