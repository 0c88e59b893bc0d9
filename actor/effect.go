package actor

import (
	"github.com/whispering-woods/ww/actor/replicas"
	"github.com/whispering-woods/ww/actor/step"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// Effects is what one Step wants done: first make Records durable, then release what waits for them. The slices are
// valid until the next Step (copy them into the batch); the bytes of each record, results and message bodies are
// never changed afterwards and may be kept.
type Effects struct {
	FirstTxid uint64 // the txid of Records[0]; the others follow without a gap
	// Records are framed edit records (docs/format/edit-record.md), in order.
	// There may be some even if Reply.Err is set.
	Records  [][]byte
	Reply    Reply          // answers the command
	Messages []step.Message // go to datanodes, in order per node
	Events   []step.Event   // for logs and counters; they carry no behaviour
}

// Reply answers one command. Release it when every txid up to AfterTxid is durable; 0 means at once. A read that
// saw state which may not be durable yet carries the txid it depends on; errors do too.
type Reply struct {
	// Result is a pointer to the result struct named at the request, nil if the request has none or Err is set.
	Result    any
	Err       *fault.Error // why the command was refused, nil on success
	AfterTxid uint64
}

// LocatedChunk is a chunk of a file with its replicas: best first for a reader, in pipeline order for a writer.
type LocatedChunk struct {
	Chunk      chunk.ID
	Generation chunk.Generation
	Index      uint32
	Offset     int64
	Length     int64 // committed, or what is known of an open chunk
	Open       bool
	Replicas   []chunk.Location
}

// FileInfo describes a file or directory.
type FileInfo struct {
	// Name is the path's last element; empty for the root, and for a closed file that was asked for by id.
	Name              string
	FileID            uint64
	Directory         bool
	Length            int64
	ChunkSize         int64
	Replication       uint32
	Created, Modified int64 // Unix ms
	Open              bool
	Children          uint64
}

// Results of mutations. They are part of the retry cache, thus of checkpoints: fields are only ever added at the end.
type (
	// MkdirResult answers Mkdir.
	MkdirResult struct{ Info FileInfo }
	// CreateResult answers Create.
	CreateResult struct {
		Info   FileInfo
		Chunks []LocatedChunk
	}
	// AddChunksResult answers AddChunks.
	AddChunksResult struct{ Chunks []LocatedChunk }
	// CompleteResult answers Complete.
	CompleteResult struct{ Info FileInfo }
	// AbandonResult answers Abandon.
	AbandonResult struct{}
	// AppendResult answers Append.
	AppendResult struct {
		Info FileInfo
		// Last is the reopened chunk if HasLast: under its new generation, with
		// its length and replicas in pipeline order.
		Last               LocatedChunk
		HasLast            bool
		PreviousGeneration chunk.Generation
	}
	// RecoverPipelineResult answers RecoverPipeline.
	RecoverPipelineResult struct {
		Generation              chunk.Generation
		Survivors, Replacements []chunk.Location
	}
	// UpdatePipelineResult answers UpdatePipeline.
	UpdatePipelineResult struct{}
	// RenameResult answers Rename.
	RenameResult struct{}
	// RemoveResult answers Remove: what went.
	RemoveResult struct {
		Files, Directories uint64
		Bytes              int64
	}
	// TrashedResult answers a Remove that deleted nothing: where it is now.
	TrashedResult struct{ Path string }
	// RecoverLeaseResult answers RecoverLease: false means that recovery has begun.
	RecoverLeaseResult struct{ Closed bool }
	// SetReplicationResult answers SetReplication.
	SetReplicationResult struct{ Info FileInfo }
	// TruncateResult answers Truncate: Done is false while the last chunk is being cut.
	TruncateResult struct {
		Info FileInfo
		Done bool
	}
)

// Results of reads and of the shell's own requests.
type (
	// ListResult answers List.
	ListResult struct {
		Entries []FileInfo
		More    bool
	}
	// StatResult answers Stat.
	StatResult struct {
		Info FileInfo
		// Holder and Since tell of an open file who writes it; Since is Unix ms.
		Holder string
		Since  int64
	}
	// LocateResult answers Locate.
	LocateResult struct {
		Info   FileInfo
		Chunks []LocatedChunk
	}
	// SummaryResult answers Summary.
	SummaryResult struct {
		Files, Directories uint64
		Bytes              int64
		StoredBytes        int64 // bytes times each file's replication
		Chunks             uint64
	}
	// FsckResult answers Fsck: what is not healthy, and numbers of what this page examined for the first time.
	FsckResult struct {
		Found              []FileHealth
		Files, Directories uint64
		Bytes              int64
		Chunks             [replicas.Missing + 1]uint64 // by verdict
		More               bool
		Next               FsckCursor
	}
	// FileHealth holds the chunks of a file that are not healthy; those of a large one may stand in several pages.
	FileHealth struct {
		Path    string
		FileID  uint64
		Open    bool
		Verdict replicas.Verdict
		Chunks  []replicas.Health
	}
	// WhyResult answers Why.
	WhyResult struct {
		Chunks   []replicas.Explanation
		Examined uint64
		More     bool
		Next     uint32
	}
	// RenewLeasesResult answers RenewLeases: the files that the client holds, and which of their open chunks are on
	// fewer nodes than wanted while others could join.
	RenewLeasesResult struct {
		FileIDs  []uint64
		Growable []GrowableChunk
	}
	// GrowableChunk is one of RenewLeasesResult.
	GrowableChunk struct {
		FileID uint64
		Chunk  chunk.ID
	}
	// ReportBadReplicaResult answers ReportBadReplica.
	ReportBadReplicaResult struct{}
	// BalanceResult answers Balance.
	BalanceResult struct{ replicas.BalanceStatus }
	// RepairResult answers Repair.
	RepairResult struct{ replicas.RepairStatus }
	// SetDutyResult answers SetDuty.
	SetDutyResult struct{ Node NodeStatus }
	// SafeModeResult answers SafeMode: Reason has the numbers while it is on.
	SafeModeResult struct {
		On     bool
		Reason string
	}
	// NodeStatus is one datanode in ClusterStatusResult.
	NodeStatus = replicas.NodeStatus
	// BalanceWish is what Balance asks for.
	BalanceWish = replicas.BalanceWish
	// ClusterStatusResult answers ClusterStatus.
	ClusterStatusResult struct {
		replicas.Overview

		ClusterID                             string
		Epoch, Txid                           uint64
		SafeMode                              bool
		SafeModeReason                        string
		Nodes                                 []NodeStatus
		Files, Directories, Chunks, OpenFiles uint64
		Version                               string
		DefaultReplication                    uint32
		DefaultChunkSize                      int64
	}
	// FormatResult answers Format.
	FormatResult struct{ ClusterID string }
	// BecomeActiveResult answers BecomeActive.
	BecomeActiveResult struct{ Epoch uint64 }
	// RegisterResult answers RegisterNode.
	RegisterResult struct{ ClusterID string }
)
