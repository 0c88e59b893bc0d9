// Package limits holds the bounds that more than one layer has to agree on, and the checks of them, so that a value
// that one layer accepts is not refused by the next. What comes from a network, a command line or a configuration
// is checked at that edge; the state machine checks again, with the same functions, what it keeps. A bound that
// only one package knows stands in that package's own limits.go, one that is part of the chunk format in package
// chunk. It owns no state, runs no goroutine and does no I/O.
package limits

import "time"

// Bounds of files, names and texts.
const (
	// ReplicationMax bounds a file's replication, and so the nodes of one
	// pipeline: 16 of them with long names take less than 6 KiB of a request.
	ReplicationMax = 16
	// NameBytesMax bounds one element of a path, PathElementsMax its depth and
	// PathBytesMax its text: a record with two paths stays below 1 MiB.
	NameBytesMax    = 255
	PathElementsMax = 4096
	PathBytesMax    = 256 << 10
	// TextBytesMax bounds what is stored of an id, an address, a rack, a version
	// or a client's name; ReasonBytesMax a text that only says why.
	TextBytesMax   = 255
	ReasonBytesMax = 4096
)

// Bounds of lists in one message or call.
const (
	// ChunksPerCallMax: chunks that one call allocates.
	ChunksPerCallMax = 256
	// CommitsPerCallMax: about 100 bytes each, so 400 KiB of a 4 MiB request.
	CommitsPerCallMax = 4096
	// NodesPerCallMax: node ids, replicas or sources.
	NodesPerCallMax = 256
	// EntriesPerListMax: entries in one page of a listing.
	EntriesPerListMax = 1000
	// VolumesPerNodeMax: volumes of one datanode.
	VolumesPerNodeMax = 256
	// ReplicasPerMessageMax: replicas in one page or change of a chunk report; at
	// 35 bytes each 2.2 MiB of a 4 MiB message.
	ReplicasPerMessageMax = 64 << 10
	// NamenodesMax: namenodes of one cluster.
	NamenodesMax = 16
)

// Bounds of transfers, for those who configure them and those who obey.
const (
	// PacketBytesMax: payload of one packet of the data plane.
	PacketBytesMax = 1 << 20
	// WindowBytesMax: bytes of one session that are not acknowledged.
	WindowBytesMax = 256 << 20
	// ParallelChunksMax: chunks that one operation of a client moves at a time.
	ParallelChunksMax = 64
	// BatchRecordsMax and BatchBytesMax: records of one batch for the edit log. With a frame of 12 bytes per record
	// it stays far below one message of 16 MiB. BatchBytesMin is the least that may be set: any record fits in it.
	// BatchesInFlightMax bounds the batches that are not durable yet.
	BatchRecordsMax    = 16 << 10
	BatchBytesMin      = 2 << 20
	BatchBytesMax      = 4 << 20
	BatchesInFlightMax = 64
	// CheckpointPieceBytesMax: one piece of a checkpoint, on the wire and on disk.
	CheckpointPieceBytesMax = 1 << 20
	// HolderBytesMax: the name of an epoch's holder.
	HolderBytesMax = 256
)

// Bounds of what can be set and is checked by the configuration and by the part that uses it.
const (
	// CheckpointIntervalMin: the shortest time between checkpoints of the namenode.
	CheckpointIntervalMin = time.Second
	// StaleAfterDefault: a datanode that was silent for so long is stale.
	StaleAfterDefault = 3 * time.Second
	// LoopsMax: event loops of a data server; ReadBufferBytesMin and ReadBufferBytesMax: the read buffer of each.
	LoopsMax           = 256
	ReadBufferBytesMin = 4 << 10
	ReadBufferBytesMax = 16 << 20
	// WindowBytesMin: one packet of a bulk transfer, which is also what a sender may send before its OpenAck.
	WindowBytesMin = 256 << 10
	// WorkersPerVolumeMax: worker threads of one disk.
	WorkersPerVolumeMax = 256
	// VolumeErrorsMost: I/O errors that may be allowed to a disk; each is remembered for a minute.
	VolumeErrorsMost = 1024
	// VolumeHangAfterMin and VolumeHangAfterMax: the time that an operation may be allowed to take on a disk. A disk
	// that answers within the least is suspect at most.
	VolumeHangAfterMin = 5 * time.Second
	VolumeHangAfterMax = time.Hour
	// RepairStreamsMax and RepairNodeStreamsMax bound the copies of a cluster and those to one of its datanodes. A
	// datanode makes two at once; what waits longer than a copy may take is ordered elsewhere. CopyBandwidthMin is the
	// least bound of their bytes per second that may be set.
	RepairStreamsMax     = 10_000
	RepairNodeStreamsMax = 16
	CopyBandwidthMin     = 64 << 10
	// BalanceThresholdMin, BalanceThresholdDefault and BalanceThresholdMax: percentage points between a datanode and
	// the mean. BalanceBandwidthDefault: bytes per second of moves to, and from, each datanode.
	BalanceThresholdMin     = 0.1
	BalanceThresholdDefault = 5.0
	BalanceThresholdMax     = 100.0
	BalanceBandwidthDefault = 50 << 20
	// PackSegmentBytesMax: one segment of packed small replicas.
	PackSegmentBytesMax = 1 << 30
)
