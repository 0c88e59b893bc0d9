package wire

import (
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// CopyRange asks a datanode to make a replica by pulling the first Length bytes of a chunk from one of Sources,
// every block verified. The same request may come again: a replica that is complete already is answered as success.
type CopyRange struct {
	_struct             struct{} `codec:",toarray"`
	BodyVersion         uint8
	ChunkID             []byte // 16, of the replica to make
	Generation          uint64 // of the replica to make
	ChunkSize           int64  // most bytes the chunk may get; 0: as the source says
	Length              int64  // bytes to copy; a source with fewer is no source
	SourceChunkID       []byte // the chunk to copy from; empty means ChunkID
	SourceMinGeneration uint64 // a source below it is refused; 0: any
	Sources             []Hop  // tried in order, 1..HopsMax
	Seal                bool   // seal the replica; else it stays open, flushed
}

// CopyReply answers CopyRange.
type CopyReply struct {
	_struct     struct{} `codec:",toarray"`
	BodyVersion uint8
	Status      Status
	Length      int64 // of the replica made
}

// Validate checks ranges and lengths. Error: fault.Invalid.
func (o *CopyRange) Validate() error {
	const op = "copy range"
	switch {
	case len(o.ChunkID) != len(chunk.ID{}) || chunk.ID(o.ChunkID).IsZero():
		return badBody(op, "chunk id has %d bytes or is 0", len(o.ChunkID))
	case len(o.SourceChunkID) != 0 && len(o.SourceChunkID) != len(chunk.ID{}):
		return badBody(op, "source chunk id has %d bytes", len(o.SourceChunkID))
	case o.Generation == 0:
		return badBody(op, "generation 0")
	case o.ChunkSize != 0 && limits.CheckChunkSize(o.ChunkSize) != "":
		return badBody(op, "%s", limits.CheckChunkSize(o.ChunkSize))
	case o.Length < 0 || o.Length > chunk.SizeMax || (o.ChunkSize > 0 && o.Length > o.ChunkSize):
		return badBody(op, "%d bytes of a chunk of %d", o.Length, o.ChunkSize)
	case len(o.Sources) == 0 || len(o.Sources) > HopsMax:
		return badBody(op, "%d sources, want 1 to %d", len(o.Sources), HopsMax)
	}
	return checkHops(op, "source", o.Sources)
}

// Validate checks an answer that came from the network. Error: fault.Protocol.
func (r *CopyReply) Validate() error {
	if r.Status.Code == 0 && (r.Length < 0 || r.Length > chunk.SizeMax) {
		return fault.New(fault.Protocol, "copy reply", "length %d", r.Length)
	}
	return nil
}
