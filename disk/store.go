// Package disk is the chunk store of a datanode: replicas as files on one or
// more volumes, with checksums, crash recovery, trash and quarantine.
package disk

import (
	"log/slog"
	"os"
	"time"

	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// Options configure a Store.
type Options struct {
	Directories       []string // one per volume, at least one
	FS                vfs.FS   // nil: the machine's
	Clock             clock.Clock
	Logger            *slog.Logger
	TrashDelay        time.Duration
	ReserveBytes      int64
	WorkersPerVolume  int
	QueueDepth        int
	WriteoutStepBytes int64
	OnEvent           func(Event)
}

// EventKind says what happened to a replica.
type EventKind uint8

// Kinds of events.
const (
	Stored  EventKind = 1
	Removed EventKind = 2
	Corrupt EventKind = 3
)

// Event is a change of a replica.
type Event struct {
	Kind    EventKind
	Replica chunk.Replica
	Reason  string
}

// Identity is who this store belongs to.
type Identity struct {
	NodeID       string
	ClusterID    string
	HighestEpoch uint64
	HighestTxid  uint64
}

// VolumeState describes one volume.
type VolumeState struct {
	ID            string
	Directory     string
	CapacityBytes int64
	FreeBytes     int64
	Replicas      int
	Healthy       bool
	Error         string
}

// CreateOptions of a replica.
type CreateOptions struct {
	ChunkSize int64
	SizeHint  int64
}

// Job is one write.
type Job struct {
	Offset            int64
	Data              []byte
	Sync, Seal, Close bool
	Done              func(length int64, err error)
}

// Range of a replica.
type Range struct {
	DataOffset    int64
	DataLength    int64
	Sums          []byte
	ReplicaLength int64
	Generation    chunk.Generation
	State         chunk.State
}

// Store is the chunk store.
type Store struct{}

// Writer appends to one replica.
type Writer struct{}

// Reader reads one replica.
type Reader struct{}

var errStub = fault.New(fault.Internal, "disk", "not there yet")

// Open opens a store.
func Open(o Options) (*Store, error) { return nil, errStub }

func (s *Store) Close() error                                   { return errStub }
func (s *Store) Identity() Identity                             { return Identity{} }
func (s *Store) Join(clusterID string) error                    { return errStub }
func (s *Store) ObserveEpoch(epoch, txid uint64) error          { return errStub }
func (s *Store) Volumes() []VolumeState                         { return nil }
func (s *Store) Replicas() []chunk.Replica                      { return nil }
func (s *Store) Do(id chunk.ID, f func()) error                 { return errStub }
func (s *Store) Stat(id chunk.ID) (chunk.Replica, error)        { return chunk.Replica{}, errStub }
func (s *Store) Digest(id chunk.ID) (uint64, error)             { return 0, errStub }
func (s *Store) Delete(id chunk.ID, gen chunk.Generation) error { return errStub }
func (s *Store) VerifyReplica(id chunk.ID) error                { return errStub }
func (s *Store) Quarantine(id chunk.ID, gen chunk.Generation, reason string) error {
	return errStub
}
func (s *Store) BeginRecovery(id chunk.ID, newGen chunk.Generation) (replica chunk.Replica, wasRestarted bool, err error) {
	return chunk.Replica{}, false, errStub
}
func (s *Store) FinishRecovery(id chunk.ID, newGen chunk.Generation, length int64) error {
	return errStub
}
func (s *Store) Create(id chunk.ID, gen chunk.Generation, o CreateOptions) (*Writer, error) {
	return nil, errStub
}
func (s *Store) Reopen(id chunk.ID, previous, gen chunk.Generation, length int64) (*Writer, error) {
	return nil, errStub
}
func (s *Store) Resume(id chunk.ID, previous, gen chunk.Generation, length int64) (*Writer, error) {
	return nil, errStub
}
func (s *Store) OpenReader(id chunk.ID, minGen chunk.Generation) (*Reader, error) {
	return nil, errStub
}
func (w *Writer) Submit(Job) error                           { return errStub }
func (w *Writer) Length() int64                              { return 0 }
func (r *Reader) Range(offset, length int64) (Range, error)  { return Range{}, errStub }
func (r *Reader) File() (f *os.File, base int64)             { return nil, 0 }
func (r *Reader) ReadAt(p []byte, offset int64) (int, error) { return 0, errStub }
func (r *Reader) Close() error                               { return errStub }
