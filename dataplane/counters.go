package dataplane

import "sync/atomic"

// reason is why a connection was refused or cut off.
type reason uint8

const (
	reasonNone        reason = iota
	reasonConnections        // too many connections
	reasonGarbage            // not this protocol
	reasonVersion            // another protocol version
	reasonOversized          // a length above its limit
	reasonTruncated          // ended inside a packet
	reasonCorrupt            // a packet does not match its checksum
	reasonProtocol           // a packet that does not belong here
	reasonWindow             // more sent than granted
	reasonBusy               // no window, session or queue place left
	reasonRecords            // the record sink refused the file or a record
	reasonPipeline           // the session's disk or a hop after it failed
	reasonIdle               // nothing said for too long
	reasonStalled            // half a packet for too long
	reasonNotReading         // the peer does not take its replies
	reasonCount
)

// String is the key in Stats.ConnectionsRefused.
func (r reason) String() string {
	return [...]string{"", "connections", "garbage", "version", "oversized", "truncated", "corrupt", "protocol", "window", "busy",
		"records", "pipeline", "idle", "stalled", "not reading"}[r]
}

// machineCounters are those of the protocol. Updated on any goroutine.
type machineCounters struct {
	refused       [reasonCount]atomic.Uint64
	writesStarted atomic.Uint64
	writesEnded   atomic.Uint64 // with a seal or close that was acked
	writesBroken  atomic.Uint64
	bytesReceived atomic.Uint64
	records       atomic.Uint64
}

// refuse counts a connection that is refused or cut off.
func (c *machineCounters) refuse(r reason) { c.refused[r].Add(1) }

// refusals are the connections that were refused, by reason.
func (c *machineCounters) refusals() map[string]uint64 {
	all := make(map[string]uint64)
	for r := reasonNone + 1; r < reasonCount; r++ {
		if n := c.refused[r].Load(); n > 0 {
			all[r.String()] = n
		}
	}
	return all
}
