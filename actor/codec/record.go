package codec

import (
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
)

// Version is the version of all records and checkpoint frames that this program writes, and the highest that it reads.
const Version = 1

// Kind tells the frames of edit records and checkpoints apart.
type Kind uint8

// Kinds of edit records. The numbers are part of the log format; they are never reused (docs/format/edit-record.md).
const (
	KindFormat          Kind = 1
	KindEpoch           Kind = 2
	KindNode            Kind = 3
	KindMkdir           Kind = 4
	KindCreate          Kind = 5
	KindAddChunks       Kind = 6
	KindComplete        Kind = 7
	KindAbandon         Kind = 8
	KindAppend          Kind = 9
	KindRecoverPipeline Kind = 10
	KindUpdatePipeline  Kind = 11
	KindRename          Kind = 12
	KindRemove          Kind = 13
	KindRecoverLease    Kind = 14
	KindRecovered       Kind = 15
	KindTruncate        Kind = 16
	KindSettling        Kind = 18
	KindNodeDuty        Kind = 17
	KindNodeName        Kind = 19
	KindReplication     Kind = 20
	KindTrash           Kind = 23

	// Frames of a checkpoint use the same framing.
	KindCheckpointHead   Kind = 128
	KindCheckpointNodes  Kind = 129
	KindCheckpointFiles  Kind = 130
	KindCheckpointRetry  Kind = 131
	KindCheckpointEnd    Kind = 132
	KindCheckpointMore   Kind = 133
	KindCheckpointDuties Kind = 134
	KindCheckpointNames  Kind = 135
)

// Record is one edit record: a struct that is encoded as a msgpack array, its
// Prefix first, then fields that are only ever added at the end.
type Record interface {
	Kind() Kind
	// Header is the record's own; it may be changed before the record is encoded.
	Header() *Header
}

// Prefix stands first in every record.
type Prefix struct {
	Version uint8
	Head    Header
}

// Header gives the record's header.
func (p *Prefix) Header() *Header { return &p.Head }

// Header says when a change was made and who asked for it.
type Header struct {
	Time int64 // in Unix milliseconds; never below that of the record before
	// Client, Sequence and Oldest are zero for records of the namenode's own.
	Client   [16]byte
	Sequence uint64
	Oldest   uint64
}

// FormatRecord begins every log: it makes the root directory.
type FormatRecord struct {
	Prefix
	ClusterID string
}

// Kind is KindFormat.
func (*FormatRecord) Kind() Kind { return KindFormat }

// EpochRecord says that a namenode became active.
type EpochRecord struct {
	Prefix
	Epoch uint64
}

// Kind is KindEpoch.
func (*EpochRecord) Kind() Kind { return KindEpoch }

// NodeRecord gives a datanode its index in later records, or a new address.
type NodeRecord struct {
	Prefix
	Index   datanode.Index
	ID      string
	Address string
}

// Kind is KindNode.
func (*NodeRecord) Kind() Kind { return KindNode }

// MkdirRecord makes a chain of directories: Names[0] in Parent, and so on. The ids are FirstID, FirstID+1, …
type MkdirRecord struct {
	Prefix
	Parent  uint64
	FirstID uint64
	Names   []string
}

// Kind is KindMkdir.
func (*MkdirRecord) Kind() Kind { return KindMkdir }

// Placement is a new chunk and the nodes of its pipeline, in order.
type Placement struct {
	ID    chunk.ID
	Nodes []datanode.Index
}

// CreateRecord makes missing directories (ids from FirstID on), then the file (the id after theirs).
type CreateRecord struct {
	Prefix
	Parent      uint64
	FirstID     uint64
	Directories []string
	Name        string
	Replication uint8
	Blocks      uint16 // the chunk size in checksum blocks
	Hidden      bool
	Overwrite   bool
	Replaced    uint64 // the file that the new one replaces at once; 0 if none
	Path        string // set for a hidden file: where it will appear
	Holder      string
	Chunks      []Placement
}

// Kind is KindCreate.
func (*CreateRecord) Kind() Kind { return KindCreate }

// Sealing is a committed chunk.
type Sealing struct {
	Index      uint32
	Generation chunk.Generation
	Length     uint32
}

// AddChunksRecord seals chunks, then allocates others at the end of a file.
type AddChunksRecord struct {
	Prefix
	File    uint64
	Commits []Sealing
	// Replace: the open chunk Index is dropped and Chunks[0] takes its place.
	Replace bool
	Index   uint32
	Chunks  []Placement
}

// Kind is KindAddChunks.
func (*AddChunksRecord) Kind() Kind { return KindAddChunks }

// CompleteRecord seals chunks and ends the lease of a file.
type CompleteRecord struct {
	Prefix
	File    uint64
	Commits []Sealing
	Keep    uint32 // chunks that stay; empty ones at the end go
	// Parent and Name are set for a hidden file: where it appears now.
	Parent   uint64
	Name     string
	Replaced uint64
}

// Kind is KindComplete.
func (*CompleteRecord) Kind() Kind { return KindComplete }

// AbandonRecord drops a file that was never completed.
type AbandonRecord struct {
	Prefix
	File uint64
}

// Kind is KindAbandon.
func (*AbandonRecord) Kind() Kind { return KindAbandon }

// AppendRecord gives the lease of a closed file to a client.
type AppendRecord struct {
	Prefix
	File   uint64
	Name   string
	Holder string
	// Reopen: the last chunk is open again, under Generation, on Members.
	Reopen     bool
	Generation chunk.Generation
	Members    []datanode.Index
}

// Kind is KindAppend.
func (*AppendRecord) Kind() Kind { return KindAppend }

// RecoverPipelineRecord issues a generation for an open chunk.
type RecoverPipelineRecord struct {
	Prefix
	File         uint64
	Index        uint32
	Generation   chunk.Generation
	Survivors    []datanode.Index
	Replacements []datanode.Index
}

// Kind is KindRecoverPipeline.
func (*RecoverPipelineRecord) Kind() Kind { return KindRecoverPipeline }

// UpdatePipelineRecord says that the pipeline of an open chunk stands under the last generation that was issued.
type UpdatePipelineRecord struct {
	Prefix
	File       uint64
	Index      uint32
	Generation chunk.Generation
	Length     uint32
	Members    []datanode.Index
}

// Kind is KindUpdatePipeline.
func (*UpdatePipelineRecord) Kind() Kind { return KindUpdatePipeline }

// RenameRecord moves an inode.
type RenameRecord struct {
	Prefix
	Inode        uint64
	SourceParent uint64
	SourceName   string
	TargetParent uint64
	TargetName   string
	Replaced     uint64
}

// Kind is KindRename.
func (*RenameRecord) Kind() Kind { return KindRename }

// RemoveRecord removes an inode, with all that is below it.
type RemoveRecord struct {
	Prefix
	Inode  uint64
	Parent uint64
	Name   string
}

// Kind is KindRemove.
func (*RemoveRecord) Kind() Kind { return KindRemove }

// RecoverLeaseRecord gives a file's lease to the namenode itself. With Attempt it issues Generation for the recovery of
// the open chunk Index. A file without an open chunk is closed at once.
type RecoverLeaseRecord struct {
	Prefix
	File       uint64
	Attempt    bool
	Index      uint32
	Generation chunk.Generation
}

// Kind is KindRecoverLease.
func (*RecoverLeaseRecord) Kind() Kind { return KindRecoverLease }

// RecoveredRecord seals a recovered chunk. If it is shorter than the chunk size all later chunks go, if it is empty it
// goes too; a file without an open chunk left is closed.
type RecoveredRecord struct {
	Prefix
	File       uint64
	Index      uint32
	Generation chunk.Generation
	Length     uint32
}

// Kind is KindRecovered.
func (*RecoveredRecord) Kind() Kind { return KindRecovered }

// SettlingRecord is a RecoveredRecord that leaves the file open: the chunk is on fewer nodes than wanted, and a
// RecoverLeaseRecord closes the file when it is copied.
type SettlingRecord struct {
	Prefix
	File       uint64
	Index      uint32
	Generation chunk.Generation
	Length     uint32
}

// Kind is KindSettling.
func (*SettlingRecord) Kind() Kind { return KindSettling }

// TruncateRecord drops whole chunks past Length. With Cut the last chunk that
// stays is open again until recovery has cut it.
type TruncateRecord struct {
	Prefix
	File   uint64
	Name   string
	Length int64
	Cut    bool
}

// Kind is KindTruncate.
func (*TruncateRecord) Kind() Kind { return KindTruncate }

// NodeDutyRecord says what an operator wants of a datanode.
type NodeDutyRecord struct {
	Prefix
	Index datanode.Index
	Duty  datanode.Duty
	Until int64 // when a maintenance ends, in Unix ms; 0 for other duties
}

// Kind is KindNodeDuty.
func (*NodeDutyRecord) Kind() Kind { return KindNodeDuty }

// NodeNameRecord says what people call a datanode.
type NodeNameRecord struct {
	Prefix
	Index datanode.Index
	Name  string // "": by its address
}

// Kind is KindNodeName.
func (*NodeNameRecord) Kind() Kind { return KindNodeName }

// ReplicationRecord changes how many replicas a file wants of each chunk.
type ReplicationRecord struct {
	Prefix
	File        uint64
	Name        string
	Replication uint8
}

// Kind is KindReplication.
func (*ReplicationRecord) Kind() Kind { return KindReplication }

// TrashRecord moves an inode to the trash, with the directories that lack on the way.
type TrashRecord struct {
	Prefix
	Inode        uint64
	SourceParent uint64
	Parent       uint64 // the deepest directory that is there
	FirstID      uint64 // of the directories that are made
	Made         uint32 // how many
	Path         string // where it is then; its last element was its name before
}

// Kind is KindTrash.
func (*TrashRecord) Kind() Kind { return KindTrash }
