package client

import (
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/bufpool"
)

// packet is one Data packet: header and payload in one pooled buffer. One
// owner: the FileWriter while it fills, then the session that sent it until it
// is acknowledged, or, when the session died, the chunk's stream again.
type packet struct {
	buffer *bufpool.Buffer // HeaderBytes + capacity
	offset int64           // in the chunk, of the first payload byte
	size   int             // payload bytes
	flags  wire.Flags
	seqno  uint64    // in the session that has it
	sent   time.Time // by that session; zero: before its open ack
}

func (c *Client) newPacket(offset int64, capacity int) *packet {
	return &packet{buffer: c.buffers.Get(wire.HeaderBytes + capacity), offset: offset}
}

// room is the part of the payload that is not filled.
func (p *packet) room() []byte { return p.buffer.Bytes()[wire.HeaderBytes+p.size:] }

// payload is the filled part.
func (p *packet) payload() []byte {
	return p.buffer.Bytes()[wire.HeaderBytes : wire.HeaderBytes+p.size]
}

func (p *packet) end() int64 { return p.offset + int64(p.size) }

// encode writes the header for a seqno and returns the whole packet.
func (p *packet) encode(seqno uint64) []byte {
	p.seqno = seqno
	b := p.buffer.Bytes()[:wire.HeaderBytes+p.size]
	wire.PutHeader(b, wire.Header{Op: wire.OpData, Flags: p.flags, Length: uint32(p.size), Seqno: seqno, Offset: p.offset})
	wire.Seal(b)
	return b
}

func (p *packet) release() {
	p.buffer.Release()
	p.buffer = nil
}
