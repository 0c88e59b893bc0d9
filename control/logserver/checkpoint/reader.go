package checkpoint

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/internal/limits"
	"github.com/whispering-woods/ww/internal/vfs"
)

// reader reads a checkpoint's file and verifies every byte.
type reader struct {
	r       *bufio.Reader
	head    Head
	headSum uint64
	content xxh3.Hasher
	pieces  uint32
	bytes   uint64
	buf     []byte
	sum     uint64 // of the content, known at its end
}

// newReader reads the head.
func newReader(r io.Reader) (*reader, error) {
	c := &reader{r: bufio.NewReaderSize(r, 64<<10)}
	var err error
	c.head, c.headSum, err = ReadHead(c.r)
	return c, err
}

// next returns the next piece, valid until the call after it, and io.EOF behind the last one, when the whole file
// is verified. Errors: fault.CorruptData, fault.Disk.
func (c *reader) next() ([]byte, error) {
	header := make([]byte, pieceHeaderBytes, endBytes)
	if _, err := io.ReadFull(c.r, header); err != nil {
		return nil, endsEarly(err, fmt.Sprintf("behind %d bytes of content", c.bytes))
	}
	length, reserved := binary.LittleEndian.Uint32(header), binary.LittleEndian.Uint32(header[4:])
	if length == 0 {
		return nil, c.end(header)
	}
	if length > limits.CheckpointPieceBytesMax || reserved != 0 {
		return nil, corrupt("a piece of %d bytes at %d bytes of content", length, c.bytes)
	}
	if cap(c.buf) < int(length) {
		c.buf = make([]byte, max(int(length), 64<<10))
	}
	piece := c.buf[:length]
	if _, err := io.ReadFull(c.r, piece); err != nil {
		return nil, endsEarly(err, fmt.Sprintf("inside the piece at %d bytes of content", c.bytes))
	}
	if xxh3.HashSeed(piece, c.bytes) != binary.LittleEndian.Uint64(header[8:]) {
		return nil, corrupt("checksum mismatch in the piece at %d bytes of content", c.bytes)
	}
	_, _ = c.content.Write(piece)
	c.pieces++
	c.bytes += uint64(length)
	return piece, nil
}

// end verifies what follows the last piece.
func (c *reader) end(header []byte) error {
	b := header[:endBytes]
	if _, err := io.ReadFull(c.r, b[pieceHeaderBytes:]); err != nil {
		return endsEarly(err, "inside its end")
	}
	found, err := decodeEnding(b, c.headSum)
	if err != nil {
		return err
	}
	if found.pieces != c.pieces || found.bytes != c.bytes || found.sum != c.content.Sum64() {
		return corrupt("the end counts %d pieces, %d bytes, sum %016x; there are %d, %d, %016x",
			found.pieces, found.bytes, found.sum, c.pieces, c.bytes, c.content.Sum64())
	}
	if _, err := c.r.ReadByte(); !errors.Is(err, io.EOF) {
		if err != nil {
			return vfs.FaultOf("read checkpoint", err)
		}
		return corrupt("bytes follow the end")
	}
	c.sum = found.sum
	return io.EOF
}

// ending ends a checkpoint's file.
type ending struct {
	pieces uint32
	bytes  uint64 // of content
	sum    uint64 // of the content
}

// encode returns the end of the file whose head has headSum.
func (e ending) encode(headSum uint64) []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, endBytes), 0)
	b = binary.LittleEndian.AppendUint32(b, e.pieces)
	b = binary.LittleEndian.AppendUint64(b, e.bytes)
	b = binary.LittleEndian.AppendUint64(b, e.sum)
	return binary.LittleEndian.AppendUint64(b, xxh3.HashSeed(b, headSum))
}

// decodeEnding verifies the last bytes of a file. Errors: fault.CorruptData.
func decodeEnding(b []byte, headSum uint64) (ending, error) {
	if len(b) != endBytes || binary.LittleEndian.Uint32(b) != 0 ||
		xxh3.HashSeed(b[:endBytes-8], headSum) != binary.LittleEndian.Uint64(b[endBytes-8:]) {
		return ending{}, corrupt("the end of the file belongs to no such checkpoint")
	}
	return ending{pieces: binary.LittleEndian.Uint32(b[4:]), bytes: binary.LittleEndian.Uint64(b[8:]),
		sum: binary.LittleEndian.Uint64(b[16:])}, nil
}
