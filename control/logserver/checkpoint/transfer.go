package checkpoint

import (
	"errors"
	"fmt"
	"io"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
	"github.com/whispering-woods/ww/internal/vfs"
)

// infoOf describes a checkpoint to a client.
func (f *File) Info() *controlpb.CheckpointInfo {
	info := &controlpb.CheckpointInfo{Txid: f.Head.Txid, Epoch: f.Head.Epoch, CreatedMs: f.Head.Created, Bytes: f.Bytes,
		Index: f.Head.Index}
	if f.Damage != nil {
		info.Error = f.Damage.Error()
	}
	return info
}

// Send sends one piece of a checkpoint; it may keep nothing of it.
type Send func(*controlpb.CheckpointPiece) error

// Receive returns the next piece of a checkpoint that is received.
type Receive func() (*controlpb.CheckpointPiece, error)

func beginPiece(f File) *controlpb.CheckpointPiece {
	return &controlpb.CheckpointPiece{Piece: &controlpb.CheckpointPiece_Begin{Begin: f.Info()}}
}

// DataPiece is a piece of content that stands at offset in it.
func DataPiece(data []byte, offset uint64) *controlpb.CheckpointPiece {
	return &controlpb.CheckpointPiece{Piece: &controlpb.CheckpointPiece_Data{
		Data: &controlpb.CheckpointData{Data: data, Sum: xxh3.HashSeed(data, offset)},
	}}
}

// EndPiece ends a checkpoint of that many bytes of content with that sum.
func EndPiece(bytes, sum uint64) *controlpb.CheckpointPiece {
	return &controlpb.CheckpointPiece{Piece: &controlpb.CheckpointPiece_End{End: &controlpb.CheckpointEnd{Bytes: bytes,
		Sum: sum}}}
}

// SendContent sends what a namenode wants of a checkpoint, verified. Damage
// ends it with fault.CorruptData, and the checkpoint does not count any more.
func (c *Store) SendContent(file File, send Send) error {
	if err := send(beginPiece(file)); err != nil {
		return err
	}
	_, err := read(c.fs, c.path(file), func(r *reader, _ *io.SectionReader) error {
		for {
			offset := r.bytes
			piece, err := r.next()
			if errors.Is(err, io.EOF) {
				return send(EndPiece(r.bytes, r.sum))
			}
			if err != nil {
				return err
			}
			if err := send(DataPiece(piece, offset)); err != nil {
				return err
			}
		}
	})
	return c.readFailed(file, err)
}

// SendFile sends a file as it is, for a peer, which verifies it.
func (c *Store) SendFile(sent File, send Send) error {
	if err := send(beginPiece(sent)); err != nil {
		return err
	}
	file, err := c.Open(sent, false)
	if err != nil {
		return err
	}
	defer file.Close()
	var whole xxh3.Hasher
	bytes := io.NewSectionReader(file, 0, sent.FileBytes)
	buf := make([]byte, limits.CheckpointPieceBytesMax)
	for offset := uint64(0); ; {
		n, err := io.ReadFull(bytes, buf)
		if n > 0 {
			_, _ = whole.Write(buf[:n])
			if err := send(DataPiece(buf[:n], offset)); err != nil {
				return err
			}
			offset += uint64(n)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return send(EndPiece(offset, whole.Sum64()))
		}
		if err != nil {
			return c.readFailed(sent, vfs.FaultOf("read checkpoint", err))
		}
	}
}

// readFailed remembers damage that was found while a checkpoint was sent.
func (c *Store) readFailed(f File, err error) error {
	if errors.Is(err, fault.CorruptData) || errors.Is(err, fault.Disk) || errors.Is(err, fault.Version) {
		c.damaged(f.Name, err)
		return &fault.Error{Kind: fault.CorruptData, Op: "download checkpoint", Err: err,
			Reason: fmt.Sprintf("the checkpoint of txid %d cannot be read", f.Head.Txid)}
	}
	return err
}

// ReceiveContent writes what a namenode sends behind the beginning, up to the
// end, verified. The head is written already.
func (w *Writer) ReceiveContent(receive Receive) error {
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
				return fault.New(fault.CorruptData, op, "%d bytes with sum %016x came, %d with %016x were sent",
					w.end.bytes, sum,
					end.Bytes, end.Sum)
			}
			return w.finish()
		}
		if err := w.receivePiece(message.GetData()); err != nil {
			return err
		}
	}
}

// receivePiece verifies and writes a piece of an upload.
func (w *Writer) receivePiece(piece *controlpb.CheckpointData) error {
	data := piece.GetData()
	if len(data) == 0 || len(data) > limits.CheckpointPieceBytesMax || w.end.bytes+uint64(len(data)) > bytesMax {
		return fault.New(fault.Protocol, "upload checkpoint", "a piece of %d bytes at offset %d", len(data),
			w.end.bytes)
	}
	if xxh3.HashSeed(data, w.end.bytes) != piece.Sum {
		return fault.New(fault.CorruptData, "upload checkpoint", "checksum mismatch at offset %d", w.end.bytes)
	}
	return w.piece(data, piece.Sum)
}

// ReceiveFile writes a file that a peer sends as it is, up to its end.
func (w *Writer) ReceiveFile(receive Receive) error {
	var whole xxh3.Hasher
	for {
		message, err := receive()
		if err != nil {
			return err
		}
		data := message.GetData().GetData()
		_, _ = whole.Write(data)
		if err := w.Raw(data); err != nil {
			return err
		}
		if end := message.GetEnd(); end != nil {
			if end.Bytes != uint64(w.position) || end.Sum != whole.Sum64() {
				return fault.New(fault.CorruptData, "fetch checkpoint",
					"%d bytes came, %d were sent, or the sum differs",
					w.position, end.Bytes)
			}
			return nil
		}
	}
}
