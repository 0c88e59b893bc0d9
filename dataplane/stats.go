package dataplane

import (
	"sync/atomic"

	"github.com/whispering-woods/ww/dataplane/machine"
)

// counters of a server. Updated on any goroutine.
type counters struct {
	protocol       machine.Counters // of all connections
	accepted       atomic.Uint64
	connections    atomic.Int64
	reads          atomic.Uint64
	readErrors     atomic.Uint64
	activeReads    atomic.Int64
	diskJobs       atomic.Int64 // submitted and not done
	bytesInPlace   atomic.Uint64
	bytesSendfile  atomic.Uint64
	bytesCopied    atomic.Uint64
	wakes          atomic.Uint64 // how often an event loop was woken from elsewhere
	outboundPeak   atomic.Int64  // the most that ever waited in a gnet outbound buffer
	engineRestarts atomic.Uint64
	inboundLeft    atomic.Uint64 // bytes left in a gnet inbound buffer: always 0
}

func (c *counters) raiseOutboundPeak(n int64) {
	for {
		old := c.outboundPeak.Load()
		if n <= old || c.outboundPeak.CompareAndSwap(old, n) {
			return
		}
	}
}

// Stats are counters since the start, except Connections and Buffers, which are now.
type Stats struct {
	Connections         int    // open connections
	ConnectionsAccepted uint64 // accepted connections
	// ConnectionsRefused counts connections that this side ended, by reason: connections, garbage, version,
	// oversized, truncated, corrupt, protocol, window, busy, records, pipeline, idle, stalled, not reading.
	ConnectionsRefused map[string]uint64
	// WritesStarted = WritesEnded + WritesBroken + those that run.
	WritesStarted, WritesEnded, WritesBroken uint64
	Reads, ReadErrors                        uint64
	BytesReceived                            uint64 // payload bytes of verified Data packets
	// BytesInPlace counts bytes that were read from a socket straight into a
	// packet's buffer; the others were copied once.
	BytesInPlace uint64
	// BytesSendfile and BytesCopied count chunk bytes sent to readers.
	BytesSendfile, BytesCopied uint64
	// Copies and CopiesFailed count replicas that this node pulled from others, BytesPulled their verified bytes.
	Copies, CopiesFailed, BytesPulled uint64
	Records                           uint64 // whole records that were handed to the record sink
	// OutboundPeakBytes is the most that ever waited in an event loop's
	// outbound buffer: replies only, never chunk bytes.
	OutboundPeakBytes int64
	EngineRestarts    uint64 // event engines that died and were replaced
	Buffers           int64  // pooled buffers in use
}

func (c *counters) snapshot() Stats {
	p := &c.protocol
	return Stats{Connections: int(c.connections.Load()), ConnectionsAccepted: c.accepted.Load(),
		ConnectionsRefused: p.Refusals(), WritesStarted: p.WritesStarted.Load(), WritesEnded: p.WritesEnded.Load(),
		WritesBroken: p.WritesBroken.Load(), Reads: c.reads.Load(), ReadErrors: c.readErrors.Load(),
		BytesReceived: p.BytesReceived.Load(), BytesInPlace: c.bytesInPlace.Load(),
		BytesSendfile: c.bytesSendfile.Load(), BytesCopied: c.bytesCopied.Load(), Records: p.Records.Load(),
		OutboundPeakBytes: c.outboundPeak.Load(), EngineRestarts: c.engineRestarts.Load()}
}
