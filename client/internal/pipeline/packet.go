package pipeline

import (
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/bufpool"
)

// Packet is one Data packet: header and payload in one pooled buffer. It has one owner: whoever fills it until
// Stream.Append took it, then the session that sent it until it is acknowledged, or, when that failed, the stream
// again.
type Packet struct {
	Offset int64 // in the chunk, of the first payload byte
	Size   int   // payload bytes
	Flags  wire.Flags

	buffer *bufpool.Buffer // HeaderBytes + capacity
	seqno  uint64          // in the session that has it
	sent   time.Time       // by that session; zero: before its open ack
}

// Room is the part of the payload that is not filled; the filler adds to Size.
func (p *Packet) Room() []byte { return p.buffer.Bytes()[wire.HeaderBytes+p.Size:] }

// Payload is the filled part.
func (p *Packet) Payload() []byte {
	return p.buffer.Bytes()[wire.HeaderBytes : wire.HeaderBytes+p.Size]
}

// End is the offset in the chunk behind the payload.
func (p *Packet) End() int64 { return p.Offset + int64(p.Size) }

// Release returns the buffer to its pool.
func (p *Packet) Release() {
	p.buffer.Release()
	p.buffer = nil
}

// encode writes the header for a seqno and returns the whole packet.
func (p *Packet) encode(seqno uint64) []byte {
	p.seqno = seqno
	packet := p.buffer.Bytes()[:wire.HeaderBytes+p.Size]
	wire.PutHeader(packet, wire.Header{Op: wire.OpData, Flags: p.Flags, Length: uint32(p.Size), Seqno: seqno,
		Offset: p.Offset})
	wire.Seal(packet)
	return packet
}

func releaseAll(packets []*Packet) {
	for _, p := range packets {
		p.Release()
	}
}
