package actor

import (
	"time"

	"github.com/whispering-woods/ww/actor/leases"
	"github.com/whispering-woods/ww/actor/replicas"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
)

// ClientID is a UUID that one client process chose at start. The zero value
// means "no client" and is refused for mutations.
type ClientID = leases.ClientID

// Command is one input of the state machine. The shell fills every field that
// is marked so; the state machine reads no clock and no random source.
type Command struct {
	// Now is the wall clock in Unix milliseconds, for times in records. Filled by the shell for every command.
	Now int64
	// Mono is the time since the shell started, from a monotonic clock, for leases, heartbeats and grace periods.
	// It never goes back. Filled by the shell for every command.
	Mono time.Duration
	// Random seeds chunk ids, placement and read order. Filled by the shell for
	// every command, from a cryptographic source.
	Random [16]byte
	// Near is the machine that the request came from, as the host part of a datanode's address, for placement and
	// read order. Filled by the shell for requests of clients.
	Near string
	// Client, Sequence and OldestPending are the request's MutationHeader.
	// Filled by the shell for mutations; zero for all other commands.
	Client                  ClientID
	Sequence, OldestPending uint64
	Request                 Request // says what to do: a pointer to one of the structs below
}

// Request is implemented by the request structs of this package only.
type Request interface{ request() }

// Requests of clients that change the namespace. Each needs the command's
// Client and Sequence. Paths are absolute and clean (limits.CheckPath).
type (
	// Mkdir creates a directory. Result: *MkdirResult.
	Mkdir struct {
		Path    string
		Parents bool // creates missing parents and accepts an existing directory
	}
	// Create starts a file and takes its lease. Result: *CreateResult.
	Create struct {
		Path               string
		Overwrite, Parents bool
		Replication        uint32 // 0 means Config.DefaultReplication
		ChunkSize          int64  // bytes; 0 means Config.DefaultChunkSize
		VisibleOnComplete  bool   // keeps the file out of the namespace until Complete
		ChunkCount         uint32 // so many are allocated at once: 0..limits.ChunksPerCallMax
		// ChunkBytesMax is the most that one of them gets, if the writer knows; 0: a whole chunk. Nodes with room
		// for so much are chosen.
		ChunkBytesMax int64
		ExcludeNodes  []string // node ids not to place on
		ClientName    string   // for people: "host:pid"
	}
	// AddChunks commits finished chunks and allocates the next ones; Count may
	// be 0 to commit only. Result: *AddChunksResult.
	AddChunks struct {
		FileID            uint64
		FirstIndex, Count uint32
		Commits           []ChunkCommit
		ExcludeNodes      []string
		AvoidNodes        []string // not to place on while there are enough others
		// ReplaceChunk, if not zero, is an open chunk of the file to drop and to
		// allocate anew at the same index (FirstIndex; Count is 1).
		ReplaceChunk  chunk.ID
		ChunkBytesMax int64 // as in Create
	}
	// Complete commits the last chunks, closes the file and ends the lease. Result: *CompleteResult.
	Complete struct {
		FileID  uint64
		Commits []ChunkCommit
	}
	// Abandon drops a file that was never completed. Result: *AbandonResult.
	Abandon struct{ FileID uint64 }
	// Append reopens a closed file at its end. Result: *AppendResult.
	Append struct {
		Path         string
		RecoverLease bool // takes over from a holder past its soft limit
		ClientName   string
	}
	// RecoverPipeline issues a new generation and replacements for a broken pipeline. Result: *RecoverPipelineResult.
	RecoverPipeline struct {
		FileID      uint64
		Chunk       chunk.ID
		Generation  chunk.Generation // that the broken pipeline wrote
		FailedNodes []string
		Grow        bool // nothing is broken: nodes are wanted for the replicas that are missing

		ChunkBytesMax int64 // as in Create
	}
	// UpdatePipeline commits a generation that RecoverPipeline issued, once every member holds it and before
	// anything written under it counts as acknowledged. Result: *UpdatePipelineResult.
	UpdatePipeline struct {
		FileID     uint64
		Chunk      chunk.ID
		Generation chunk.Generation
		Length     int64
		NodeIDs    []string
	}
	// Rename moves a file or directory. Result: *RenameResult.
	Rename struct {
		Source, Target string
		Overwrite      bool
	}
	// Remove deletes a file or directory. Result: *RemoveResult. With ToTrash it moves it to the trash of User, if
	// Config.TrashExpiry is set and it is not there already. Result then: *TrashedResult.
	Remove struct {
		Path      string
		Recursive bool
		ToTrash   bool
		User      string
	}
	// RecoverLease ends another client's lease at once, renewed or not: an
	// operator's word. Result: *RecoverLeaseResult.
	RecoverLease struct{ Path string }
	// SetReplication changes how many replicas a closed file wants of each chunk. Result: *SetReplicationResult; copies
	// and deletions follow.
	SetReplication struct {
		Path        string
		Replication uint32
	}
	// Truncate cuts a closed file. Result: *TruncateResult.
	Truncate struct {
		Path   string
		Length int64
	}
)

// Requests of clients that read, or change nothing durable.
type (
	// List returns one page of a directory, by byte order of names. Result: *ListResult.
	List struct {
		Path  string
		After string
		Limit uint32 // 0 means limits.EntriesPerListMax
	}
	// Stat describes one path. Result: *StatResult.
	Stat struct{ Path string }
	// Locate returns the chunks of a byte range; Path or FileID is set. Result: *LocateResult.
	Locate struct {
		Path   string
		FileID uint64
		Offset int64
		Length int64 // 0 or less means to the end
	}
	// Summary counts a subtree. Result: *SummaryResult.
	Summary struct{ Path string }
	// Fsck draws verdicts on the chunks below a path, page after page. Result: *FsckResult.
	Fsck struct {
		Path  string
		From  FsckCursor // FsckResult.Next of the page before
		Limit uint32     // how many chunks and entries are examined at most; 0 means fsckItemsPerPage
	}
	// Why explains a chunk, or those of a file that something is to be done about; Path or Chunk is set. Result:
	// *WhyResult.
	Why struct {
		Path  string
		Chunk chunk.ID
		From  uint32 // index of the first chunk of the file to examine: WhyResult.Next of the page before
	}
	// RenewLeases keeps all leases of a client; the id is in the request, not
	// in the command's header. Result: *RenewLeasesResult.
	RenewLeases struct{ Client ClientID }
	// ReportBadReplica tells of a replica that failed its checksum or, with Missing, of which its node says that it
	// is not there. Result: *ReportBadReplicaResult.
	ReportBadReplica struct {
		Chunk          chunk.ID
		Generation     chunk.Generation
		NodeID, Reason string
		Missing        bool
	}
	// ClusterStatus describes the cluster. Result: *ClusterStatusResult.
	ClusterStatus struct{}
	// Balance tells of the balance of the datanodes, begins or stops one, or says what one would move. Result:
	// *BalanceResult.
	Balance struct {
		Action               BalanceAction
		replicas.BalanceWish // of BalanceStart and BalancePlan
	}
	// Repair tells of the repair, and changes those of its limits that are set, until this State ends. Result:
	// *RepairResult.
	Repair struct {
		Streams, NodeStreams int    // 0: as it is
		Bandwidth            *int64 // bytes per second, 0 for no bound; nil: as it is
	}
	// SafeMode asks for or changes safe mode. Result: *SafeModeResult.
	SafeMode struct{ Action SafeModeAction }
)

// FsckCursor is how far a Fsck came: the entry that was examined last, and the index of the chunk to go on with if it
// is a file. Zero: at the beginning.
type FsckCursor struct {
	Path  string
	Chunk uint32
}

// BalanceAction is what Balance does. The numbers are controlpb's.
type BalanceAction uint8

// Balance actions. To start one that runs with the same wish is no error, so that the request can be repeated.
const (
	BalanceGet   BalanceAction = 1
	BalanceStart BalanceAction = 2
	BalanceStop  BalanceAction = 3
	BalancePlan  BalanceAction = 4
)

// SafeModeAction is what SafeMode does. The numbers are controlpb's.
type SafeModeAction uint8

// Safe mode actions.
const (
	SafeModeGet   SafeModeAction = 1
	SafeModeEnter SafeModeAction = 2
	SafeModeLeave SafeModeAction = 3
)

// Requests of the shell itself and of datanodes. Session is a number, never reused, that the shell assigns to each
// datanode stream; what comes from an older session than the node's last registration is refused with fault.Closed.
type (
	// Format starts a new log: its record is txid 1. Only on an empty State. Result: *FormatResult.
	Format struct {
		ClusterID string // "": it is made from the command's time and randomness
	}
	// BecomeActive makes this State serve, under an epoch that the log server gave: it logs the epoch, renews all
	// leases, enters safe mode. Result: *BecomeActiveResult.
	BecomeActive struct{ Epoch uint64 }
	// StepDown makes this State refuse mutations with fault.NotActive. No
	// record, no result. Its State must be dropped if records were not durable.
	StepDown struct{}
	// RegisterNode is a datanode's first message on a stream. Result:
	// *RegisterResult; a SendReport message to the node follows it.
	RegisterNode struct {
		Session                   uint64
		ClusterID                 string // as the node knows it; "" before it joined
		NodeID                    string
		Address                   string // host:port of the data server
		Name                      string // for people; "" means the address
		Version                   string
		Rack                      string // "" means "/default"
		AdminAddress              string // host:port; "" if there is none
		HighestEpoch, HighestTxid uint64
		Volumes                   []datanode.VolumeState
		// DurableTxid is the last durable txid that the shell knows: a node that has seen a higher one refuses us,
		// so we refuse it first, loudly. Filled by the shell.
		DurableTxid uint64
	}
	// Heartbeat keeps a node alive and tells its load. No result.
	Heartbeat struct {
		NodeID  string
		Session uint64
		Volumes []datanode.VolumeState
		Load    datanode.Load
	}
	// NodeGone says that a node's stream broke. No result.
	NodeGone struct {
		NodeID  string
		Session uint64
	}
	// ReportPage is one page of a full chunk report. No result.
	ReportPage struct {
		NodeID   string
		Session  uint64
		ReportID uint64
		Page     uint32
		Last     bool
		Replicas []chunk.Replica // not retained
	}
	// Delta tells changes of a node's replicas, in order. No result.
	Delta struct {
		NodeID          string
		Session         uint64
		Stored, Removed []chunk.Replica // not retained
	}
	// RecoverResult tells how a recovery ended that the node led. No result.
	RecoverResult struct {
		NodeID  string
		Session uint64
		datanode.RecoverResult
	}
	// CopyResult says what became of an ordered copy. One that succeeded comes as a Delta too. No result.
	CopyResult struct {
		NodeID  string
		Session uint64
		datanode.CopyResult
	}
	// VerifyResult says what a node found that verified a replica. No result.
	VerifyResult struct {
		NodeID  string
		Session uint64
		datanode.VerifyResult
	}
	// SetDuty says what an operator wants of a datanode; until then it serves. One that is forgotten serves when it
	// registers. Result: *SetDutyResult.
	SetDuty struct {
		NodeID string
		Duty   datanode.Duty
		For    time.Duration // of a maintenance: 1 s to MaintenanceMax
	}
	// Tick drives everything that waits for time. The shell sends one about every Config.TickInterval. No result.
	Tick struct{}
	// Continue does a part of what Behind says is left. The shell sends one after the other, between other commands, as
	// long as it is. No result.
	Continue struct{}
)

// ChunkCommit is a client's word that a chunk is sealed at a length on the named nodes.
type ChunkCommit struct {
	Chunk      chunk.ID
	Generation chunk.Generation
	Length     int64 // bytes
	NodeIDs    []string
}

func (*Mkdir) request()            {}
func (*Create) request()           {}
func (*AddChunks) request()        {}
func (*Complete) request()         {}
func (*Abandon) request()          {}
func (*Append) request()           {}
func (*RecoverPipeline) request()  {}
func (*UpdatePipeline) request()   {}
func (*Rename) request()           {}
func (*Remove) request()           {}
func (*RecoverLease) request()     {}
func (*Truncate) request()         {}
func (*SetReplication) request()   {}
func (*List) request()             {}
func (*Stat) request()             {}
func (*Locate) request()           {}
func (*Summary) request()          {}
func (*Fsck) request()             {}
func (*Why) request()              {}
func (*RenewLeases) request()      {}
func (*ReportBadReplica) request() {}
func (*ClusterStatus) request()    {}
func (*Repair) request()           {}
func (*Balance) request()          {}
func (*SafeMode) request()         {}
func (*Format) request()           {}
func (*BecomeActive) request()     {}
func (*StepDown) request()         {}
func (*RegisterNode) request()     {}
func (*Heartbeat) request()        {}
func (*NodeGone) request()         {}
func (*ReportPage) request()       {}
func (*Delta) request()            {}
func (*RecoverResult) request()    {}
func (*CopyResult) request()       {}
func (*VerifyResult) request()     {}
func (*SetDuty) request()          {}
func (*Tick) request()             {}
func (*Continue) request()         {}
