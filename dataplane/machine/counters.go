package machine

import "sync/atomic"

// Reason is why a connection was refused or cut off.
type Reason uint8

// Reasons.
const (
	reasonNone        Reason = iota
	ReasonConnections        // too many connections
	reasonGarbage            // not this protocol
	reasonVersion            // another protocol version
	reasonOversized          // a length above its limit
	reasonTruncated          // ended inside a packet
	reasonCorrupt            // a packet does not match its checksum
	reasonProtocol           // a packet that does not belong here
	reasonWindow             // more sent than granted
	reasonBusy               // no window, session or queue place left
	reasonRecords            // the record sink refused the file or a record
	ReasonPipeline           // the session's disk or a hop after it failed
	reasonIdle               // nothing received for too long
	reasonStalled            // half a packet for too long
	ReasonNotReading         // the peer does not take its replies
	reasonCount
)

// String is the key in Stats.ConnectionsRefused.
func (r Reason) String() string {
	return [...]string{"", "connections", "garbage", "version", "oversized", "truncated", "corrupt", "protocol",
		"window", "busy", "records", "pipeline", "idle", "stalled", "not reading"}[r]
}

// Counters are those of the protocol. Updated on any goroutine.
type Counters struct {
	refused       [reasonCount]atomic.Uint64
	WritesStarted atomic.Uint64
	WritesEnded   atomic.Uint64 // with a seal or close that was acked
	WritesBroken  atomic.Uint64
	BytesReceived atomic.Uint64
	Records       atomic.Uint64
}

// Refuse counts a connection that is refused or cut off.
func (c *Counters) Refuse(r Reason) { c.refused[r].Add(1) }

// Refusals are the connections that were refused, by reason.
func (c *Counters) Refusals() map[string]uint64 {
	all := make(map[string]uint64)
	for r := reasonNone + 1; r < reasonCount; r++ {
		if n := c.refused[r].Load(); n > 0 {
			all[r.String()] = n
		}
	}
	return all
}
