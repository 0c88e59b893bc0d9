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

// Info describes a checkpoint to a client.
func Info(f File) *controlpb.CheckpointInfo {
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
	return &controlpb.CheckpointPiece{Piece: &controlpb.CheckpointPiece_Begin{Begin: Info(f)}}
}

// DataPiece is the piece of content at an offset.
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
func SendContent(store *Store, file File, send Send) error {
	if err := send(beginPiece(file)); err != nil {
		return err
	}
	_, err := read(store.fs, store.path(file), func(r *reader, _ *io.SectionReader) error {
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
	return readFailed(store, file, err)
}

// SendFile sends a file as it is, for a peer, which verifies it.
func SendFile(store *Store, sent File, send Send) error {
	if err := send(beginPiece(sent)); err != nil {
		return err
	}
	file, err := store.Open(sent, false)
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
			return readFailed(store, sent, vfs.FaultOf("read checkpoint", err))
		}
	}
}

// readFailed remembers damage that was found while a checkpoint was sent.
func readFailed(store *Store, f File, err error) error {
	if errors.Is(err, fault.CorruptData) || errors.Is(err, fault.Disk) || errors.Is(err, fault.Version) {
		store.damaged(f.Name, err)
		return &fault.Error{Kind: fault.CorruptData, Op: "download checkpoint", Err: err,
			Reason: fmt.Sprintf("the checkpoint of txid %d cannot be read", f.Head.Txid)}
	}
	return err
}

// ReceiveContent writes what a namenode sends behind the beginning, up to the
// end, verified. The head is written already.
func ReceiveContent(writer *Writer, receive Receive) error {
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
			if sum := writer.content.Sum64(); end.Bytes != writer.end.bytes || end.Sum != sum || end.Bytes == 0 {
				return fault.New(fault.CorruptData, op, "%d bytes with sum %016x came, %d with %016x were sent",
					writer.end.bytes, sum, end.Bytes, end.Sum)
			}
			return writer.finish()
		}
		if err := receivePiece(writer, message.GetData()); err != nil {
			return err
		}
	}
}

// receivePiece verifies and writes a piece of an upload.
func receivePiece(writer *Writer, piece *controlpb.CheckpointData) error {
	data := piece.GetData()
	if len(data) == 0 || len(data) > limits.CheckpointPieceBytesMax || writer.end.bytes+uint64(len(data)) > bytesMax {
		return fault.New(fault.Protocol, "upload checkpoint", "a piece of %d bytes at offset %d", len(data),
			writer.end.bytes)
	}
	if xxh3.HashSeed(data, writer.end.bytes) != piece.Sum {
		return fault.New(fault.CorruptData, "upload checkpoint", "checksum mismatch at offset %d", writer.end.bytes)
	}
	return writer.piece(data, piece.Sum)
}

// ReceiveFile writes a file that a peer sends as it is, up to its end.
func ReceiveFile(writer *Writer, receive Receive) error {
	var whole xxh3.Hasher
	for {
		message, err := receive()
		if err != nil {
			return err
		}
		data := message.GetData().GetData()
		_, _ = whole.Write(data)
		if err := writer.Raw(data); err != nil {
			return err
		}
		if end := message.GetEnd(); end != nil {
			if end.Bytes != uint64(writer.position) || end.Sum != whole.Sum64() {
				return fault.New(fault.CorruptData, "fetch checkpoint",
					"%d bytes came, %d were sent, or the sum differs", writer.position, end.Bytes)
			}
			return nil
		}
	}
}
