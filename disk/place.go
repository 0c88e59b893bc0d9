package disk

import (
	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/disk/pack"
	"github.com/whispering-woods/ww/internal/chunk"
)

// place is where the bytes of a replica are:
//
//	inMemory ──sealed in one piece──▶ inRecord ──compaction──▶ inRecord
//	    │                                │
//	    │ anything else                  │ before anything changes it
//	    ▼                                ▼
//	  inFile ◀───────────────────────────┘         corrupt, from any: aside
//
// Only the functions named at each kind change a place, with replica.io held. The zero place is inFile.
type place struct {
	kind    placeKind
	segment *pack.Segment // inRecord
	offset  int64         // inRecord: of its header
	memory  *memory       // inMemory
	path    string        // aside: below the volume
}

type placeKind uint8

const (
	// inFile: a chunk file under the name that the state gives it, or one that is being created
	// (sessions.create, unpacker).
	inFile   placeKind = iota
	inMemory           // nothing is on the disk yet (sessions.createSmall)
	// inRecord: a record of a segment; the snapshot's Partial is the sum of all of its bytes (sealJob, claim.Moved).
	inRecord
	aside // a corrupt one's file, in quarantine, or where it was if it could not be moved (quarantine)
)

// memory is a new replica that is expected to become a record in one step. Whatever else happens to it first
// gives it a file (unpacker.materialiseLocked).
type memory struct {
	// data of a hidden replica that waits for its seal: a copy comes in one piece and is sealed by another
	// job. Nobody else can see it.
	data []byte
	hint int64
}

func recordAt(g *pack.Segment, offset int64) place {
	return place{kind: inRecord, segment: g, offset: offset}
}

// record is what the header of a packed replica says, but for how it was synced.
func (r *replica) record(v snapshot) pack.Record {
	return pack.Record{ID: r.id, Generation: v.Generation, ChunkSize: v.layout.ChunkSize, Length: v.Length,
		Sum: v.Partial, Offset: v.place.offset}
}

// pathOf is the path of the file that holds the replica in a state; empty while it is in memory only.
func (r *replica) pathOf(v snapshot) string {
	switch v.place.kind {
	case inRecord:
		return v.place.segment.Path()
	case aside:
		return r.volume.path(v.place.path)
	}
	return r.volume.path(r.name(v).Relative())
}

// name of the file that a state has.
func (r *replica) name(v snapshot) chunkfile.Name {
	return chunkfile.Name{ID: r.id, Generation: v.Generation, Sealed: v.state == chunk.Sealed, Hidden: v.hidden,
		Length: v.Length}
}
