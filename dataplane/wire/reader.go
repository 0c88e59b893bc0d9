package wire

import (
	"errors"
	"io"

	"github.com/whispering-woods/ww/internal/fault"
)

// readerBytesMin is the first size of a PacketReader's buffer: several acks fit.
const readerBytesMin = 8 << 10

// PacketReader takes packets, and the raw bytes that follow a ReadReply, from a stream. It reads ahead into one
// buffer that grows up to the largest packet allowed; long raw reads bypass it. Not for concurrent use. Deadlines
// are the stream's business.
type PacketReader struct {
	source       io.Reader
	buffer       []byte
	start, end   int // buffer[start:end] is read and not yet taken
	payloadLimit int
}

// NewPacketReader reads from source and refuses payloads above payloadLimit
// bytes (0: BodyBytesMax, which is right for a client and for acks).
func NewPacketReader(source io.Reader, payloadLimit int) *PacketReader {
	if payloadLimit <= 0 {
		payloadLimit = BodyBytesMax
	}
	return &PacketReader{source: source, payloadLimit: payloadLimit}
}

// Next returns the next packet, verified. The payload is valid until the next call of any method. Errors: io.EOF
// when the stream ends between packets, io.ErrUnexpectedEOF inside one, fault.Protocol, fault.Version,
// fault.CorruptData, or the stream's own error.
func (r *PacketReader) Next() (Header, []byte, error) {
	if err := r.fill(HeaderBytes); err != nil {
		return Header{}, nil, err
	}
	header, err := ParseHeader(r.buffer[r.start:r.end])
	if err != nil {
		return Header{}, nil, err
	}
	if int(header.Length) > r.payloadLimit {
		return Header{}, nil, fault.New(fault.Protocol, "read packet", "payload of %d bytes, limit here %d",
			header.Length, r.payloadLimit)
	}
	size := HeaderBytes + int(header.Length)
	if err := r.fill(size); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Header{}, nil, err
	}
	packet := r.buffer[r.start : r.start+size]
	if err := Verify(packet); err != nil {
		return Header{}, nil, err
	}
	r.start += size
	return header, packet[HeaderBytes:], nil
}

// Expect returns the next packet decoded into body if it is of op want; an *Ack
// as by DecodeAck. A packet of OpError becomes the error it carries.
func (r *PacketReader) Expect(want Op, body any) (Header, error) {
	return r.ExpectAlive(want, body, nil)
}

// ExpectAlive is Expect after a request with FlagAlive: it calls alive whenever the peer says that it lives.
func (r *PacketReader) ExpectAlive(want Op, body any, alive func(Alive) error) (Header, error) {
	header, payload, err := r.Next()
	for err == nil && header.Op == OpAlive && alive != nil {
		var said Alive
		if err = DecodeBody(payload, &said); err == nil {
			err = alive(said)
		}
		if err == nil {
			header, payload, err = r.Next()
		}
	}
	if err != nil {
		return Header{}, err
	}
	switch header.Op {
	case want:
		if ack, ok := body.(*Ack); ok {
			return header, DecodeAck(payload, ack)
		}
		return header, DecodeBody(payload, body)
	case OpError:
		var s Status
		if err := DecodeBody(payload, &s); err != nil {
			return Header{}, err
		}
		if err := s.Err("peer refused", ""); err != nil {
			return Header{}, err
		}
	}
	return Header{}, fault.New(fault.Protocol, "read packet", "got op %d, want %d", header.Op, want)
}

// Read takes raw bytes: those that follow a ReadReply.
func (r *PacketReader) Read(p []byte) (int, error) {
	if r.start == r.end {
		return r.source.Read(p)
	}
	n := copy(p, r.buffer[r.start:r.end])
	r.start += n
	return n, nil
}

// Buffered is the number of bytes read ahead. A connection may be used for
// something else, or pooled, only when it is 0.
func (r *PacketReader) Buffered() int { return r.end - r.start }

// fill makes at least n bytes available at start. n was checked against the
// limit, so the buffer never grows beyond HeaderBytes + payloadLimit.
func (r *PacketReader) fill(count int) error {
	if r.end-r.start >= count {
		return nil
	}
	if len(r.buffer)-r.start < count || r.start == r.end {
		target := r.buffer
		if len(target) < count {
			target = make([]byte, max(count, min(readerBytesMin, HeaderBytes+r.payloadLimit)))
		}
		r.end = copy(target, r.buffer[r.start:r.end])
		r.start, r.buffer = 0, target
	}
	for r.end-r.start < count {
		m, err := r.source.Read(r.buffer[r.end:])
		r.end += m
		if err != nil && r.end-r.start < count {
			if errors.Is(err, io.EOF) && r.end-r.start > 0 {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}
