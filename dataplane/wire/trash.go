package wire

import "github.com/whispering-woods/ww/internal/chunk"

// TrashAction says what a Trash request wants.
type TrashAction uint8

// Actions.
const (
	TrashList    TrashAction = 1 // list what follows the number, of one chunk or (empty id) of all
	TrashRestore TrashAction = 2 // bring the replica back
	TrashEmpty   TrashAction = 3 // give its room free
)

// TrashListMax bounds the entries of a TrashReply: so many fit a body.
const TrashListMax = 256

// Trash asks a datanode for deleted replicas that it still has, or has it restore or forget one.
type Trash struct {
	_struct     struct{} `codec:",toarray"`
	BodyVersion uint8
	Action      TrashAction
	ChunkID     []byte
	Generation  uint64
	Number      uint64 // of the entry; of TrashList: what follows it, 0: from the start
}

// TrashReply answers Trash. A replica that is not in the trash (any more) is fault.NotFound.
type TrashReply struct {
	_struct     struct{} `codec:",toarray"`
	BodyVersion uint8
	Status      Status
	Entries     []TrashEntry // of TrashList; none behind the last one
}

// TrashEntry is a deleted replica.
type TrashEntry struct {
	_struct      struct{} `codec:",toarray"`
	ChunkID      []byte
	Generation   uint64
	Length       int64
	State        uint8  // chunk.Sealed; chunk.Open: recovered when it is restored; 0: a copy that was never whole
	VolumeID     string // of its volume
	DeletedNanos int64  // when it was deleted, in ns since 1970
	UntilNanos   int64  // when its room is free
	Number       uint64 // its place, as long as the datanode runs
}

// Validate checks ranges and lengths. Error: fault.Invalid.
func (t *Trash) Validate() error {
	const op = "trash"
	switch t.Action {
	case TrashList:
		if len(t.ChunkID) == 0 {
			return nil
		}
	case TrashRestore, TrashEmpty:
		if t.Generation == 0 {
			return badBody(op, "generation 0")
		}
	default:
		return badBody(op, "action %d", t.Action)
	}
	if len(t.ChunkID) != len(chunk.ID{}) {
		return badBody(op, "chunk id has %d bytes", len(t.ChunkID))
	}
	return nil
}
