// Package chunk holds the identities that every part of the system shares: chunk ids, generations, replica states
// and locations. It owns no state, runs no goroutine and does no I/O.
package chunk

import (
	"encoding/binary"
	"fmt"
	"log/slog"

	"github.com/google/uuid"
)

const (
	// SizeDefault is the chunk size of a file that asks for none (GFS §2.5).
	SizeDefault = 64 << 20
	// SizeMax bounds the chunk size of any file, in bytes.
	SizeMax = 1 << 30
	// ChecksumBlockBytes is the span that one stored checksum covers. A chunk size is a multiple of it.
	ChecksumBlockBytes = 64 << 10
)

// ID names a chunk forever; ids are UUIDv7, so they sort by creation time, and are never reused.
type ID [16]byte

// IDFrom reads an id from its 16 bytes.
func IDFrom(b []byte) (ID, error) {
	var id ID
	if len(b) != len(id) {
		return id, fmt.Errorf("chunk id has %d bytes, want %d", len(b), len(id))
	}
	copy(id[:], b)
	return id, nil
}

// ParseID reads an id from its text form (RFC 9562).
func ParseID(text string) (ID, error) {
	u, err := uuid.Parse(text)
	if err != nil {
		return ID{}, fmt.Errorf("chunk id %q: %w", text, err)
	}
	return ID(u), nil
}

// NewID builds a UUIDv7 (RFC 9562 §5.7) from a time and randomness that the
// caller supplies, so that a deterministic caller stays deterministic.
func NewID(unixMillis uint64, random [10]byte) ID {
	var id ID
	binary.BigEndian.PutUint64(id[:8], unixMillis<<16)
	copy(id[6:], random[:])
	id[6] = 0x70 | id[6]&0x0f
	id[8] = 0x80 | id[8]&0x3f
	return id
}

// String is the id's text form, as in file names and messages.
func (id ID) String() string { return uuid.UUID(id).String() }

// UnixMillis is when the chunk was made.
func (id ID) UnixMillis() int64 { return int64(binary.BigEndian.Uint64(id[:8]) >> 16) }

// LogValue makes log lines show the text form too; JSON would list the bytes.
func (id ID) LogValue() slog.Value { return slog.StringValue(id.String()) }

// IsZero reports whether id was never set.
func (id ID) IsZero() bool { return id == ID{} }

// Generation fences stale replicas of a chunk (GFS §4.5 calls it version, HDFS
// generation stamp). It starts at 1 and only rises.
type Generation uint64

// State is the state of one replica.
type State uint8

// States of a replica. The numbers are those of controlpb.ReplicaState.
const (
	// Open: a pipeline writes it.
	Open State = 1
	// Sealed: complete and immutable at its generation.
	Sealed State = 2
	// Corrupt: found bad, in quarantine, never served.
	Corrupt State = 3
	// Recovered: was open when its datanode stopped; holds a verified prefix.
	Recovered State = 4
)

// String names the state.
func (s State) String() string {
	switch s {
	case Open:
		return "open"
	case Sealed:
		return "sealed"
	case Corrupt:
		return "corrupt"
	case Recovered:
		return "recovered"
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// Replica describes one copy of a chunk on one datanode.
type Replica struct {
	ID         ID
	Generation Generation
	Length     int64 // bytes, visible to readers
	State      State
	Leaving    bool // it is sealed, and its disk is to be removed: it does not count
}

// Location says where one copy of a chunk is: on which datanode, and at which host:port its data server listens. It
// is also the wire's hop of a pipeline, and thus encoded there as an array.
type Location struct {
	_struct struct{} `codec:",toarray"`
	NodeID  string
	Address string
}
