package dataplane

import (
	"runtime"
	"time"

	"github.com/whispering-woods/ww/dataplane/machine"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// Limits bound everything that a Server holds. A zero field means its default.
//
// Memory that peers can make a server hold, with the defaults; memoryMax adds it
// up, docs/operations.md#memory adds what else a datanode holds:
//
//	windows          WindowBudgetBytes, and 1/64 of it for headers  130 MiB
//	requests         ConnectionsMax * RequestBytesMax                32 MiB at worst
//	queued requests  inside the windows: a queued request takes from the budget
//	connections      ConnectionsMax * connectionBytes                64 MiB at worst;
//	                                    ≈ 1.5 KiB each that only ever asked something
//	write sessions   SessionsMax * sessionBytes                      48 MiB
//	reads            ReadsMax * readBytes                            96 MiB
//	copies           CopiesMax * copyBytes                            8 MiB
//	loop buffers     Loops * (ReadBufferBytes + 8 KiB)               32 KiB on 2 cores
//
// Not in the sum: replies that a peer does not read, OutboundBytesMax for each connection, after which it is cut off.
//
// Descriptors: descriptorsPerConnection for each connection at worst, and
// descriptorsReserved. ConnectionsMax is lowered to what the process may open.
type Limits struct {
	Loops int // event loops; default NumCPU, at least 2
	// ReadBufferBytes of each loop: the most that is copied once more on its way
	// into a packet; default 8 KiB (tuning.md#readbuffer).
	ReadBufferBytes int

	// SocketReceiveBytes and SocketSendBytes are the kernel's buffers of each
	// connection; 0: the kernel adapts them (tuning.md#socketbuffers).
	SocketReceiveBytes, SocketSendBytes int

	// ConnectionsMax bounds open connections; default 4096. A further one gets the reason, is closed and counted;
	// at most lingeringMax get it at a time, others are only closed.
	ConnectionsMax int
	SessionsMax    int // bounds write sessions; default 1024
	// RequestBytesMax bounds the body of a request (every op but Data); default
	// 8 KiB. A full pipeline of 16 hops with long names takes less than 6 KiB.
	RequestBytesMax int
	// PendingRequestsMax bounds the requests that wait on one connection behind a running one; default 16.
	PendingRequestsMax int
	// OutboundBytesMax bounds the small replies (acks, stats, errors) that wait
	// in a connection because its peer does not read; default 256 KiB.
	OutboundBytesMax int

	WindowBytes int64 // the largest window of one session; default 8 MiB
	// RecordWindowBytes is the largest window of a record session; default 1 MiB.
	// A larger record takes more from the budget while it is under way.
	RecordWindowBytes int64
	WindowBudgetBytes int64 // bounds the sum of granted windows; default 128 MiB

	Senders        int // bounds concurrent sendfile calls, which may wait for the disk; default 64
	ReadsMax       int // bounds running reads, each a goroutine; default 1024
	SendPieceBytes int // the most that one sendfile call takes; default 1 MiB

	CopiesMax        int // bounds the copies that run at once; default 4
	CopiesWaitingMax int // bounds those that wait for them; default 64

	IdleTimeout time.Duration // closes a connection without session or request; default 2 min
	// SessionIdleTimeout ends a write session whose upstream sends nothing while
	// nothing is in flight; default 10 min. An empty Data packet keeps it alive.
	SessionIdleTimeout time.Duration
	ReceiveTimeout     time.Duration // how long half a packet may stay half; default 30 s
	// StepTimeout is how long the local disk, or the last hop, may take for one step (open, write, sync, ack);
	// default 15 s. A hop waits for its downstream longer by StepSlack for each hop after it, so that the neighbour
	// of the hop that hangs is the first to notice, and names it.
	StepTimeout time.Duration
	StepSlack   time.Duration // see StepTimeout; default 2 s
	// SilenceTimeout is how long a neighbour that owes an answer may say nothing at all, not even that it lives
	// (wire.FlagAlive): then it hangs, or its host is gone; default 2 s. Several times wire.AliveEvery, and more than
	// a busy machine stands still.
	SilenceTimeout time.Duration
	// DialTimeout to a downstream neighbour; default 2 s: a lost packet is sent again after one.
	DialTimeout time.Duration
	// SendTimeout is how long a reader may take nothing before its connection is closed; default 30 s.
	SendTimeout time.Duration
	// LingerTimeout is how long a refused connection is drained, so that the
	// peer sees the reason before the end; default 1 s.
	LingerTimeout time.Duration
	TickInterval  time.Duration // how often timeouts are looked at; default 100 ms

	PeerConnectionsMax int // bounds idle connections kept to one downstream peer; default 32
	// PeerIdleTimeout is how long they are kept; default 20 s. It must stay below IdleTimeout of the peers.
	PeerIdleTimeout time.Duration
}

const (
	// Of a packet that is still to come, at least inPlaceBytesMin are read into its buffer without a copy between;
	// with them, up to aheadBytes of what follows. After inPlaceBytesMax of one connection the others of its loop
	// are looked at.
	inPlaceBytesMin = 4 << 10
	inPlaceBytesMax = 1 << 20
	aheadBytes      = 4 << 10
	// connectionBytes is a connection with all that it may keep: 8 KiB for replies,
	// 8 KiB for packets and effects, its structs, gnet's.
	connectionBytes = 16 << 10
	// sessionBytes is a write session besides its window: the sender's stack and its queue for a window of 8 MiB (16
	// KiB), the connection to the next hop and what it keeps of an ack, the replica's writer with its checksums.
	sessionBytes = 48 << 10
	// readBytes is a running read: a stack, and at most 32 KiB of sums, encoded, and the reply around them.
	readBytes = 96 << 10
	copyBytes = 2 << 20 // a running copy: one packet that comes and one that is written

	// A connection takes its socket and a second descriptor for reads; or with a
	// write session, a file, the next hop's socket and the sender's descriptor of it.
	descriptorsPerConnection = 4
	lingeringMax             = 32  // bounds the refused connections beyond ConnectionsMax that linger
	descriptorsReserved      = 640 // for all else: cached files (512), lingering connections, logs
	connectionsMin           = 16  // left whatever the process may open
)

func defaultTo[T int | int64 | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// withDefaults fills the zero fields and checks the arithmetic. Error: fault.Invalid.
func (l Limits) withDefaults() (Limits, error) {
	defaultTo(&l.Loops, max(2, runtime.NumCPU()))
	defaultTo(&l.ReadBufferBytes, 8<<10)
	defaultTo(&l.ConnectionsMax, 4096)
	defaultTo(&l.SessionsMax, 1024)
	defaultTo(&l.RequestBytesMax, 8<<10)
	defaultTo(&l.PendingRequestsMax, 16)
	defaultTo(&l.OutboundBytesMax, 256<<10)
	defaultTo(&l.WindowBytes, 8<<20)
	defaultTo(&l.RecordWindowBytes, 1<<20)
	defaultTo(&l.WindowBudgetBytes, 128<<20)
	defaultTo(&l.Senders, 64)
	defaultTo(&l.ReadsMax, 1024)
	defaultTo(&l.SendPieceBytes, 1<<20)
	defaultTo(&l.CopiesMax, 4)
	defaultTo(&l.CopiesWaitingMax, 64)
	defaultTo(&l.IdleTimeout, 2*time.Minute)
	defaultTo(&l.SessionIdleTimeout, 10*time.Minute)
	defaultTo(&l.ReceiveTimeout, 30*time.Second)
	defaultTo(&l.StepTimeout, 15*time.Second)
	defaultTo(&l.StepSlack, 2*time.Second)
	defaultTo(&l.SilenceTimeout, 2*time.Second)
	defaultTo(&l.DialTimeout, 2*time.Second)
	defaultTo(&l.SendTimeout, 30*time.Second)
	defaultTo(&l.LingerTimeout, time.Second)
	defaultTo(&l.TickInterval, 100*time.Millisecond)
	defaultTo(&l.PeerConnectionsMax, 32)
	defaultTo(&l.PeerIdleTimeout, 20*time.Second)

	bad := func(format string, args ...any) (Limits, error) {
		return l, fault.New(fault.Invalid, "data server limits", format, args...)
	}
	switch {
	case l.Loops < 1 || l.Loops > limits.LoopsMax:
		return bad("%d event loops", l.Loops)
	case l.ReadBufferBytes < limits.ReadBufferBytesMin || l.ReadBufferBytes > limits.ReadBufferBytesMax:
		return bad("read buffer of %d bytes", l.ReadBufferBytes)
	case l.ConnectionsMax < 1 || l.SessionsMax < 1 || l.ReadsMax < 1 || l.Senders < 1 || l.PendingRequestsMax < 1 ||
		l.CopiesMax < 1 || l.CopiesWaitingMax < 0:
		return bad("a count below 1")
	case l.RequestBytesMax < 1<<10 || l.RequestBytesMax > wire.BodyBytesMax:
		return bad("request limit of %d bytes, want 1 KiB to %d", l.RequestBytesMax, wire.BodyBytesMax)
	case l.OutboundBytesMax < wire.HeaderBytes+wire.BodyBytesMax:
		return bad("outbound limit of %d bytes is below one reply", l.OutboundBytesMax)
	case l.WindowBytes < machine.WindowMin:
		return bad("window of %d bytes, at least %d", l.WindowBytes, machine.WindowMin)
	case l.RecordWindowBytes < machine.WindowMin:
		return bad("record window of %d bytes, at least %d", l.RecordWindowBytes, machine.WindowMin)
	case l.WindowBudgetBytes < machine.WindowMin:
		return bad("window budget of %d bytes, at least %d", l.WindowBudgetBytes, machine.WindowMin)
	case l.SocketReceiveBytes < 0 || l.SocketSendBytes < 0:
		return bad("socket buffers of %d and %d bytes", l.SocketReceiveBytes, l.SocketSendBytes)
	case l.SendPieceBytes < 4<<10:
		return bad("send piece of %d bytes", l.SendPieceBytes)
	case l.PeerIdleTimeout >= l.IdleTimeout:
		return bad("peer connections are kept %s, but an idle one is closed after %s", l.PeerIdleTimeout, l.IdleTimeout)
	}
	for _, d := range []time.Duration{l.IdleTimeout, l.SessionIdleTimeout, l.ReceiveTimeout, l.StepTimeout, l.StepSlack,
		l.SilenceTimeout, l.DialTimeout, l.SendTimeout, l.LingerTimeout, l.TickInterval, l.PeerIdleTimeout} {
		if d <= 0 {
			return bad("a timeout of %s", d)
		}
	}
	return l, nil
}

// memoryMax is the sum of what peers can make the server hold, in bytes: see Limits.
func (l *Limits) memoryMax() int64 {
	each := func(count, bytes int) int64 { return int64(count) * int64(bytes) }
	return l.WindowBudgetBytes + l.WindowBudgetBytes/64 + each(l.ConnectionsMax, l.RequestBytesMax+connectionBytes) +
		each(l.SessionsMax, sessionBytes) + each(l.ReadsMax, readBytes) + each(l.CopiesMax, copyBytes) +
		each(l.Loops, l.ReadBufferBytes+8<<10)
}

// fitDescriptors lowers ConnectionsMax to what a process that may open so many descriptors can hold, and reports
// whether it had to. Without descriptors an event engine cannot accept, and dies with all its connections.
func (l *Limits) fitDescriptors(descriptors uint64) (lowered bool) {
	fit := uint64(connectionsMin)
	if descriptors > descriptorsReserved {
		fit = max(fit, (descriptors-descriptorsReserved)/descriptorsPerConnection)
	}
	if uint64(l.ConnectionsMax) <= fit {
		return false
	}
	l.ConnectionsMax = int(fit)
	return true
}

// machine is what the protocol of a connection has to know of the limits.
func (l *Limits) machine() machine.Limits {
	return machine.Limits{WindowBytes: l.WindowBytes, RecordWindowBytes: l.RecordWindowBytes,
		WindowBudgetBytes: l.WindowBudgetBytes, SessionsMax: l.SessionsMax, RequestBytesMax: l.RequestBytesMax,
		PendingRequestsMax: l.PendingRequestsMax, IdleTimeout: l.IdleTimeout,
		SessionIdleTimeout: l.SessionIdleTimeout, ReceiveTimeout: l.ReceiveTimeout, StepTimeout: l.StepTimeout,
		StepSlack: l.StepSlack, SilenceTimeout: l.SilenceTimeout, LingerTimeout: l.LingerTimeout}
}
