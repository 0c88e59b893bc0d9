package client

import (
	"io/fs"
	"time"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/internal/chunk"
)

// FileInfo describes a file or directory.
type FileInfo struct {
	Path        string // absolute, cleaned
	Name        string // last element; "/" has the name ""
	FileID      uint64
	Directory   bool
	Length      int64 // committed bytes; an open file may have more, see FileReader.Size
	ChunkSize   int64
	Replication int
	Created     time.Time
	Modified    time.Time
	Open        bool // a writer holds the file's lease
	Children    int64
	LeaseHolder string    // Stat of an open file: who writes it
	LeaseSince  time.Time // Stat of an open file: since when
}

// FS is the file's io/fs view: mode 0444 for files and 0555 for directories. Its Sys is the FileInfo.
func (i FileInfo) FS() fs.FileInfo { return ioInfo{i} }

// CreateOptions says how a new file is made.
type CreateOptions struct {
	Overwrite   bool  // replaces an existing file (never a directory)
	Parents     bool  // creates missing parent directories
	Replication int   // copies; 0: the cluster's default
	ChunkSize   int64 // in bytes, a multiple of 64 KiB up to 1 GiB; 0: the cluster's default
	// VisibleOnComplete hides the file until Close succeeds; then it appears whole, in one step. Without it the file is
	// visible at once and grows.
	VisibleOnComplete bool
}

// AppendOptions says how a file is reopened at its end.
type AppendOptions struct {
	RecoverLease bool // acquires the lease from a holder that is past its soft limit
}

// StoreOptions says how Store makes its file. VisibleOnComplete is implied.
type StoreOptions struct {
	CreateOptions
	// Progress is called, from several goroutines, with how many more bytes all replicas of a pipeline acknowledged;
	// negative when a chunk has to be sent again.
	Progress func(bytes int64)
	// Slow is called, from several goroutines and perhaps more than once, for datanodes that held up the writing and
	// were replaced.
	Slow func(SlowNode)
}

// CopyOptions says how Copy makes its file. VisibleOnComplete is implied; Replication and ChunkSize 0 mean those of the
// source.
type CopyOptions struct {
	CreateOptions
	// Progress is called, from several goroutines, with how many more bytes are copied; negative when some have to be
	// copied again.
	Progress func(bytes int64)
}

// FetchOptions says how Fetch reads.
type FetchOptions struct {
	// Progress is called, from several goroutines, with how many more verified bytes reached the target.
	Progress func(bytes int64)
}

// MkdirOptions says how a directory is made.
type MkdirOptions struct {
	Parents bool // creates missing parents and accepts an existing directory
}

// RenameOptions says how a rename treats its target.
type RenameOptions struct {
	Overwrite bool // replaces an existing file at the target
}

// RemoveOptions says what Remove may delete.
type RemoveOptions struct {
	Recursive bool // removes a directory with everything in it
	// Trash moves it to the trash of Options.User, if the namenode keeps what is removed (namenode.trash_expiry) and it
	// is not in the trash already. Undelete brings it back.
	Trash bool
}

// Removed counts what a Remove deleted: nothing if it went to the trash.
type Removed struct {
	Files       int64
	Directories int64
	Bytes       int64
	Trashed     bool
	TrashPath   string // where it is then; empty if the namenode's first answer was lost
}

// SlowNode is a datanode that held up a pipeline and was replaced for it, or left out.
type SlowNode struct {
	NodeID         string
	Address        string
	BytesPerSecond float64 // of the pipeline that it held up
	Link           bool    // bytes wait on the way to it; else for its disk
}

// Replica says where one copy of a chunk is.
type Replica struct {
	NodeID  string
	Address string // host:port
}

// ChunkLocation is one chunk of a file and where its copies are.
type ChunkLocation struct {
	ID         chunk.ID
	Generation chunk.Generation
	Index      int
	Offset     int64 // first byte of the chunk in the file
	Length     int64 // committed bytes
	Open       bool  // a pipeline may be writing it
	Replicas   []Replica
}

// Summary counts a subtree.
type Summary struct {
	Files       int64
	Directories int64
	Bytes       int64
	StoredBytes int64 // bytes times each file's replication
	Chunks      int64
}

// NodeStatus is a datanode as the namenode sees it.
type NodeStatus struct {
	NodeID           string
	Name             string // for people; the address if it was given none
	Address          string
	Rack             string
	Live             bool
	State            string // "live", "slow", "flapping", "stale", "dead", or "unknown" of an older namenode
	SlowReason       string // why it is slow beside its peers, for people; empty if it is not
	SlowFor          time.Duration
	Registrations    int // within the last ten minutes; the count stops at 4
	CapacityBytes    int64
	FreeBytes        int64
	UsedBytes        int64
	Replicas         int64
	ActiveWrites     int
	ActiveReads      int
	LastHeartbeatAge time.Duration
	Version          string
	AdminAddress     string // host:port; empty if it has none
	Volumes          []VolumeStatus
	System           SystemLoad // of its machine
	// Duty is what an operator wants of it, DutySince since when. A maintenance ends at DutyUntil by itself.
	Duty                 NodeDuty
	DutySince, DutyUntil time.Time
	// NeededChunks would have too few replicas without it although it is out of service; NeededOpenChunks of them
	// are being written. DutyDone: there is none, which holders of all chunks have confirmed: it can be stopped.
	NeededChunks, NeededOpenChunks int64
	DutyDone                       bool
}

// SystemLoad is what the machine of a datanode was busy with before its last heartbeat; 0 also if it does not tell.
type SystemLoad struct {
	CPU     float64 // share of its processors, 0..1
	Stalled float64 // share of the time in which a process waited for a disk, 0..1
	// Bytes per second, over all networks but loopback.
	Received, Sent int64
}

// NodeDuty is what an operator wants of a datanode.
type NodeDuty int

// Duties of a datanode. Nothing new is placed on one that does not serve.
const (
	NodeServes       NodeDuty = 0
	NodeDecommission NodeDuty = 1 // its replicas do not count, they are copied to others
	NodeMaintenance  NodeDuty = 2 // it may be away for a time: its replicas count meanwhile
	NodeForgotten    NodeDuty = 3 // it is dead and will never be back: no status shows it, until it registers
)

// String names the duty.
func (d NodeDuty) String() string {
	return [...]string{"serve", "decommission", "maintenance", "forgotten"}[max(0, min(d, NodeForgotten))]
}

// VolumeStatus is one disk of a datanode as its last heartbeat described it.
type VolumeStatus struct {
	ID            string // empty if the disk never told
	Directory     string
	State         string // "healthy", "suspect", "full", "read-only", "failed", "missing", "draining" or "unknown"
	CapacityBytes int64
	FreeBytes     int64 // for new replicas: the reserve is subtracted
	UsedBytes     int64 // of its file system, whoever uses them
	ReserveBytes  int64 // that new replicas may not use (datanode.reserve)
	Replicas      int64
	Errors        int64     // I/O errors since the datanode's start
	Error         string    // the last one, or why the disk is out of service
	Busy          float64   // share of the time in which it had work, 0..1; 0 also if the machine does not tell
	Since         time.Time // when State became what it is, by the datanode's clock
	Scrub         ScrubStatus
}

// ScrubStatus is how far the comparison of a disk's replicas with their checksums came.
type ScrubStatus struct {
	Passes   int64 // whole ones, ever
	Running  bool
	Percent  int       // of the pass under way
	Began    time.Time // the pass under way, or the last one, by the datanode's clock; the zero time: there was none
	Ended    time.Time // the last whole pass
	Replicas int64     // that the pass under way, or the last one, has verified
	Bytes    int64     // in them
	Bad      int64     // replicas among them that were put in quarantine
	BadTotal int64     // in all passes
}

// LogServerStatus is a log server as the namenode knows it.
type LogServerStatus struct {
	NodeID       string
	Address      string
	Leader       bool
	Error        string // why it does not serve, or what its scrub has found; empty: nothing
	AdminAddress string // host:port; empty if it has none
}

// ClusterStatus is the state of the whole cluster.
type ClusterStatus struct {
	ClusterID             string
	Epoch                 uint64
	Txid                  uint64
	SafeMode              bool
	SafeModeReason        string
	Nodes                 []NodeStatus
	Files                 int64
	Directories           int64
	Chunks                int64
	UnderReplicatedChunks int64
	MissingChunks         int64
	CorruptReplicas       int64
	OpenFiles             int64
	Version               string
	DefaultReplication    int
	DefaultChunkSize      int64
	Namenode              string // address that answered
	AdminAddress          string // of that namenode; empty if it has none
	LogServers            []LogServerStatus
	Checkpoint            CheckpointStatus
	// Health is Healthy only if nothing else here speaks against it; chunks being written count by their pipelines.
	Health            Health
	UnconfirmedChunks int64 // with enough copies, of which datanodes have not told of some yet
	UnreportedNodes   int   // datanodes that may still tell of copies that nobody knows of
	Counting          bool  // chunks are being counted again after a change that concerns all
	CopiesRunning     int64
	CopiesWaiting     int64 // chunks that need a copy which is not ordered yet
	LeavingChunks     int64 // with enough copies, but some on datanodes that leave
}

// CheckpointStatus is the namenode's newest checkpoint.
type CheckpointStatus struct {
	Txid         uint64 // it holds what the records up to this one made; 0: there is none
	Bytes        int64
	Age          time.Duration
	RecordsSince uint64 // that a start would replay
	Running      bool   // one is being written
	Error        string // why the last attempt failed; empty if it did not
}

// SafeModeAction is what to do with safe mode.
type SafeModeAction int

// Actions of SafeMode.
const (
	SafeModeGet SafeModeAction = iota
	SafeModeEnter
	SafeModeLeave
)

// SafeModeState is the namenode's safe mode and why.
type SafeModeState struct {
	On     bool
	Reason string
}

// fileInfo turns the proto's info about the entry at p into ours; none, after an error, into the zero FileInfo.
func fileInfo(p string, in *controlpb.FileInfo) FileInfo {
	if in == nil {
		return FileInfo{}
	}
	return FileInfo{Path: p, Name: in.GetName(), FileID: in.GetFileId(), Directory: in.GetDirectory(),
		Length: in.GetLength(), ChunkSize: in.GetChunkSize(), Replication: int(in.GetReplication()),
		Created: time.UnixMilli(in.GetCreatedUnixMs()), Modified: time.UnixMilli(in.GetModifiedUnixMs()),
		Open: in.GetOpen(), Children: int64(in.GetChildren())}
}

// ioInfo is the io/fs view of a FileInfo.
type ioInfo struct{ i FileInfo }

func (v ioInfo) Name() string {
	if v.i.Name == "" {
		return "."
	}
	return v.i.Name
}
func (v ioInfo) Size() int64        { return v.i.Length }
func (v ioInfo) ModTime() time.Time { return v.i.Modified }
func (v ioInfo) IsDir() bool        { return v.i.Directory }
func (v ioInfo) Sys() any           { return v.i }
func (v ioInfo) Mode() fs.FileMode {
	if v.i.Directory {
		return fs.ModeDir | 0o555
	}
	return 0o444
}
