package machine

import (
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
)

// Limits bound what the machines of a server hold. All are set; the Limits of package dataplane say what they mean.
type Limits struct {
	WindowBytes, RecordWindowBytes, WindowBudgetBytes int64
	SessionsMax, RequestBytesMax, PendingRequestsMax  int

	IdleTimeout, SessionIdleTimeout, ReceiveTimeout, StepTimeout, StepSlack, SilenceTimeout, LingerTimeout time.Duration
}

const (
	// openAckHoldMax is how long an OpenAck waits for the ack of a session's only
	// packet. Then the peer learns that all hops are open, and where it waits.
	openAckHoldMax = 100 * time.Millisecond
	// tickLateMost: after a longer time between two ticks it was this process that was held up, and nobody's silence
	// counts.
	tickLateMost = time.Second
	// WindowMin is the smallest window granted: one packet of a bulk transfer,
	// which is also what a sender may send before its OpenAck.
	WindowMin      = wire.EarlyBytesMax
	lingerBytesMax = 64 << 20 // bounds what is read and dropped on a refused connection
	// replyBytesKept, packetsKept and effectsKept bound the memory for replies, packets (≈ 256 B each without their
	// buffers) and effects (168 B, two lists) that an idle connection keeps.
	replyBytesKept = 8 << 10
	joinedBytesMax = 1 << 10 // bounds replies that leave in one write
	packetsKept    = 32
	effectsKept    = 16
	// A hop's texts as passed on upstream: 16 hops of them stay far below wire.BodyBytesMax.
	hopNodeBytesMax   = 256
	hopReasonBytesMax = 1024
)

// RecordsOpenTimeout is how long the sink may take to open a file.
func (l *Limits) RecordsOpenTimeout() time.Duration { return 2 * l.StepTimeout }

// stepTimeout is how long a hop with so many hops after it may take to answer.
func (l *Limits) stepTimeout(hopsAfter int) time.Duration {
	return l.StepTimeout + time.Duration(hopsAfter)*l.StepSlack
}
