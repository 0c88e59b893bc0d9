package logserver

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// Layout of a checkpoint's file; docs/format/log.md has the picture. The head
// is also what raft needs of a snapshot: a checkpoint and the entries behind
// its index are a whole log.
const (
	checkpointMagic      = 0x434c5757 // "WWLC"
	checkpointVersion    = 1
	checkpointFixedBytes = 80
	pieceHeaderBytes     = 16
	checkpointEndBytes   = 32
)

// checkpointHead begins a checkpoint's file.
type checkpointHead struct {
	txid    uint64 // the content is what the records up to this one make
	epoch   uint64 // of the namenode that made it
	created int64  // Unix ms
	// index and term of a raft entry; state is the state machine's after it.
	// state.lastTxid <= txid, so the entries behind index hold every record
	// behind txid.
	index, term uint64
	state       state
	// members is raft's encoded group when the checkpoint was made; entries behind
	// index that changed it do so again.
	members []byte
}

// point is the place in the log that the head names.
func (h *checkpointHead) point() point {
	return point{index: h.index, epoch: h.state.epoch, lastTxid: h.state.lastTxid}
}

// encode gives the head's bytes; the last eight are its sum.
func (h *checkpointHead) encode() []byte {
	size := checkpointFixedBytes + len(h.state.holder) + len(h.members) + 8
	b := make([]byte, 0, size)
	b = binary.LittleEndian.AppendUint32(b, checkpointMagic)
	b = append(b, checkpointVersion, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(size))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(h.members)))
	for _, v := range []uint64{h.txid, h.epoch, uint64(h.created), h.index, h.term, h.state.epoch, h.state.lastTxid, uint64(len(h.state.holder))} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = append(b, h.state.holder...)
	b = append(b, h.members...)
	return binary.LittleEndian.AppendUint64(b, xxh3.Hash(b))
}

// badCheckpoint is damage in a checkpoint's bytes.
func badCheckpoint(format string, args ...any) error {
	return fault.New(fault.CorruptData, "read checkpoint", format, args...)
}

// readCheckpointHead reads and verifies a head, and gives its sum too. Errors:
// fault.CorruptData, fault.Version, and the reader's.
func readCheckpointHead(r io.Reader) (h checkpointHead, sum uint64, err error) {
	fixed := make([]byte, checkpointFixedBytes, checkpointHeadBytesMax)
	if _, err := io.ReadFull(r, fixed); err != nil {
		return h, 0, endsEarly(err, "inside its head")
	}
	if binary.LittleEndian.Uint32(fixed) != checkpointMagic {
		return h, 0, badCheckpoint("bad magic")
	}
	size, members := binary.LittleEndian.Uint32(fixed[8:]), uint64(binary.LittleEndian.Uint32(fixed[12:]))
	holder := binary.LittleEndian.Uint64(fixed[72:])
	if size < checkpointFixedBytes+8 || size > checkpointHeadBytesMax {
		return h, 0, badCheckpoint("a head of %d bytes", size)
	}
	b := fixed[:size]
	if _, err := io.ReadFull(r, b[checkpointFixedBytes:]); err != nil {
		return h, 0, endsEarly(err, "inside its head")
	}
	body := b[:size-8]
	sum = binary.LittleEndian.Uint64(b[size-8:])
	if xxh3.Hash(body) != sum {
		return h, 0, badCheckpoint("checksum mismatch in the head")
	}
	if b[4] != checkpointVersion {
		return h, 0, fault.New(fault.Version, "read checkpoint", "version %d; this build knows version %d", b[4], checkpointVersion)
	}
	if b[5] != 0 || b[6] != 0 || b[7] != 0 || holder > holderBytesMax || uint64(size) != checkpointFixedBytes+holder+members+8 {
		return h, 0, badCheckpoint("lengths in the head do not fit")
	}
	number := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	h = checkpointHead{
		txid: number(16), epoch: number(24), created: int64(number(32)), index: number(40), term: number(48),
		state:   state{epoch: number(56), lastTxid: number(64), holder: string(body[checkpointFixedBytes : checkpointFixedBytes+holder])},
		members: append([]byte(nil), body[checkpointFixedBytes+holder:]...),
	}
	if h.txid == 0 || h.epoch == 0 || h.index == 0 || h.term == 0 || h.state.lastTxid > h.txid || h.state.epoch > h.epoch {
		return h, 0, badCheckpoint("the head contradicts itself")
	}
	return h, sum, nil
}

// endsEarly makes an end inside something damage; other errors are the disk's.
func endsEarly(err error, where string) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return badCheckpoint("the file ends %s", where)
	}
	return diskFault("read checkpoint", err)
}

// checkpointReader reads a checkpoint's file and verifies every byte.
type checkpointReader struct {
	r       *bufio.Reader
	head    checkpointHead
	headSum uint64
	content xxh3.Hasher
	pieces  uint32
	bytes   uint64
	buf     []byte
	sum     uint64 // of the content, known at its end
}

// newCheckpointReader reads the head.
func newCheckpointReader(r io.Reader) (*checkpointReader, error) {
	c := &checkpointReader{r: bufio.NewReaderSize(r, 64<<10)}
	var err error
	c.head, c.headSum, err = readCheckpointHead(c.r)
	return c, err
}

// next gives the next piece, valid until the call after it, and io.EOF behind
// the last one, when the whole file is verified. Errors: fault.CorruptData,
// fault.Disk.
func (c *checkpointReader) next() ([]byte, error) {
	header := make([]byte, pieceHeaderBytes, checkpointEndBytes)
	if _, err := io.ReadFull(c.r, header); err != nil {
		return nil, endsEarly(err, fmt.Sprintf("behind %d bytes of content", c.bytes))
	}
	length, second, sum := binary.LittleEndian.Uint32(header), binary.LittleEndian.Uint32(header[4:]), binary.LittleEndian.Uint64(header[8:])
	if length == 0 {
		return nil, c.end(header)
	}
	if length > checkpointPieceBytesMax || second != 0 {
		return nil, badCheckpoint("a piece of %d bytes at %d bytes of content", length, c.bytes)
	}
	if cap(c.buf) < int(length) {
		c.buf = make([]byte, max(int(length), 64<<10))
	}
	piece := c.buf[:length]
	if _, err := io.ReadFull(c.r, piece); err != nil {
		return nil, endsEarly(err, fmt.Sprintf("inside the piece at %d bytes of content", c.bytes))
	}
	if xxh3.HashSeed(piece, c.bytes) != sum {
		return nil, badCheckpoint("checksum mismatch in the piece at %d bytes of content", c.bytes)
	}
	_, _ = c.content.Write(piece)
	c.pieces++
	c.bytes += uint64(length)
	return piece, nil
}

// end verifies what stands behind the last piece.
func (c *checkpointReader) end(header []byte) error {
	b := header[:checkpointEndBytes]
	if _, err := io.ReadFull(c.r, b[pieceHeaderBytes:]); err != nil {
		return endsEarly(err, "inside its end")
	}
	e, err := decodeCheckpointEnd(b, c.headSum)
	if err != nil {
		return err
	}
	if e.pieces != c.pieces || e.bytes != c.bytes || e.sum != c.content.Sum64() {
		return badCheckpoint("the end counts %d pieces, %d bytes, sum %016x; there are %d, %d, %016x",
			e.pieces, e.bytes, e.sum, c.pieces, c.bytes, c.content.Sum64())
	}
	if _, err := c.r.ReadByte(); !errors.Is(err, io.EOF) {
		if err != nil {
			return diskFault("read checkpoint", err)
		}
		return badCheckpoint("bytes follow the end")
	}
	c.sum = e.sum
	return io.EOF
}

// checkpointEnd ends a checkpoint's file.
type checkpointEnd struct {
	pieces uint32
	bytes  uint64 // of content
	sum    uint64 // of the content
}

// encode gives the end of the file whose head has headSum.
func (e checkpointEnd) encode(headSum uint64) []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, checkpointEndBytes), 0)
	b = binary.LittleEndian.AppendUint32(b, e.pieces)
	b = binary.LittleEndian.AppendUint64(b, e.bytes)
	b = binary.LittleEndian.AppendUint64(b, e.sum)
	return binary.LittleEndian.AppendUint64(b, xxh3.HashSeed(b, headSum))
}

// decodeCheckpointEnd verifies the last bytes of a file. Errors:
// fault.CorruptData.
func decodeCheckpointEnd(b []byte, headSum uint64) (checkpointEnd, error) {
	if len(b) != checkpointEndBytes || binary.LittleEndian.Uint32(b) != 0 ||
		xxh3.HashSeed(b[:checkpointEndBytes-8], headSum) != binary.LittleEndian.Uint64(b[checkpointEndBytes-8:]) {
		return checkpointEnd{}, badCheckpoint("the end of the file is none of this checkpoint")
	}
	return checkpointEnd{pieces: binary.LittleEndian.Uint32(b[4:]), bytes: binary.LittleEndian.Uint64(b[8:]), sum: binary.LittleEndian.Uint64(b[16:])}, nil
}

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
func (w *checkpointWriter) begin(h checkpointHead) error {
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
// the name that name chooses, durably.
func (w *checkpointWriter) publish(name func(checkpointFile) (string, error)) (checkpointFile, error) {
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
	if f.name, err = name(f); err != nil {
		return f, err
	}
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

// checkpointFile is a checkpoint on disk.
type checkpointFile struct {
	head      checkpointHead
	name      string
	fileBytes int64
	bytes     uint64 // of content
	received  bool   // from a peer, and raft's snapshot: the log may begin behind its index
	damage    error  // it cannot be read; head may be missing
}

// openCheckpointFile reads a file's head and gives the rest to each.
func openCheckpointFile(fs vfs.FS, path string, each func(c *checkpointReader) error) (f checkpointFile, err error) {
	file, err := fs.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return f, diskFault("read checkpoint", err)
	}
	defer file.Close()
	stat, err := file.Stat()
	if err != nil {
		return f, diskFault("read checkpoint", err)
	}
	f.name, f.fileBytes = filepath.Base(path), stat.Size()
	c, err := newCheckpointReader(io.NewSectionReader(file, 0, f.fileBytes))
	if err == nil {
		f.head = c.head
		err = each(c)
	}
	if err != nil {
		return f, inFile(path, err)
	}
	f.bytes = c.bytes
	return f, nil
}

// inFile adds the path to an error.
func inFile(path string, err error) error {
	var e *fault.Error
	if errors.As(err, &e) && e.Path == "" {
		named := *e
		named.Path = path
		return &named
	}
	return err
}

// verifyCheckpoint reads a whole file. Errors: fault.CorruptData,
// fault.Version, fault.Disk.
func verifyCheckpoint(fs vfs.FS, path string) (checkpointFile, error) {
	return openCheckpointFile(fs, path, func(c *checkpointReader) error {
		for {
			if _, err := c.next(); err != nil {
				if errors.Is(err, io.EOF) {
					return nil
				}
				return err
			}
		}
	})
}

// glanceAtCheckpoint reads a file's head and end only.
func glanceAtCheckpoint(fs vfs.FS, path string) (checkpointFile, error) {
	var end checkpointEnd
	f, err := openCheckpointFile(fs, path, func(c *checkpointReader) error {
		file, err := fs.OpenFile(path, os.O_RDONLY, 0)
		if err != nil {
			return diskFault("read checkpoint", err)
		}
		defer file.Close()
		stat, err := file.Stat()
		if err != nil {
			return diskFault("read checkpoint", err)
		}
		b := make([]byte, checkpointEndBytes)
		if _, err := file.ReadAt(b, max(0, stat.Size()-checkpointEndBytes)); err != nil {
			return endsEarly(err, "inside its end")
		}
		end, err = decodeCheckpointEnd(b, c.headSum)
		return err
	})
	f.bytes = end.bytes
	return f, err
}
