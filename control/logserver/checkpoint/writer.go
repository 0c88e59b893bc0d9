package checkpoint

import (
	"encoding/binary"
	"path/filepath"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/internal/vfs"
)

// Writer writes a file under a temporary name. The caller ends it
// with discard, which does nothing once the file has its name (publish).
type Writer struct {
	fs       vfs.FS
	path     string
	file     vfs.File
	position int64
	synced   int64 // up to where write-out was begun
	headSum  uint64
	content  xxh3.Hasher
	end      ending
}

// Raw appends bytes of a file.
func (w *Writer) Raw(b []byte) error {
	if _, err := w.file.WriteAt(b, w.position); err != nil {
		return vfs.FaultOf("write checkpoint", err)
	}
	w.position += int64(len(b))
	// Written out as it comes, so that the fsync at the end does not make the log's own wait for all of it at once.
	if w.position-w.synced >= writeoutBytes {
		if err := w.file.SyncRange(w.synced, w.position-w.synced); err != nil {
			return vfs.FaultOf("write checkpoint", err)
		}
		w.synced = w.position
	}
	return nil
}

// Begin writes the head.
func (w *Writer) Begin(h *Head) error {
	b := h.encode()
	w.headSum = binary.LittleEndian.Uint64(b[len(b)-8:])
	return w.Raw(b)
}

// piece writes 1 to limits.CheckpointPieceBytesMax bytes of content, whose sum with
// their offset as seed the caller has verified.
func (w *Writer) piece(data []byte, sum uint64) error {
	header := binary.LittleEndian.AppendUint32(make([]byte, 0, pieceHeaderBytes), uint32(len(data)))
	header = binary.LittleEndian.AppendUint32(header, 0)
	header = binary.LittleEndian.AppendUint64(header, sum)
	if err := w.Raw(header); err != nil {
		return err
	}
	_, _ = w.content.Write(data)
	w.end.pieces++
	w.end.bytes += uint64(len(data))
	return w.Raw(data)
}

// finish writes the end.
func (w *Writer) finish() error {
	w.end.sum = w.content.Sum64()
	return w.Raw(w.end.encode(w.headSum))
}

// publish makes the file durable, reads all of it back, and only then renames it to its final name, durably.
func (w *Writer) publish(received bool, check func(*Head) error) (File, error) {
	const op = "write checkpoint"
	if err := w.file.Sync(); err != nil {
		return File{}, vfs.FaultOf(op, err)
	}
	err := w.file.Close()
	w.file = nil
	if err != nil {
		return File{}, vfs.FaultOf(op, err)
	}
	written, err := Verify(w.fs, w.path)
	if err != nil {
		return written, err
	}
	if err := check(&written.Head); err != nil {
		return written, err
	}
	written.Name, written.Received = Name(written.Head.Txid, received), received
	directory := filepath.Dir(w.path)
	if err := w.fs.Rename(w.path, filepath.Join(directory, written.Name)); err != nil {
		return written, vfs.FaultOf(op, err)
	}
	w.path = "" // nothing to discard
	if err := w.fs.SyncDir(directory); err != nil {
		// Whether the name lasts is not known: it does not count in this life.
		return written, vfs.FaultOf(op, err)
	}
	return written, nil
}

// Discard removes what was not published.
func (w *Writer) Discard() {
	if w.file != nil {
		_ = w.file.Close()
		w.file = nil
	}
	if w.path != "" {
		_ = w.fs.Remove(w.path) // the next start removes it
		w.path = ""
	}
}
