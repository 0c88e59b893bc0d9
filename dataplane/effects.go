package dataplane

import (
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/bufpool"
)

// effectKind is what a machine wants done.
type effectKind uint8

const (
	effectReply        effectKind = iota + 1 // write reply to the peer
	effectOpen                               // open the session's replica
	effectDial                               // open the session's downstream
	effectAppend                             // append packet to the replica
	effectForward                            // send packet's buffer downstream
	effectHangUp                             // downstream is done; clean: its connection can be kept
	effectReleaseFile                        // the session is over: close the replica's writer, leave the replica open
	effectRead                               // serve read on the connection's write side
	effectCancelRead                         // the running read must end
	effectQuery                              // answer a stat, recovery or copy
	effectOpenRecords                        // open the record session's stream
	effectRecord                             // hand record to the stream
	effectCloseRecords                       // the record session is over: close its stream
	effectLinger                             // no more replies: end the write side, go on reading
	effectClose                              // close the connection
)

// effect is one thing to do. Effects are done in order.
type effect struct {
	kind    effectKind
	clean   bool // effectHangUp
	reply   []byte
	session *session
	packet  *packet         // effectAppend: its buffer's reference goes with it
	buffer  *bufpool.Buffer // effectForward: a reference goes with it
	read    wire.OpenRead
	query   query
	records *recordSession
	record  *recordTask // effectRecord: its buffers go with it
}

// query is a request with one answer: of a disk worker, or of a copier.
type query struct {
	stat    *wire.StatReplica
	recover *wire.RecoverReplica
	copy    *wire.CopyRange
}

// packet is one packet being received, or a Data packet on its way. Packets are
// reused by their machine.
type packet struct {
	buffer *bufpool.Buffer // header and payload; given away when dispatched
	header wire.Header
	cost   int64 // of the window

	firstSeen  time.Duration // when its first byte came
	dispatched time.Duration // when it was whole and verified
	storedAt   time.Duration
	stored     bool // the disk is done with it

	// carrier is the adapter's part, which bind gave to the packet once and for all.
	carrier any
}

// payload is the packet's chunk bytes.
func (p *packet) payload() []byte { return p.buffer.Bytes()[wire.HeaderBytes:] }
