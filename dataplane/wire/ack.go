package wire

import "github.com/whispering-woods/ww/internal/msgpack"

// DecodeAck is DecodeBody for an Ack, the body that comes with every packet. It uses the memory of ack.Hops again,
// and its strings where they are the same as before: then it allocates nothing. On an error ack holds anything.
// Error: fault.Protocol.
func DecodeAck(payload []byte, ack *Ack) error {
	var r msgpack.Reader // must stay on the stack
	r.Reset(payload)
	if readAck(&r, ack); !r.Failed() {
		return nil
	}
	*ack = Ack{} // another shape than ours, or nonsense: the codec knows
	return DecodeBody(payload, ack)
}

// readAck reads the form that this version writes.
func readAck(r *msgpack.Reader, ack *Ack) {
	r.Struct(4)
	ack.BodyVersion, ack.Seqno, ack.Length = r.Uint8(), r.Uint64(), r.Int64()
	ack.Hops = ack.Hops[:0]
	for n := r.Array(); n > 0 && !r.Failed(); n-- {
		var hop *HopStatus
		ack.Hops, hop = msgpack.Extend(ack.Hops)
		r.Struct(5)
		hop.NodeID, hop.Code, hop.Reason = r.TextLike(hop.NodeID), r.Uint8(), r.TextLike(hop.Reason)
		hop.Micros, hop.TotalMicros = r.Uint32(), r.Uint32()
	}
}
