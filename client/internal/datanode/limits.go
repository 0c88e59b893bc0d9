package datanode

import "time"

// Bounds of one client's connections. Memory of idle ones: idleTotalMax · a packet reader's buffer = 256 · 8 KiB ≈ 2
// MiB (at worst 256 · 64 KiB: a buffer grows to the largest body seen, about 200 bytes for acks, 8 per 64 KiB for
// reads).
const (
	// idlePerNodeMax and idleTotalMax bound idle data connections.
	idlePerNodeMax = 8
	idleTotalMax   = 256
	// idleAge: an older idle connection is not trusted any more. Datanodes keep idle connections longer than this.
	idleAge = 20 * time.Second

	// shortPatience is how long a datanode may be silent before another one is asked. A lost packet that opens a
	// connection is sent again after one second.
	shortPatience = 1500 * time.Millisecond

	// disksTimeout bounds a change of a datanode's disks: a new one that holds replicas is listed, and those that hang
	// are waited for.
	disksTimeout = 5 * time.Minute

	readRunBytes = 1 << 20 // the most that is read before it is verified

	copyRateLeast = 8 << 20 // a datanode that copies fewer bytes per second is not waited for

	// BandwidthLeast is the lowest limit of a client's bandwidth, bytes per second: with less, packets would take
	// longer than datanodes wait for them.
	BandwidthLeast = 4 << 10
	bandwidthBurst = 1 << 20 // passes at once: the largest piece that is asked for or sent
)
