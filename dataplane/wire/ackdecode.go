package wire

import "math"

// DecodeAck is DecodeBody for an Ack, the body that comes with every packet. It
// uses the memory of a.Hops again, and its strings where they are the same as
// before: then it allocates nothing. On an error a holds anything. Error:
// fault.Protocol.
func DecodeAck(payload []byte, a *Ack) error {
	p := ackParser{rest: payload}
	if p.ack(a); !p.failed {
		return nil
	}
	*a = Ack{} // another shape than ours, or nonsense: the general decoder knows
	return DecodeBody(payload, a)
}

// ackParser reads the msgpack that this version writes for an Ack. failed:
// something else was found, and what was read is void.
type ackParser struct {
	rest   []byte
	failed bool
}

func (p *ackParser) ack(a *Ack) {
	p.array(4)
	a.BodyVersion = uint8(p.number(math.MaxUint8))
	a.Seqno = p.number(math.MaxUint64)
	a.Length = int64(p.number(math.MaxInt64))
	count := p.arrayLength()
	if p.failed {
		return
	}
	for len(a.Hops) < count { // at most 15, what one byte can say
		if len(a.Hops) < cap(a.Hops) {
			a.Hops = a.Hops[:len(a.Hops)+1]
			continue
		}
		a.Hops = append(a.Hops, HopStatus{})
	}
	a.Hops = a.Hops[:count]
	for i := range a.Hops {
		h := &a.Hops[i]
		p.array(5)
		h.NodeID = p.text(h.NodeID)
		h.Code = uint8(p.number(math.MaxUint8))
		h.Reason = p.text(h.Reason)
		h.Micros = uint32(p.number(math.MaxUint32))
		h.TotalMicros = uint32(p.number(math.MaxUint32))
	}
}

// take returns the next n bytes, or fails.
func (p *ackParser) take(n int) []byte {
	if p.failed || len(p.rest) < n {
		p.failed = true
		return nil
	}
	taken := p.rest[:n]
	p.rest = p.rest[n:]
	return taken
}

func (p *ackParser) head() byte {
	if b := p.take(1); b != nil {
		return b[0]
	}
	return 0
}

// arrayLength reads the head of an array of at most 15 elements.
func (p *ackParser) arrayLength() int {
	h := p.head()
	if h&0xf0 != 0x90 {
		p.failed = true
	}
	return int(h & 0x0f)
}

func (p *ackParser) array(length int) {
	if p.arrayLength() != length {
		p.failed = true
	}
}

// number reads a number of 0 to most, written as unsigned or as signed.
func (p *ackParser) number(most uint64) (n uint64) {
	h := p.head()
	if h < 0x80 {
		n = uint64(h)
	} else if h < 0xcc || h > 0xd3 {
		p.failed = true
	} else if b := p.take(1 << (h & 3)); b != nil { // 0xcc…0xcf unsigned, 0xd0…0xd3 signed
		for _, digit := range b {
			n = n<<8 | uint64(digit)
		}
		if h >= 0xd0 && b[0] >= 0x80 { // negative
			p.failed = true
		}
	}
	if n > most {
		p.failed = true
	}
	return n
}

// text reads a string; it returns old if it is the same.
func (p *ackParser) text(old string) string {
	h, size := p.head(), 0
	switch {
	case h&0xe0 == 0xa0:
		size = int(h & 0x1f)
	case h == 0xd9:
		if b := p.take(1); b != nil {
			size = int(b[0])
		}
	default:
		p.failed = true
	}
	b := p.take(size)
	if p.failed || string(b) == old {
		return old
	}
	return string(b)
}
