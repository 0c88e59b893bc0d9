package config

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

const (
	datanodesMax    = 64
	packetSizeMin   = chunk.ChecksumBlockBytes
	minimumBudget   = 4 << 20
	packSegmentMin  = 1 << 20
	nameBytesMax    = 64
	sendersMax      = 4096
	writeoutMin     = 64 << 10
	socketBufferMin = 4 << 10
	socketBufferMax = 64 << 20
	scrubPeriodMin  = time.Second // of tests: a pass of an empty disk takes milliseconds
	scrubRateMin    = 64 << 10
	connectionsMin  = 16
	connectionsMax  = 65_536
	// Of the garbage collector.
	gcPercentMin   = 10
	gcPercentMax   = 10_000
	memoryLimitMin = 64 << 20
)

// checks gathers what is wrong with a section, so that one start shows all.
type checks struct{ wrong []string }

func (c *checks) that(ok bool, key, format string, args ...any) {
	if !ok {
		c.wrong = append(c.wrong, key+": "+fmt.Sprintf(format, args...))
	}
}

// within refuses a value outside of least..most.
func within[T cmp.Ordered](c *checks, key string, value, least, most T) {
	c.that(value >= least && value <= most, key, "%v is not within %v..%v", value, least, most)
}

func (c *checks) err() error {
	if len(c.wrong) == 0 {
		return nil
	}
	return fault.New(fault.Invalid, "config", "%s", strings.Join(c.wrong, "; "))
}

func (c *checks) address(key, address string) {
	c.that(validAddress(address), key, "%q is not host:port", address)
}

func (c *checks) addresses(key string, list []string) {
	c.that(len(list) > 0, key, "needs at least one host:port")
	c.that(len(list) <= limits.NamenodesMax, key, "has %d entries, at most %d", len(list), limits.NamenodesMax)
	for _, a := range list {
		c.address(key, a)
	}
}

func validAddress(address string) bool {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	n, err := strconv.Atoi(port)
	return err == nil && n >= 0 && n <= 65535
}

// process checks what every daemon's section has.
func (c *checks) process(section string, p Process) {
	if p.AdminListen != "" {
		c.address(section+".admin_listen", p.AdminListen)
	}
	c.that(p.GCPercent == 0 || p.GCPercent >= gcPercentMin && p.GCPercent <= gcPercentMax, section+".gc_percent",
		"%d is neither 0 nor within %d..%d", p.GCPercent, gcPercentMin, gcPercentMax)
	c.that(p.MemoryLimit == 0 || p.MemoryLimit >= memoryLimitMin, section+".memory_limit",
		"%s is less than %s, which a daemon needs to work", p.MemoryLimit, Size(memoryLimitMin))
}

func (c *checks) scrubPeriod(key string, period Duration) {
	c.that(period == 0 || period >= Duration(scrubPeriodMin), key, "%s is neither 0 nor at least %s", period,
		Duration(scrubPeriodMin))
}

func (c *checks) connections(key string, count int) {
	within(c, key, count, connectionsMin, connectionsMax)
}

func (c *checks) chunkSize(key string, size Size) {
	c.that(size >= chunk.ChecksumBlockBytes && size <= chunk.SizeMax && size%chunk.ChecksumBlockBytes == 0,
		key, "%s is not a multiple of 64KiB between 64KiB and 1GiB", size)
}

// Validate checks the section. Error: fault.Invalid with everything wrong.
func (l Log) Validate() error {
	var check checks
	check.that(slices.Contains([]string{"debug", "info", "warn", "error"}, l.Level), "log.level",
		"%q is none of debug, info, warn, error", l.Level)
	check.that(slices.Contains([]string{"auto", "text", "json"}, l.Format), "log.format",
		"%q is none of auto, text, json", l.Format)
	return check.err()
}

// Validate checks the section. Error: fault.Invalid with everything wrong.
func (l Logserver) Validate() error {
	var check checks
	check.that(l.ID != "", "logserver.id", "is needed")
	check.that(l.Dir != "", "logserver.dir", "is needed — the directory that holds the log")
	check.address("logserver.listen", l.Listen)
	if l.RaftListen != "" || len(l.Peers) > 0 {
		check.address("logserver.raft_listen", l.RaftListen)
	}
	for _, p := range l.Peers {
		_, _, _, ok := SplitPeer(p)
		check.that(ok, "logserver.peers", "%q is not id=RAFT/GRPC with two host:port", p)
	}
	check.scrubPeriod("logserver.scrub_period", l.ScrubPeriod)
	check.connections("logserver.connections", l.Connections)
	check.process("logserver", l.Process)
	return check.err()
}

// SplitPeer reads an entry of logserver.peers: "id=raft/grpc".
func SplitPeer(text string) (id, raft, grpc string, ok bool) {
	id, addresses, named := strings.Cut(text, "=")
	raft, grpc, both := strings.Cut(addresses, "/")
	return id, raft, grpc, named && both && id != "" && validAddress(raft) && validAddress(grpc)
}

// AllInterfaces reports whether an address to listen on names no host that a peer could connect to.
func AllInterfaces(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "" || ip != nil && ip.IsUnspecified())
}

// Validate checks the section. Error: fault.Invalid with everything wrong.
func (n Namenode) Validate() error {
	var check checks
	check.that(n.ID != "", "namenode.id", "is needed")
	check.that(len(n.ID) <= nameBytesMax && utf8.ValidString(n.ID), "namenode.id",
		"has %d bytes or is not valid UTF-8, at most %d bytes are allowed", len(n.ID), nameBytesMax)
	check.address("namenode.listen", n.Listen)
	check.addresses("namenode.log_servers", n.LogServers)
	within(&check, "namenode.replication", n.Replication, 1, limits.ReplicationMax)
	within(&check, "namenode.write_copies_min", n.WriteCopiesMin, 1, limits.ReplicationMax)
	check.chunkSize("namenode.chunk_size", n.ChunkSize)
	check.that(n.LeaseSoftLimit > 0 && n.LeaseSoftLimit <= n.LeaseHardLimit, "namenode.lease_soft_limit",
		"%s is not above 0 and at most the hard limit %s", n.LeaseSoftLimit, n.LeaseHardLimit)
	check.that(n.DeadAfter >= Duration(limits.StaleAfterDefault), "namenode.dead_after",
		"%s is less than %s, when a node counts as stale", n.DeadAfter, Duration(limits.StaleAfterDefault))
	within(&check, "namenode.repair_streams", n.RepairStreams, 1, limits.RepairStreamsMax)
	within(&check, "namenode.repair_node_streams", n.RepairPerNode, 1, limits.RepairNodeStreamsMax)
	check.that(n.RepairBandwidth == 0 || n.RepairBandwidth >= limits.CopyBandwidthMin, "namenode.repair_bandwidth",
		"%s is neither 0 nor at least %s", n.RepairBandwidth, Size(limits.CopyBandwidthMin))
	within(&check, "namenode.safe_mode_threshold", n.SafeModeThreshold, 0, 1)
	within(&check, "namenode.batch_records", n.BatchRecords, 1, limits.BatchRecordsMax)
	within(&check, "namenode.batch_bytes", n.BatchBytes, limits.BatchBytesMin, limits.BatchBytesMax)
	within(&check, "namenode.batches_in_flight", n.BatchesInFlight, 1, limits.BatchesInFlightMax)
	check.connections("namenode.connections", n.Connections)
	check.that(n.CheckpointRecords >= 1, "namenode.checkpoint_records", "%d is less than 1", n.CheckpointRecords)
	check.that(n.CheckpointBytes >= 1, "namenode.checkpoint_bytes", "%s is less than 1", n.CheckpointBytes)
	check.that(n.CheckpointEvery >= Duration(limits.CheckpointIntervalMin), "namenode.checkpoint_interval",
		"%s is less than %s", n.CheckpointEvery, Duration(limits.CheckpointIntervalMin))
	check.trashExpiry("namenode.trash_expiry", n.TrashExpiry)
	check.process("namenode", n.Process)
	return check.err()
}

// trashExpiry: the time of a removal is known to the minute.
func (c *checks) trashExpiry(key string, expiry Duration) {
	c.that(expiry == 0 || expiry >= Duration(time.Minute), key, "%s is neither 0 nor at least 1m", expiry)
}

// Validate checks the section. Error: fault.Invalid with everything wrong.
func (d Datanode) Validate() error {
	var check checks
	check.address("datanode.listen", d.Listen)
	if d.Advertise != "" {
		check.address("datanode.advertise", d.Advertise)
	} else {
		check.that(!AllInterfaces(d.Listen), "datanode.listen",
			"%q names no host that others could reach — set datanode.advertise", d.Listen)
	}
	check.that(len(d.Name) <= nameBytesMax && validName(d.Name), "datanode.name",
		"%q has spaces or characters that cannot be printed, or more than %d bytes", d.Name, nameBytesMax)
	check.that(len(d.Disks) > 0, "datanode.disks", "needs at least one directory — use --disk DIR")
	for i, disk := range d.Disks {
		for _, other := range d.Disks[:i] {
			check.that(disk != other, "datanode.disks", "%q is named twice", disk)
		}
	}
	check.addresses("datanode.namenodes", d.Namenodes)
	check.that(d.Reserve >= 0, "datanode.reserve", "must not be negative")
	check.that(d.FailedMax >= -1 && d.FailedMax < max(1, len(d.Disks)), "datanode.failed_volumes_tolerated",
		"%d is not -1 to %d: one of the %d disks has to be left", d.FailedMax, len(d.Disks)-1, len(d.Disks))
	within(&check, "datanode.disk_errors_max", d.ErrorsMax, 1, limits.VolumeErrorsMost)
	within(&check, "datanode.disk_hang_after", d.HangAfter, Duration(limits.VolumeHangAfterMin),
		Duration(limits.VolumeHangAfterMax))
	check.scrubPeriod("datanode.scrub_period", d.ScrubPeriod)
	check.that(d.ScrubRate == 0 || d.ScrubRate >= scrubRateMin, "datanode.scrub_bandwidth",
		"%s is neither 0 nor at least %s", d.ScrubRate, Size(scrubRateMin))
	within(&check, "datanode.pack_limit", d.PackLimit, 0, chunk.ChecksumBlockBytes)
	within(&check, "datanode.pack_segment", d.PackSegment, packSegmentMin, limits.PackSegmentBytesMax)
	check.that(d.Budget >= minimumBudget, "datanode.write_budget", "%s is less than %s", d.Budget, Size(minimumBudget))
	check.connections("datanode.connections", d.Connections)
	within(&check, "datanode.loops", d.Loops, 0, limits.LoopsMax)
	within(&check, "datanode.read_buffer", d.ReadBuffer, limits.ReadBufferBytesMin, limits.ReadBufferBytesMax)
	check.that(d.WindowMax >= limits.WindowBytesMin && d.WindowMax <= d.Budget, "datanode.window",
		"%s is not between %s and write_budget (%s)", d.WindowMax, Size(limits.WindowBytesMin), d.Budget)
	within(&check, "datanode.senders", d.Senders, 1, sendersMax)
	check.that(d.WriteoutStep >= writeoutMin && d.WriteoutStep <= chunk.SizeMax, "datanode.writeout_step",
		"%s is not between %s and 1GiB", d.WriteoutStep, Size(writeoutMin))
	within(&check, "datanode.disk_workers", d.DiskWorkers, 1, limits.WorkersPerVolumeMax)
	for key, size := range map[string]Size{"datanode.socket_receive_buffer": d.SocketReceive,
		"datanode.socket_send_buffer": d.SocketSend} {
		check.that(size == 0 || size >= socketBufferMin && size <= socketBufferMax, key,
			"%s is neither 0 nor between %s and %s", size, Size(socketBufferMin), Size(socketBufferMax))
	}
	check.process("datanode", d.Process)
	check.that(d.MemoryLimit == 0 || d.MemoryLimit >= d.Budget+memoryLimitMin, "datanode.memory_limit",
		"%s is less than write_budget (%s) and %s for the rest: garbage would be collected without end", d.MemoryLimit,
		d.Budget, Size(memoryLimitMin))
	return check.err()
}

// validName reports whether a name can be told from its neighbours in a line of text.
func validName(name string) bool {
	return utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool {
		return !unicode.IsGraphic(r) ||
			unicode.IsSpace(r)
	})
}

// Validate checks the section. Error: fault.Invalid with everything wrong.
func (m Mini) Validate() error {
	var check checks
	check.that(m.Dir != "", "mini.dir", "is needed — the directory that holds all state; use --dir DIR")
	check.address("mini.listen", m.Listen)
	check.that(m.Advertise != "" || !AllInterfaces(m.Listen), "mini.listen",
		"%q names no host that clients could reach — set mini.advertise", m.Listen)
	within(&check, "mini.datanodes", m.Datanodes, 1, datanodesMax)
	within(&check, "mini.replication", m.Replication, 0, limits.ReplicationMax)
	check.that(m.Replication <= m.Datanodes, "mini.replication", "%d is more than the %d datanodes", m.Replication,
		m.Datanodes)
	check.chunkSize("mini.chunk_size", m.ChunkSize)
	check.process("mini", m.Process)
	return check.err()
}

// Validate checks the section. Error: fault.Invalid with everything wrong.
func (cl Client) Validate() error {
	var check checks
	check.addresses("client.namenodes", cl.Namenodes)
	check.that(cl.Timeout > 0, "client.timeout", "must be above 0")
	within(&check, "client.parallel_chunks", cl.ParallelChunks, 1, limits.ParallelChunksMax)
	check.that(cl.PacketSize >= packetSizeMin && cl.PacketSize <= limits.PacketBytesMax &&
		cl.PacketSize%chunk.ChecksumBlockBytes == 0,
		"client.packet_size", "%s is not a multiple of 64KiB between 64KiB and 1MiB", cl.PacketSize)
	check.that(cl.Window >= cl.PacketSize && cl.Window <= limits.WindowBytesMax, "client.window",
		"%s is not between packet_size (%s) and %s", cl.Window, cl.PacketSize, Size(limits.WindowBytesMax))
	return check.err()
}
