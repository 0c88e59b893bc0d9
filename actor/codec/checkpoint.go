package codec

import (
	"encoding/binary"
	"io"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
)

// A checkpoint is a row of frames (docs/format/edit-record.md): a head, nodes, inodes, the retry cache, an end with
// totals and a sum over all frames before. Its order is canonical (directory, then name), so equal states give equal
// bytes whatever their history.

// CheckpointHead is the first frame.
type CheckpointHead struct {
	Version   uint8
	ClusterID string
	Created   int64
	Epoch     uint64
	Txid      uint64
	Time      int64
	NextInode uint64
}

// CheckpointNode is one datanode that was ever registered.
type CheckpointNode struct {
	ID      string
	Address string
}

// CheckpointNodes is a page of the node table.
type CheckpointNodes struct {
	Version uint8
	Nodes   []CheckpointNode // in order of their indexes, 1 first
}

// CheckpointDuty is what an operator wants of one datanode.
type CheckpointDuty struct {
	Index        datanode.Index
	Duty         datanode.Duty
	Since, Until int64 // Unix ms
}

// CheckpointDuties are the datanodes that do not serve.
type CheckpointDuties struct {
	Version uint8
	Nodes   []CheckpointDuty // by index
}

// CheckpointName is what people call one datanode.
type CheckpointName struct {
	Index datanode.Index
	Name  string
}

// CheckpointNames are the datanodes that have names.
type CheckpointNames struct {
	Version uint8
	Nodes   []CheckpointName // by index
}

// CheckpointChunk is one chunk of a file.
type CheckpointChunk struct {
	ID         chunk.ID
	Generation chunk.Generation
	Promised   chunk.Generation
	Length     uint32
	// Of an open chunk.
	Open    bool
	Minimum chunk.Generation
	Strict  bool
	Base    int64
	Cut     int64
	Members []datanode.Index
}

// CheckpointLease is the lease of an open file. Client is an id, or nil if the namenode holds the lease.
type CheckpointLease struct {
	Client    []byte // 16 bytes or none
	Holder    string
	Since     int64
	Path      string
	Overwrite bool
	Leaf      string
}

// CheckpointInode is a directory or a file.
type CheckpointInode struct {
	ID          uint64
	Parent      uint64
	Name        string
	Flags       uint8
	Created     int64
	Modified    int64
	Blocks      uint16
	Replication uint8
	Chunks      []CheckpointChunk // the first ones; CheckpointMore holds the rest
	Lease       []CheckpointLease // one or none
}

// CheckpointFiles is a page of inodes, by directory and then by name.
type CheckpointFiles struct {
	Version uint8
	Inodes  []CheckpointInode
}

// CheckpointMore continues the chunks of the last inode before it.
type CheckpointMore struct {
	Version uint8
	Chunks  []CheckpointChunk
}

// CheckpointAnswer is the answer to one request.
type CheckpointAnswer struct {
	Sequence uint64
	Kind     Kind   // of the record that made it
	Result   []byte // msgpack
}

// CheckpointRetry is one client of the retry cache, or more answers of the client before.
type CheckpointRetry struct {
	Version uint8
	Client  [16]byte
	Last    int64
	Floor   uint64
	Answers []CheckpointAnswer
}

// CheckpointEnd is the last frame: totals, and a sum over the headers of all frames before it.
type CheckpointEnd struct {
	Version uint8
	Frames  uint64
	Inodes  uint64
	Chunks  uint64
	Sum     uint64
}

// CheckpointWriter writes the frames of a checkpoint and sums them. After an
// error it writes nothing more; End returns it.
type CheckpointWriter struct {
	w       io.Writer
	encoder *Encoder
	sum     xxh3.Hasher
	frames  uint64
	err     error
}

// NewCheckpointWriter returns a writer of one checkpoint.
func NewCheckpointWriter(w io.Writer) *CheckpointWriter {
	return &CheckpointWriter{w: w, encoder: NewEncoder()}
}

// Err is the first error.
func (c *CheckpointWriter) Err() error { return c.err }

// Frame writes value, a pointer to one of the structs above.
func (c *CheckpointWriter) Frame(kind Kind, value any) {
	if c.err != nil {
		return
	}
	var frame []byte
	if frame, c.err = c.encoder.frame(kind, value); c.err != nil {
		return
	}
	c.frames++
	_, _ = c.sum.Write(frame[:frameHeaderBytes]) // holds the payload's sum
	_, c.err = c.w.Write(frame)
}

// Answer encodes the result of a CheckpointAnswer.
func (c *CheckpointWriter) Answer(result any) []byte {
	payload, err := c.encoder.payload(result)
	if err != nil && c.err == nil {
		c.err = err
	}
	return payload
}

// End writes the last frame.
func (c *CheckpointWriter) End(inodes, chunks uint64) error {
	end := CheckpointEnd{Version: Version, Frames: c.frames, Inodes: inodes, Chunks: chunks, Sum: c.sum.Sum64()}
	c.Frame(KindCheckpointEnd, &end)
	return c.err
}

// CheckpointReader reads the frames of a checkpoint.
type CheckpointReader struct {
	reader  io.Reader
	decoder *Decoder
	header  [frameHeaderBytes]byte
	frame   []byte // header and payload
	payload []byte
	started bool
	frames  uint64 // before the present one
	sum     xxh3.Hasher
	// files and more are filled again with each frame of their kind, so that a file costs no allocation here.
	files CheckpointFiles
	more  CheckpointMore
}

// NewCheckpointReader returns a reader of the checkpoint that r gives, to r's end.
func NewCheckpointReader(r io.Reader) *CheckpointReader {
	return &CheckpointReader{reader: r, decoder: NewDecoder(nil)}
}

// Frames is the number of frames before the present one.
func (c *CheckpointReader) Frames() uint64 { return c.frames }

// Next reads a frame, the first of which is a head, and gives its kind. What the methods below gave is void then.
func (c *CheckpointReader) Next() (Kind, error) {
	if c.started {
		c.frames++
		_, _ = c.sum.Write(c.header[:])
	}
	c.started = true
	if err := c.readFull(c.header[:]); err != nil {
		return 0, err
	}
	length := binary.LittleEndian.Uint32(c.header[:])
	if length > RecordBytesMax {
		return 0, CorruptCheckpoint("length %d is above the limit of %d", length, RecordBytesMax)
	}
	size := frameHeaderBytes + int(length)
	if cap(c.frame) < size {
		c.frame = make([]byte, size)
	}
	c.frame = c.frame[:size]
	copy(c.frame, c.header[:])
	if err := c.readFull(c.frame[frameHeaderBytes:]); err != nil {
		return 0, err
	}
	frame, _, err := CutFrame(c.frame)
	if err != nil {
		return 0, err
	}
	if frame.Version > Version {
		return 0, fault.New(fault.Version, "read", "frame version %d is not known", frame.Version)
	}
	if (c.frames == 0) != (frame.Kind == KindCheckpointHead) {
		return 0, CorruptCheckpoint("frame kind %d is out of place", frame.Kind)
	}
	c.payload = frame.Payload
	return frame.Kind, nil
}

func (c *CheckpointReader) readFull(b []byte) error {
	if _, err := io.ReadFull(c.reader, b); err != nil {
		return &fault.Error{Kind: fault.CorruptData, Op: "read", Reason: "the checkpoint ends early", Err: err}
	}
	return nil
}

// Decode reads the present frame to value, a pointer to a zero struct.
func (c *CheckpointReader) Decode(value any) error { return c.decoder.decodeByCodec(c.payload, value) }

// Files reads a frame of inodes. Its strings share memory: those that are kept must be cloned.
func (c *CheckpointReader) Files() (*CheckpointFiles, error) {
	if c.decoder.decodePage(c.payload, &c.files) {
		return &c.files, nil
	}
	c.files = CheckpointFiles{}
	return &c.files, c.Decode(&c.files)
}

// More reads a frame of chunks.
func (c *CheckpointReader) More() (*CheckpointMore, error) {
	if c.decoder.decodePage(c.payload, &c.more) {
		return &c.more, nil
	}
	c.more = CheckpointMore{}
	return &c.more, c.Decode(&c.more)
}

// Answer decodes the result of an answer to a pointer to a zero struct.
func (c *CheckpointReader) Answer(a *CheckpointAnswer, result any) error {
	return c.decoder.decodeByCodec(a.Result, result)
}

// End reads the last frame, and compares its totals with what was read.
func (c *CheckpointReader) End(inodes, chunks uint64) error {
	var e CheckpointEnd
	if err := c.Decode(&e); err != nil {
		return err
	}
	if e.Frames != c.frames || e.Inodes != inodes || e.Chunks != chunks || e.Sum != c.sum.Sum64() {
		return CorruptCheckpoint(
			"the end counts %d frames, %d inodes, %d chunks, sum %016x; there are %d, %d, %d, %016x",
			e.Frames, e.Inodes, e.Chunks, e.Sum, c.frames, inodes, chunks, c.sum.Sum64())
	}
	if n, err := io.ReadFull(c.reader, make([]byte, 1)); n != 0 || err != io.EOF {
		return CorruptCheckpoint("bytes follow the end")
	}
	return nil
}

// CorruptCheckpoint is the error of a checkpoint that no namenode wrote.
func CorruptCheckpoint(format string, args ...any) error {
	return fault.New(fault.CorruptData, "decode", format, args...)
}
