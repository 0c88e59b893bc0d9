package machine

import (
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/bufpool"
)

// EffectKind is what a machine wants done.
type EffectKind uint8

// Kinds of effects.
const (
	EffectReply        EffectKind = iota + 1 // write reply to the peer
	EffectOpen                               // open the session's replica
	EffectDial                               // open the session's downstream
	EffectAppend                             // append packet to the replica
	EffectForward                            // send packet's buffer downstream
	EffectHangUp                             // downstream is done; clean: its connection can be kept
	EffectReleaseFile                        // the session is over: close the replica's writer, leave the replica open
	EffectRead                               // serve read on the connection's write side
	EffectCancelRead                         // the running read must end
	EffectQuery                              // answer a stat, recovery or copy
	EffectOpenRecords                        // open the record session's stream
	EffectRecord                             // append record to the stream
	EffectCloseRecords                       // the record session is over: close its stream
	EffectLinger                             // no more replies: end the write side, go on reading
	EffectClose                              // close the connection
)

// Effect is one thing to do. Effects are done in order.
type Effect struct {
	Kind    EffectKind
	Clean   bool // EffectHangUp
	Reply   []byte
	Session *WriteSession
	Packet  *Packet         // EffectAppend: its buffer's reference goes with it
	Buffer  *bufpool.Buffer // EffectForward: a reference goes with it
	Read    wire.OpenRead
	Query   Query
	Records *RecordSession
	Record  *RecordTask // EffectRecord: its buffers go with it
}

// Query is a request with one answer: of a disk worker, a goroutine, or a copier.
type Query struct {
	Stat    *wire.StatReplica
	Recover *wire.RecoverReplica
	Copy    *wire.CopyRange
	Scrub   *wire.Scrub
	Trash   *wire.Trash
	Disks   *wire.Disks
}

// Refusal is the answer to a query that was not carried out.
func (q *Query) Refusal(status wire.Status) (op wire.Op, body any) {
	switch {
	case q.Stat != nil:
		return wire.OpStatReply, &wire.StatReply{BodyVersion: wire.BodyVersion, Status: status}
	case q.Recover != nil:
		return wire.OpRecovered, &wire.RecoverReply{BodyVersion: wire.BodyVersion, Status: status}
	case q.Scrub != nil:
		return wire.OpScrubReply, &wire.ScrubReply{BodyVersion: wire.BodyVersion, Status: status}
	case q.Trash != nil:
		return wire.OpTrashReply, &wire.TrashReply{BodyVersion: wire.BodyVersion, Status: status}
	case q.Disks != nil:
		return wire.OpDisksReply, &wire.DisksReply{BodyVersion: wire.BodyVersion, Status: status}
	}
	return wire.OpCopyReply, &wire.CopyReply{BodyVersion: wire.BodyVersion, Status: status}
}

// Packet is one packet being received, or a Data packet on its way. Packets are reused by their machine.
type Packet struct {
	Buffer *bufpool.Buffer // header and payload; given away when dispatched
	Header wire.Header
	cost   int64 // of the window

	firstSeen  time.Duration // when its first byte came
	dispatched time.Duration // when it was whole and verified
	storedAt   time.Duration
	stored     bool // the disk is done with it

	Carrier any // the adapter's part, which bind gave to the packet once and for all
}

// Payload is the packet's chunk bytes.
func (p *Packet) Payload() []byte { return p.Buffer.Bytes()[wire.HeaderBytes:] }
