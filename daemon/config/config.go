// Package config is the one description of every setting of `ww`: its key in a YAML file, its WW_* variable, its
// flag, its default and its meaning come from one struct field, so that they cannot drift apart.
//
// Load lays the sources on top of each other: defaults, then the file, then the environment, then flags. A key that
// no struct knows is refused with its place and the nearest key that exists. The package owns no state, runs no
// goroutine, and opens nothing but the one file it is given. A new setting is a field here, a check in validate.go
// and a row in docs/operations.md; package daemon makes an option of it.
package config

import (
	"time"
)

// Config is all that a file can say. One file can serve every daemon and the client: each reads its own section.
type Config struct {
	Log       Log       `key:"log"`
	Logserver Logserver `key:"logserver"`
	Namenode  Namenode  `key:"namenode"`
	Datanode  Datanode  `key:"datanode"`
	Mini      Mini      `key:"mini"`
	Client    Client    `key:"client"`
}

// Log says how a process writes its own log; it goes to standard error.
type Log struct {
	Level  string `key:"level" usage:"lowest level to log: debug, info, warn or error"`
	Format string `key:"format" usage:"auto (text on a terminal, else json), text or json"`
}

// Process is what the section of every daemon says of its process.
type Process struct {
	AdminListen string `key:"admin_listen" usage:"host:port of the admin address (profiles and health over HTTP, without a password); port 0 picks a free one; empty: none"`
	GCPercent   int    `key:"gc_percent" usage:"GC target, in percent of the live heap (like GOGC); lower values take less memory and more CPU; 0: as GOGC says"`
	MemoryLimit Size   `key:"memory_limit" usage:"soft memory limit (like GOMEMLIMIT): above it the garbage collector works harder; 0: none"`
}

// Logserver is the section of ww logserver.
type Logserver struct {
	ID          string   `key:"id" usage:"name of this log server among its peers"`
	Dir         string   `key:"dir" usage:"directory of the log and its checkpoints"`
	Listen      string   `key:"listen" usage:"host:port to listen on for namenodes (gRPC)"`
	RaftListen  string   `key:"raft_listen" usage:"host:port to listen on for the other log servers (raft); empty: none"`
	Peers       []string `key:"peers" usage:"all log servers as id=RAFT/GRPC, each host:port; empty: this one alone; used at the first start only"`
	ScrubPeriod Duration `key:"scrub_period" usage:"time in which the whole log and its checkpoints are read and verified; 0: only by a start"`
	Connections int      `key:"connections" usage:"maximum number of open connections, of clients and other daemons; more are refused with the reason"`
	Process
}

// Namenode is the section of ww namenode.
type Namenode struct {
	ID                string   `key:"id" usage:"name of this namenode in the log's epochs, for people"`
	Listen            string   `key:"listen" usage:"host:port to listen on for clients and datanodes (gRPC)"`
	LogServers        []string `key:"log_servers" usage:"host:port of every log server"`
	Replication       int      `key:"replication" usage:"replication of files that ask for none"`
	WriteCopiesMin    int      `key:"write_copies_min" usage:"copies below which nothing is acknowledged to a writer; the replication of files that have less"`
	ChunkSize         Size     `key:"chunk_size" usage:"chunk size of files that ask for none"`
	ReadOrder         string   `key:"read_order" usage:"whom a reader asks first: least-loaded (also if empty), local-first (a datanode on its own machine) or random"`
	Placement         string   `key:"placement" usage:"how datanodes are chosen for copies: weighted (by free space and load), round-robin, rack-spread or local-first (the first on the writer's machine); empty: rack-spread as soon as racks differ, else weighted"`
	LeaseSoftLimit    Duration `key:"lease_soft_limit" usage:"time without a renewal after which another client may take over a writer's lease"`
	LeaseHardLimit    Duration `key:"lease_hard_limit" usage:"time without a renewal after which the namenode ends a writer's lease"`
	DeadAfter         Duration `key:"dead_after" usage:"time without a heartbeat after which a datanode counts as dead"`
	UnknownGrace      Duration `key:"unknown_replica_grace" usage:"how long an unknown or stale replica is kept before the namenode orders its deletion"`
	TrashExpiry       Duration `key:"trash_expiry" usage:"how long ww rm keeps what it removes, in /.trash; 0: it is deleted at once"`
	RepairGrace       Duration `key:"repair_grace" usage:"how long to wait for a dead datanode to come back before its chunks are copied"`
	RepairStreams     int      `key:"repair_streams" usage:"how many copies of chunks that lack some may be under way in the cluster"`
	RepairPerNode     int      `key:"repair_node_streams" usage:"how many of these copies may be under way to one datanode"`
	RepairBandwidth   Size     `key:"repair_bandwidth" usage:"bytes per second with which these copies may begin, over all; 0: no bound"`
	SafeModeThreshold float64  `key:"safe_mode_threshold" usage:"share of chunks (0..1) that must have a reported replica before safe mode ends"`
	BatchRecords      int      `key:"batch_records" usage:"maximum number of edit records in one append to the log"`
	BatchBytes        Size     `key:"batch_bytes" usage:"maximum bytes of edit records in one append to the log"`
	BatchesInFlight   int      `key:"batches_in_flight" usage:"maximum number of appends to the log that wait for its disk at the same time"`
	Connections       int      `key:"connections" usage:"maximum number of open connections, of clients and other daemons; more are refused with the reason"`
	CheckpointRecords int      `key:"checkpoint_records" usage:"take a checkpoint after this many edit records, or an eighth of the number of files and chunks if that is more"`
	CheckpointBytes   Size     `key:"checkpoint_bytes" usage:"take a checkpoint after this many bytes of edit records, or an eighth of the last checkpoint's size if that is more"`
	CheckpointEvery   Duration `key:"checkpoint_interval" usage:"take a checkpoint after this time if anything has changed"`
	Process
}

// Datanode is the section of ww datanode.
type Datanode struct {
	Listen      string   `key:"listen" usage:"host:port to listen on for data (clients and other datanodes)"`
	Advertise   string   `key:"advertise" usage:"host:port that others connect to; empty: the listen address"`
	Name        string   `key:"name" usage:"name of this datanode for people, without spaces; empty: the host:port that others connect to"`
	Disks       []string `key:"disks" flag:"disk" usage:"data directory; one per disk"`
	Namenodes   []string `key:"namenodes" flag:"namenode" usage:"host:port of every namenode"`
	TrashDelay  Duration `key:"trash_delay" usage:"how long a deleted replica stays in the trash before its space is freed"`
	Reserve     Size     `key:"reserve" usage:"space to keep free on every disk"`
	FailedMax   int      `key:"failed_volumes_tolerated" usage:"number of disks that may fail before the datanode stops; -1: all but one"`
	ErrorsMax   int      `key:"disk_errors_max" usage:"number of I/O errors within a minute that end the service of a disk"`
	HangAfter   Duration `key:"disk_hang_after" usage:"how long an operation on a disk may take until it ends the service of the disk"`
	ScrubPeriod Duration `key:"scrub_period" usage:"time in which every replica is compared with its checksums; 0: only on demand"`
	ScrubRate   Size     `key:"scrub_bandwidth" usage:"bytes per second that the scrub may read from each disk; 0: no bound"`
	Rack        string   `key:"rack" usage:"place of the node, like /room1/rack7; the copies of a chunk are spread over racks (see namenode.placement)"`
	RecordIdle  Duration `key:"record_idle" usage:"seal a file of records, and release its lease, after this time without a new record"`
	Budget      Size     `key:"write_budget" usage:"memory for packets of running writes: the sum of all granted windows"`
	Connections int      `key:"connections" usage:"maximum number of open connections, of clients and other daemons; more are refused with the reason"`
	Process
	PackLimit   Size `key:"pack_limit" usage:"store replicas up to this size together in pack segments, if their length is known in advance; at most 64KiB; 0: never"`
	PackSegment Size `key:"pack_segment" usage:"size of a pack segment"`

	// Of the data server; see tuning.md.
	Loops         int  `key:"loops" usage:"event loops of the data server; 0: one for each CPU, at least 2"`
	ReadBuffer    Size `key:"read_buffer" usage:"receive buffer of an event loop for the head of each packet; the rest is read in place"`
	WindowMax     Size `key:"window" usage:"maximum unacknowledged bytes of one writer"`
	SocketReceive Size `key:"socket_receive_buffer" usage:"receive buffer of a data connection; 0: the kernel adapts it"`
	SocketSend    Size `key:"socket_send_buffer" usage:"send buffer of a data connection; 0: the kernel adapts it"`
	Senders       int  `key:"senders" usage:"maximum number of concurrent sendfile calls, each of which may wait for a disk"`
	WriteoutStep  Size `key:"writeout_step" usage:"start write-back after this many bytes of a chunk"`
	DiskWorkers   int  `key:"disk_workers" usage:"worker threads per disk"`
}

// Mini is the section of ww mini.
type Mini struct {
	Dir         string   `key:"dir" usage:"directory of all state"`
	Listen      string   `key:"listen" usage:"host:port to listen on for clients; port 0 picks a free one"`
	Advertise   string   `key:"advertise" usage:"host that clients connect to; empty: the host of the listen address"`
	Datanodes   int      `key:"datanodes" usage:"number of datanodes, each with its own data server and directory"`
	Replication int      `key:"replication" usage:"replication of files that ask for none; 0: the smaller of 3 and the number of datanodes"`
	ChunkSize   Size     `key:"chunk_size" usage:"chunk size of files that ask for none"`
	TrashDelay  Duration `key:"trash_delay" usage:"how long a deleted replica stays in the trash before its space is freed"`
	TrashExpiry Duration `key:"trash_expiry" usage:"how long ww rm keeps what it removes, in /.trash; 0: it is deleted at once"`
	Reserve     Size     `key:"reserve" usage:"space to keep free on the disk"`
	Process
}

// Client is the section of every data verb.
type Client struct {
	Namenodes      []string `key:"namenodes" flag:"namenode" env:"WW_NAMENODE" usage:"host:port of every namenode"`
	Timeout        Duration `key:"timeout" usage:"how long an operation may go without progress before it fails"`
	ParallelChunks int      `key:"parallel_chunks" usage:"maximum number of chunks of one file to transfer at the same time"`
	PacketSize     Size     `key:"packet_size" usage:"size of a packet on the wire"`
	Window         Size     `key:"window" usage:"maximum unacknowledged bytes of one chunk; datanodes may grant less"`
}

// Default is the configuration of a process that was told nothing.
func Default() Config {
	// A free port that only this host reaches: several daemons on one host do not collide, and `ww admin profile` asks
	// the namenode for it.
	process := Process{AdminListen: "127.0.0.1:0", GCPercent: 100}
	return Config{
		Log: Log{Level: "info", Format: "auto"},
		Logserver: Logserver{ID: "log1", Listen: "127.0.0.1:7710", RaftListen: "127.0.0.1:7711", Connections: 1024,
			ScrubPeriod: Duration(24 * time.Hour), Process: process},
		Namenode: Namenode{
			ID: "namenode1", Listen: "127.0.0.1:7700", LogServers: []string{"127.0.0.1:7710"},
			Replication: 3, WriteCopiesMin: 2, ChunkSize: 64 << 20,
			LeaseSoftLimit: Duration(time.Minute), LeaseHardLimit: Duration(5 * time.Minute),
			DeadAfter: Duration(8 * time.Second), UnknownGrace: Duration(5 * time.Minute),
			RepairGrace: Duration(30 * time.Second), RepairStreams: 64, RepairPerNode: 4, SafeModeThreshold: 0.999,
			BatchRecords: 4096, BatchBytes: 2 << 20, BatchesInFlight: 2,
			CheckpointRecords: 50_000, CheckpointBytes: 64 << 20, CheckpointEvery: Duration(time.Hour),
			Connections: 8192, Process: process,
		},
		Datanode: Datanode{
			Listen: "127.0.0.1:7720", Namenodes: []string{"127.0.0.1:7700"},
			TrashDelay: Duration(10 * time.Minute), Reserve: 1 << 30, Rack: "/default",
			FailedMax: -1, ErrorsMax: 3, HangAfter: Duration(time.Minute),
			ScrubPeriod: Duration(3 * 7 * 24 * time.Hour), ScrubRate: 16 << 20,
			RecordIdle: Duration(30 * time.Second), Budget: 128 << 20, Connections: 4096,
			Process: process, PackLimit: 64 << 10, PackSegment: 64 << 20,
			ReadBuffer: 8 << 10, WindowMax: 8 << 20, Senders: 64, WriteoutStep: 8 << 20, DiskWorkers: 8,
		},
		Mini: Mini{
			Listen: "127.0.0.1:7700", Datanodes: 3, ChunkSize: 64 << 20,
			TrashDelay: Duration(10 * time.Second), Reserve: 256 << 20, Process: process,
		},
		Client: Client{
			Namenodes: []string{"127.0.0.1:7700"}, Timeout: Duration(30 * time.Second),
			ParallelChunks: 4, PacketSize: 256 << 10, Window: 8 << 20,
		},
	}
}
