package actor

import "github.com/whispering-woods/ww/internal/chunk"

// recordVersion is the version of every record type that this program writes.
const recordVersion = 1

// Kinds of edit records. The numbers are part of the log format; they are never
// reused (docs/format/edit-record.md).
const (
	kindFormat          = 1
	kindEpoch           = 2
	kindNode            = 3
	kindMkdir           = 4
	kindCreate          = 5
	kindAddChunks       = 6
	kindComplete        = 7
	kindAbandon         = 8
	kindAppend          = 9
	kindRecoverPipeline = 10
	kindUpdatePipeline  = 11
	kindRename          = 12
	kindRemove          = 13
	kindRecoverLease    = 14
	kindRecovered       = 15
	kindTruncate        = 16

	// Frames of a checkpoint use the same framing.
	kindCheckpointHead  = 128
	kindCheckpointNodes = 129
	kindCheckpointFiles = 130
	kindCheckpointRetry = 131
	kindCheckpointEnd   = 132
	kindCheckpointMore  = 133
)

// record is one edit record. Its struct is encoded as a msgpack array: version
// first, then head, then fields that are only ever added at the end.
type record interface {
	kind() uint8
	head() *header
	// apply changes the state and gives the result that a client gets. An error
	// means that the record does not fit the state: a damaged log or a bug.
	apply(s *State) (any, error)
}

// header is what every record carries.
type header struct {
	// Time in Unix milliseconds; never below that of the record before.
	Time int64
	// Client, Sequence and Oldest are zero for records of the namenode's own.
	Client   ClientID
	Sequence uint64
	Oldest   uint64
}

type formatRecord struct {
	Version   uint8
	Head      header
	ClusterID string
}

type epochRecord struct {
	Version uint8
	Head    header
	Epoch   uint64
}

// nodeRecord gives a datanode its index in later records, or a new address.
type nodeRecord struct {
	Version uint8
	Head    header
	Index   uint16
	ID      string
	Address string
}

// mkdirRecord makes a chain of directories: Names[0] in Parent, and so on. The
// ids are FirstID, FirstID+1, …
type mkdirRecord struct {
	Version uint8
	Head    header
	Parent  uint64
	FirstID uint64
	Names   []string
}

// placement is a new chunk and the nodes of its pipeline, in order.
type placement struct {
	ID    chunk.ID
	Nodes []uint16
}

// createRecord makes missing directories (ids from FirstID on), then the file
// (the id after theirs).
type createRecord struct {
	Version     uint8
	Head        header
	Parent      uint64
	FirstID     uint64
	Directories []string
	Name        string
	Replication uint8
	// Blocks is the chunk size in checksum blocks.
	Blocks    uint16
	Hidden    bool
	Overwrite bool
	// Replaced is the file that the new one replaces at once; 0 if none.
	Replaced uint64
	// Path is set for a hidden file: where it will appear.
	Path   string
	Holder string
	Chunks []placement
}

// sealing is a committed chunk.
type sealing struct {
	Index      uint32
	Generation uint64
	Length     uint32
}

type addChunksRecord struct {
	Version uint8
	Head    header
	File    uint64
	Commits []sealing
	// Replace: the open chunk Index is dropped and Chunks[0] takes its place.
	Replace bool
	Index   uint32
	Chunks  []placement
}

type completeRecord struct {
	Version uint8
	Head    header
	File    uint64
	Commits []sealing
	// Keep is the number of chunks that stay; empty ones at the end go.
	Keep uint32
	// Parent and Name are set for a hidden file: where it appears now.
	Parent   uint64
	Name     string
	Replaced uint64
}

type abandonRecord struct {
	Version uint8
	Head    header
	File    uint64
}

type appendRecord struct {
	Version uint8
	Head    header
	File    uint64
	Name    string
	Holder  string
	// Reopen: the last chunk is open again, under Generation, on Members.
	Reopen     bool
	Generation uint64
	Members    []uint16
}

type recoverPipelineRecord struct {
	Version      uint8
	Head         header
	File         uint64
	Index        uint32
	Generation   uint64
	Survivors    []uint16
	Replacements []uint16
}

type updatePipelineRecord struct {
	Version    uint8
	Head       header
	File       uint64
	Index      uint32
	Generation uint64
	Length     uint32
	Members    []uint16
}

type renameRecord struct {
	Version      uint8
	Head         header
	Inode        uint64
	SourceParent uint64
	SourceName   string
	TargetParent uint64
	TargetName   string
	Replaced     uint64
}

type removeRecord struct {
	Version uint8
	Head    header
	Inode   uint64
	Parent  uint64
	Name    string
}

// recoverLeaseRecord gives a file's lease to the namenode itself. With Attempt
// it issues Generation for the recovery of the open chunk Index. A file without
// an open chunk is closed at once.
type recoverLeaseRecord struct {
	Version    uint8
	Head       header
	File       uint64
	Attempt    bool
	Index      uint32
	Generation uint64
}

// recoveredRecord seals a recovered chunk. If it is shorter than the chunk size
// all later chunks go, if it is empty it goes too; a file without an open chunk
// left is closed.
type recoveredRecord struct {
	Version    uint8
	Head       header
	File       uint64
	Index      uint32
	Generation uint64
	Length     uint32
}

// truncateRecord drops whole chunks past Length. With Cut the last chunk that
// stays is open again until recovery has cut it.
type truncateRecord struct {
	Version uint8
	Head    header
	File    uint64
	Name    string
	Length  int64
	Cut     bool
}

func (*formatRecord) kind() uint8          { return kindFormat }
func (*epochRecord) kind() uint8           { return kindEpoch }
func (*nodeRecord) kind() uint8            { return kindNode }
func (*mkdirRecord) kind() uint8           { return kindMkdir }
func (*createRecord) kind() uint8          { return kindCreate }
func (*addChunksRecord) kind() uint8       { return kindAddChunks }
func (*completeRecord) kind() uint8        { return kindComplete }
func (*abandonRecord) kind() uint8         { return kindAbandon }
func (*appendRecord) kind() uint8          { return kindAppend }
func (*recoverPipelineRecord) kind() uint8 { return kindRecoverPipeline }
func (*updatePipelineRecord) kind() uint8  { return kindUpdatePipeline }
func (*renameRecord) kind() uint8          { return kindRename }
func (*removeRecord) kind() uint8          { return kindRemove }
func (*recoverLeaseRecord) kind() uint8    { return kindRecoverLease }
func (*recoveredRecord) kind() uint8       { return kindRecovered }
func (*truncateRecord) kind() uint8        { return kindTruncate }

func (r *formatRecord) head() *header          { return &r.Head }
func (r *epochRecord) head() *header           { return &r.Head }
func (r *nodeRecord) head() *header            { return &r.Head }
func (r *mkdirRecord) head() *header           { return &r.Head }
func (r *createRecord) head() *header          { return &r.Head }
func (r *addChunksRecord) head() *header       { return &r.Head }
func (r *completeRecord) head() *header        { return &r.Head }
func (r *abandonRecord) head() *header         { return &r.Head }
func (r *appendRecord) head() *header          { return &r.Head }
func (r *recoverPipelineRecord) head() *header { return &r.Head }
func (r *updatePipelineRecord) head() *header  { return &r.Head }
func (r *renameRecord) head() *header          { return &r.Head }
func (r *removeRecord) head() *header          { return &r.Head }
func (r *recoverLeaseRecord) head() *header    { return &r.Head }
func (r *recoveredRecord) head() *header       { return &r.Head }
func (r *truncateRecord) head() *header        { return &r.Head }

// newRecord makes an empty record of a kind; nil if the kind is not known.
func newRecord(kind uint8) record {
	switch kind {
	case kindFormat:
		return new(formatRecord)
	case kindEpoch:
		return new(epochRecord)
	case kindNode:
		return new(nodeRecord)
	case kindMkdir:
		return new(mkdirRecord)
	case kindCreate:
		return new(createRecord)
	case kindAddChunks:
		return new(addChunksRecord)
	case kindComplete:
		return new(completeRecord)
	case kindAbandon:
		return new(abandonRecord)
	case kindAppend:
		return new(appendRecord)
	case kindRecoverPipeline:
		return new(recoverPipelineRecord)
	case kindUpdatePipeline:
		return new(updatePipelineRecord)
	case kindRename:
		return new(renameRecord)
	case kindRemove:
		return new(removeRecord)
	case kindRecoverLease:
		return new(recoverLeaseRecord)
	case kindRecovered:
		return new(recoveredRecord)
	case kindTruncate:
		return new(truncateRecord)
	}
	return nil
}
