package disk

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/disk/filecache"
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
	gone    bool        // deleted, or its creation failed: not in the index
	session uint64      // the Writer of this number may write; every fence adds 1
	failed  error       // an I/O error that ended writing for good
	parked  string      // Corrupt: relative path in quarantine
	disk    diskState   // what the file's prelude says, once loaded
	tail    *tail       // while a Writer is open
	small   *small      // it has no file yet, see pack.go
	view    replicaView // written with io held
}

// diskState mirrors the header and the slots.
type diskState struct {
	chunkfile.Layout
	loaded   bool
	counter  uint64           // highest in any slot
	nextSlot int              // sync slot to overwrite: not the newest good one
	synced   int64            // length of the newest durable sync slot; -1: none yet
	promised chunk.Generation // lowest generation that may write
	// settled: what the prelude said when it was loaded is durable. A process
	// may have died between writing a slot and its sync: the slot counts, but
	// the other one is still the durable one and must not be overwritten.
	settled bool
	named   bool // the present file name is durable
}

// replicaView is what readers and reports see of a replica.
type replicaView struct {
	sync.Mutex
	snapshot
}

// snapshot is one consistent state of a replica.
type snapshot struct {
	state      chunk.State // 0 while it is being created, or hidden
	hidden     bool        // see CreateOptions.Hidden
	generation chunk.Generation
	length     int64
	partial    uint64 // sum of the last, partial block at length; 0 on a border
	// readable: the layout and partial are known, because the prelude was
	// read or written. A sealed replica's is read by its first reader.
	readable bool
	layout   chunkfile.Layout
	cuts     uint64 // how often the replica was cut: sums read across one are void
	// segment holds the replica as a record at offset at, and partial is the sum
	// of all of its bytes; nil: it has a file of its own.
	segment *segment
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
	return chunk.Replica{ID: r.id, Generation: v.generation, Length: v.length, State: v.state}
}

// name of the file that a state has.
func (r *replica) name(v snapshot) chunkfile.Name {
	return chunkfile.Name{ID: r.id, Generation: v.generation, Sealed: v.state == chunk.Sealed, Hidden: v.hidden, Length: v.length}
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
		return v.segment.path()
	}
	return r.volume.path(r.name(v).Relative())
}

// path of the file that the replica is in; io is held.
func (r *replica) path() string {
	if v := &r.view.snapshot; v.segment != nil {
		return v.segment.path()
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
	const op = "load replica"
	if r.disk.loaded {
		return nil
	}
	invalid := func(format string, args ...any) error {
		e := fault.New(fault.CorruptData, op, format, args...)
		e.Path, e.Chunk = r.path(), r.id.String()
		return e
	}
	p, err := chunkfile.ReadPrelude(f)
	switch {
	case fault.KindOf(err) == fault.CorruptData:
		return invalid("%v", err)
	case fault.KindOf(err) != 0:
		return err
	case err != nil:
		return diskError(op, r.path(), r.id, err)
	case p.ID != r.id:
		return invalid("the file is that of chunk %s", p.ID)
	}
	v := r.view.snapshot
	info, err := f.Stat()
	if err != nil {
		return diskError(op, r.path(), r.id, err)
	}
	if have := max(0, info.Size()-p.DataOffset); have < v.length || v.length > p.ChunkSize {
		return invalid("the file holds %d data bytes of a chunk of %d, its name says %d", have, p.ChunkSize, v.length)
	}
	at := p.NewestSync(func(s chunkfile.Slot) bool { return s.Length == v.length })
	if at < 0 {
		return invalid("no sync slot records the length %d", v.length)
	}
	r.disk = diskState{
		Layout: p.Layout, loaded: true, counter: p.Counter(), nextSlot: 1 - at,
		synced: v.length, promised: p.Promised(), named: true,
	}
	r.updateLocked(func(v *snapshot) { v.partial, v.readable, v.layout = p.Slots[at].Partial, true, p.Layout })
	return nil
}

// tail is what appending needs to know about the end of a replica.
type tail struct {
	file         *filecache.File
	hasher       xxh3.Hasher // over the bytes since the last block border
	sums         [jobSumsMax * chunkfile.SumBytes]byte
	slot         [chunkfile.SectorBytes]byte
	writtenOut   int64 // length up to which write-out was started
	preallocated int64 // end of the file's bytes that were preallocated or written ahead
	ahead        int64 // zeros reach from the end of the replica to here, an offset in the data
	noAhead      bool  // the disk is full
}

// writeSlotLocked writes a slot; it is not durable yet.
func (r *replica) writeSlotLocked(f *filecache.File, buffer []byte, index int, length int64, partial uint64) error {
	r.disk.counter++
	chunkfile.PutSlot(buffer, chunkfile.Slot{
		ID: r.id, Index: index, Counter: r.disk.counter, Generation: r.view.generation,
		Promised: r.disk.promised, Length: length, Partial: partial,
	})
	_, err := f.WriteAt(buffer[:chunkfile.SectorBytes], chunkfile.SectorBytes*int64(1+index))
	return err
}

// dataAt is where in its file byte 0 of the chunk is.
func (v *snapshot) dataAt() int64 {
	if v.segment != nil {
		return v.at + chunkfile.SectorBytes
	}
	return v.layout.DataOffset
}

// sums returns the sums of the blocks that begin at or behind the block border
// start and before end: a block border, or the length of the snapshot. f is the
// file that holds the replica.
func (v *snapshot) sums(f io.ReaderAt, start, end int64) ([]byte, error) {
	full := (end - start) / blockBytes
	inside := end%blockBytes != 0
	if v.segment != nil { // one block at most
		full, inside = 0, end > start
	}
	b := make([]byte, chunkfile.SumBytes*full, chunkfile.SumBytes*(full+1))
	if len(b) > 0 {
		if _, err := f.ReadAt(b, v.layout.SumAt(start/blockBytes)); errors.Is(err, io.EOF) {
			return nil, io.ErrUnexpectedEOF
		} else if err != nil {
			return nil, err
		}
	}
	if inside {
		b = binary.LittleEndian.AppendUint64(b, v.partial)
	}
	return b, nil
}

func sumIn(sums []byte, index int64) uint64 {
	return binary.LittleEndian.Uint64(sums[index*chunkfile.SumBytes:])
}
