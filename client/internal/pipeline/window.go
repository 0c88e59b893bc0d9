package pipeline

import (
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/invariants"
)

// window is what a session sent and what of it is acknowledged. The session's lock guards it.
//
// Invariants: acked <= sent; packets holds exactly the packets acked+1..sent, in order; cost is the sum of their window
// costs and stays <= limit, save that one packet may go out before the open ack.
type window struct {
	limit   int64 // granted; 0 before the open ack
	sent    uint64
	acked   uint64
	cost    int64
	packets []*Packet
	spare   []*Packet // empty: the memory that packets begins in, so that a window that empties does not allocate
	length  int64     // acknowledged length of the chunk
	synced  int64     // of it, made durable in this session, or there before it
}

func newWindow(length int64) window {
	w := window{length: length, synced: length, spare: make([]*Packet, 0, 8)}
	w.packets = w.spare
	return w
}

// nextSeqno is that of the packet to be added next.
func (w *window) nextSeqno() uint64 { return w.sent + 1 }

// add notes a packet that is sent.
func (w *window) add(p *Packet) {
	w.sent++
	w.cost += wire.WindowCost(p.Size)
	w.packets = append(w.packets, p)
}

// empty reports whether everything is acknowledged: no ack is due.
func (w *window) empty() bool { return len(w.packets) == 0 }

// acknowledgement is what one ack ended.
type acknowledgement struct {
	bytes  int64
	oldest time.Time // when the first of the packets was sent; zero: none was acknowledged
	last   bool      // one of them had FlagSeal or FlagClose
}

// acknowledge removes and releases the packets up to seqno, which is at most sent.
func (w *window) acknowledge(seqno uint64) (acked acknowledgement) {
	for w.acked < seqno {
		packet := w.packets[0]
		invariants.Assert(packet.seqno == w.acked+1, "packet %d is first in flight after ack %d", packet.seqno, w.acked)
		w.packets[0] = nil
		w.packets = w.packets[1:]
		w.acked++
		w.cost -= wire.WindowCost(packet.Size)
		w.length = packet.End()
		if packet.Flags != 0 {
			w.synced = packet.End()
		}
		acked.bytes += int64(packet.Size)
		if acked.oldest.IsZero() || packet.sent.Before(acked.oldest) {
			acked.oldest = packet.sent
		}
		acked.last = acked.last || packet.Flags&(wire.FlagSeal|wire.FlagClose) != 0
		packet.Release()
	}
	if w.empty() {
		w.packets = w.spare
	}
	return acked
}
