package wire

import "github.com/whispering-woods/ww/internal/chunk"

// Scrub has a datanode compare replicas with their checksums: one, or all.
type Scrub struct {
	_struct     struct{} `codec:",toarray"`
	BodyVersion uint8
	// ChunkID names the one replica that is verified before the answer; empty: all replicas of the datanode.
	ChunkID []byte
	// Begin has all replicas verified from now on, and does not wait; without it the answer only tells how far that is.
	Begin bool
}

// ScrubReply answers Scrub. A replica that is not there is fault.NotFound, a bad one fault.CorruptData: it is in
// quarantine then.
type ScrubReply struct {
	_struct     struct{} `codec:",toarray"`
	BodyVersion uint8
	Status      Status
	Volumes     []ScrubVolume // those in service; none for one replica
}

// ScrubVolume is how far the scrub of a volume came.
type ScrubVolume struct {
	_struct  struct{} `codec:",toarray"`
	VolumeID string
	Passes   uint64 // whole ones
	Wanted   uint64 // so many there are when everything is verified that Begin asks for; 0 without it
	Percent  uint32 // of the pass under way
	Replicas uint64 // that the pass under way, or the last one, has verified
	Bytes    uint64 // in them
	Bad      uint64 // among them
}

// Validate checks ranges and lengths. Error: fault.Invalid.
func (s *Scrub) Validate() error {
	if len(s.ChunkID) != 0 && len(s.ChunkID) != len(chunk.ID{}) {
		return badBody("scrub", "chunk id has %d bytes", len(s.ChunkID))
	}
	return nil
}
