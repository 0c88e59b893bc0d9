package disk

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/disk/filecache"
	"github.com/whispering-woods/ww/disk/pack"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// replica is one copy of a chunk: an entry of the index.
type replica struct {
	id              chunk.ID
	volume          *volume
	filecache.Owner // of the replica's own file, if it has one

	// io is held by everything that changes the file, its name, or what is
	// below; see the package comment.
	io      sync.Mutex
	gone    bool                // deleted, or its creation failed: not in the index
	session uint64              // the Writer of this number may write; every fence adds 1
	failed  error               // an I/O error that ended writing for good
	parked  string              // Corrupt: relative path in quarantine
	named   bool                // the present file name is durable
	disk    chunkfile.State     // what the file says, once loaded
	tail    *chunkfile.Appender // while a Writer is open
	file    *filecache.File     // the one that tail writes to
	small   *small              // it has no file yet, see pack.go
	view    replicaView         // written with io held
}

// replicaView is what readers and reports see of a replica.
type replicaView struct {
	sync.Mutex
	snapshot
}

// snapshot is one consistent state of a replica.
type snapshot struct {
	state  chunk.State // 0 while it is being created, or hidden
	hidden bool        // see CreateOptions.Hidden
	chunkfile.End
	// readable: the layout and Partial are known, because the file's front was
	// read or written. A sealed replica's is read by its first reader.
	readable bool
	layout   chunkfile.Layout
	cuts     uint64 // how often the replica was cut: sums read across one are void
	// segment holds the replica as a record at offset at, and partial is the sum
	// of all of its bytes; nil: it has a file of its own.
	segment *pack.Segment
	at      int64
}

func (r *replica) snapshot() snapshot {
	r.view.Lock()
	defer r.view.Unlock()
	return r.view.snapshot
}

// updateLocked changes the view; io is held.
func (r *replica) updateLocked(change func(v *snapshot)) {
	r.view.Lock()
	defer r.view.Unlock()
	change(&r.view.snapshot)
}

func (r *replica) describe(v snapshot) chunk.Replica {
	return chunk.Replica{ID: r.id, Generation: v.Generation, Length: v.Length, State: v.state}
}

// name of the file that a state has.
func (r *replica) name(v snapshot) chunkfile.Name {
	return chunkfile.Name{ID: r.id, Generation: v.Generation, Sealed: v.state == chunk.Sealed, Hidden: v.hidden, Length: v.Length}
}

// relativePath of the file now; io is held, or the replica is not shared yet.
func (r *replica) relativePath() string {
	if r.parked != "" {
		return r.parked
	}
	return r.name(r.view.snapshot).Relative()
}

// seenPath is the path in the state that the caller saw, for its errors.
func (r *replica) seenPath() string {
	v := r.snapshot()
	if v.segment != nil {
		return v.segment.Path()
	}
	return r.volume.path(r.name(v).Relative())
}

// path of the file that the replica is in; io is held.
func (r *replica) path() string {
	if v := &r.view.snapshot; v.segment != nil {
		return v.segment.Path()
	}
	return r.volume.path(r.relativePath())
}

// directory that holds the replica's file.
func (r *replica) directory() string {
	return r.volume.path(chunkfile.Directory + "/" + chunkfile.Shard(r.id[len(r.id)-1]))
}

// openLocked returns the cached file of the replica, or opens it under its
// present name, with one more user. Errors: fault.Disk, fault.Busy.
func (r *replica) openLocked(op string, writable bool) (*filecache.File, error) {
	files := r.volume.files
	if f := files.Get(&r.Owner, writable); f != nil {
		return f, nil
	}
	f, err := files.Open(&r.Owner, r.volume.fs, r.path(), writable)
	if err != nil {
		return nil, r.blameLocked(op, err)
	}
	return f, nil
}

// blameLocked is an I/O error that leaves the replica as it was: it counts
// against the volume.
func (r *replica) blameLocked(op string, err error) error {
	failure := diskError(op, r.path(), r.id, err)
	r.volume.noteError(failure)
	return failure
}

// failLocked records an I/O error that ends writing to this replica until the
// next start, which verifies it from scratch: after a failed write or sync
// nobody knows which bytes the disk has, and asking again may hide the answer.
func (r *replica) failLocked(op string, err error) error {
	r.failed = r.blameLocked(op, err)
	return r.failed
}

// loadLocked reads header and slots of a sealed replica and learns the sum of
// its last block. The error is fault.CorruptData if the file cannot be this
// replica, fault.Disk if it cannot be read.
func (r *replica) loadLocked(f *filecache.File) error {
	if r.disk.Loaded() {
		return nil
	}
	state, partial, err := chunkfile.Load(f, r.id, r.view.Length)
	if fault.KindOf(err) == 0 && err != nil {
		return diskError("load replica", r.path(), r.id, err)
	}
	var e *fault.Error
	if errors.As(err, &e) && e.Kind == fault.CorruptData {
		e.Path = r.path()
	}
	if err != nil {
		return err
	}
	r.disk, r.named = state, true
	r.updateLocked(func(v *snapshot) { v.Partial, v.readable, v.layout = partial, true, state.Layout })
	return nil
}

// record of a packed replica.
func (r *replica) record(v snapshot) pack.Record {
	return pack.Record{
		ID: r.id, Generation: v.Generation, ChunkSize: v.layout.ChunkSize,
		Length: v.Length, Sum: v.Partial, Offset: v.at,
	}
}

// dataAt is where in its file byte 0 of the chunk is.
func (v *snapshot) dataAt() int64 {
	if v.segment != nil {
		return pack.DataOffset(v.at)
	}
	return v.layout.DataOffset()
}

// sums returns the sums of the blocks that begin at or behind the block border
// start and before end: a block border, or the length of the snapshot. f is the
// file that holds the replica.
func (v *snapshot) sums(f io.ReaderAt, start, end int64) ([]byte, error) {
	if v.segment == nil {
		return v.layout.ReadSums(f, start, v.endAt(end))
	}
	if end <= start { // one block at most
		return nil, nil
	}
	return binary.LittleEndian.AppendUint64(nil, v.Partial), nil
}

// endAt is the end of the replica, or the block border before it.
func (v *snapshot) endAt(length int64) chunkfile.End {
	end := v.End
	end.Length = length
	return end
}
