package logserver

import (
	"encoding/binary"
	"path/filepath"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/internal/vfs"
)

// checkpointWriter writes a file under a temporary name. The caller ends it
// with discard, which does nothing once the file has its name (publish).
type checkpointWriter struct {
	fs       vfs.FS
	path     string
	file     vfs.File
	position int64
	synced   int64 // up to where write-out was begun
	headSum  uint64
	content  xxh3.Hasher
	end      checkpointEnd
}

// raw appends bytes of a file.
func (w *checkpointWriter) raw(b []byte) error {
	if _, err := w.file.WriteAt(b, w.position); err != nil {
		return diskFault("write checkpoint", err)
	}
	w.position += int64(len(b))
	// Written out as it comes, so that the fsync at the end does not make the
	// log's own wait for all of it at once.
	if w.position-w.synced >= checkpointWriteoutBytes {
		if err := w.file.SyncRange(w.synced, w.position-w.synced); err != nil {
			return diskFault("write checkpoint", err)
		}
		w.synced = w.position
	}
	return nil
}

// begin writes the head.
func (w *checkpointWriter) begin(h *checkpointHead) error {
	b := h.encode()
	w.headSum = binary.LittleEndian.Uint64(b[len(b)-8:])
	return w.raw(b)
}

// piece writes 1 to checkpointPieceBytesMax bytes of content, whose sum with
// their offset as seed the caller has verified.
func (w *checkpointWriter) piece(data []byte, sum uint64) error {
	header := binary.LittleEndian.AppendUint32(make([]byte, 0, pieceHeaderBytes), uint32(len(data)))
	header = binary.LittleEndian.AppendUint32(header, 0)
	header = binary.LittleEndian.AppendUint64(header, sum)
	if err := w.raw(header); err != nil {
		return err
	}
	_, _ = w.content.Write(data)
	w.end.pieces++
	w.end.bytes += uint64(len(data))
	return w.raw(data)
}

// finish writes the end.
func (w *checkpointWriter) finish() error {
	w.end.sum = w.content.Sum64()
	return w.raw(w.end.encode(w.headSum))
}

// publish makes the file durable, reads all of it again, and only then gives it
// its name, durably.
func (w *checkpointWriter) publish(received bool, check func(*checkpointHead) error) (checkpointFile, error) {
	const op = "write checkpoint"
	if err := w.file.Sync(); err != nil {
		return checkpointFile{}, diskFault(op, err)
	}
	err := w.file.Close()
	w.file = nil
	if err != nil {
		return checkpointFile{}, diskFault(op, err)
	}
	f, err := verifyCheckpoint(w.fs, w.path)
	if err != nil {
		return f, err
	}
	if err := check(&f.head); err != nil {
		return f, err
	}
	f.name, f.received = checkpointName(f.head.txid, received), received
	directory := filepath.Dir(w.path)
	if err := w.fs.Rename(w.path, filepath.Join(directory, f.name)); err != nil {
		return f, diskFault(op, err)
	}
	w.path = "" // nothing to discard
	if err := w.fs.SyncDir(directory); err != nil {
		// Whether the name lasts is not known: it does not count in this life.
		return f, diskFault(op, err)
	}
	return f, nil
}

// discard removes what was not published.
func (w *checkpointWriter) discard() {
	if w.file != nil {
		_ = w.file.Close()
		w.file = nil
	}
	if w.path != "" {
		_ = w.fs.Remove(w.path) // the next start tries again
		w.path = ""
	}
}
