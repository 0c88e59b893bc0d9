package disk

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/disk/filecache"
	"github.com/whispering-woods/ww/disk/pack"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// replica is one copy of a chunk: an entry of the index.
type replica struct {
	id              chunk.ID
	volume          *volume
	filecache.Owner // of the replica's own file, if it has one

	// io is held by everything that changes the file, its name, or what is below; see the package comment.
	io      sync.Mutex
	gone    bool                // deleted, or its creation failed: not in the index
	named   bool                // the present file name is durable
	session uint64              // the Writer of this number may write; every fence adds 1
	failed  error               // an I/O error that ended writing for good
	disk    chunkfile.State     // what the file says, once loaded
	tail    *chunkfile.Appender // while a Writer is open
	file    *filecache.File     // the one that tail writes to
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
	// readable: the layout and Partial are known, because the file's front was read or written. A sealed
	// replica's is read by its first reader.
	readable bool
	chunkfile.End
	layout chunkfile.Layout
	cuts   uint64 // how often the replica was cut: sums read across one are void
	place  place
}

// lock locks io, as long as the volume is in service: who holds the lock may wait for a disk that hangs. Whoever
// needs a replica for something other than the jobs of its own volume locks it so. Error: fault.Disk, and it is not
// locked.
func (r *replica) lock(op string) error {
	if err := r.volume.outError(op, r.id); err != nil { // nor shall each call leave a goroutine behind
		return err
	}
	gone := r.volume.health.Gone()
	if !r.io.TryLock() {
		locked := make(chan struct{})
		go func() { // it outlives this call only when the disk hangs
			r.io.Lock()
			select {
			case locked <- struct{}{}:
			case <-gone:
				r.io.Unlock()
			}
		}()
		select {
		case <-locked:
		case <-gone:
			return r.volume.outError(op, r.id)
		}
	}
	err := r.volume.outError(op, r.id)
	if err != nil {
		r.io.Unlock()
	}
	return err
}

func (r *replica) snapshot() snapshot {
	r.view.Lock()
	defer r.view.Unlock()
	return r.view.snapshot
}

// replaces reports whether a new replica may be written beside another one of its chunk, to take its place. leaving:
// the other one's disk is to be removed.
func (r *replica) replaces(other snapshot, leaving bool) bool {
	seen := r.snapshot()
	return seen.hidden && seen.place.kind != inMemory && other.state != 0 && (other.Generation < seen.Generation ||
		other.Generation == seen.Generation && (other.state == chunk.Recovered || leaving))
}

// updateLocked changes the view; io is held.
func (r *replica) updateLocked(change func(v *snapshot)) {
	r.view.Lock()
	defer r.view.Unlock()
	change(&r.view.snapshot)
}

func (r *replica) describe(v snapshot) chunk.Replica {
	return chunk.Replica{ID: r.id, Generation: v.Generation, Length: v.Length, State: v.state,
		Leaving: v.state == chunk.Sealed && r.volume.draining.Load()}
}

// reportLocked reports the replica's present state to the store's user. On a volume that is out of service it is
// not there.
func (r *replica) reportLocked(kind EventKind, reason string) {
	r.volume.reporting.RLock()
	defer r.volume.reporting.RUnlock()
	if r.volume.health.Out() && kind != Removed {
		return
	}
	r.volume.options.OnEvent(Event{Kind: kind, Replica: r.describe(r.view.snapshot), Reason: reason})
}

// announceLocked reports the replica once more. What is hidden is not there yet.
func (r *replica) announceLocked(absent func()) {
	switch {
	case r.view.state == 0:
		absent()
	case r.view.place.kind == inMemory: // it is reported when it is sealed, or gets a file
	case r.view.state == chunk.Corrupt:
		r.reportLocked(Corrupt, "it is in quarantine")
	default:
		r.reportLocked(Stored, "")
	}
}

// reportLost reports a replica whose volume is out of service as removed; false: it is in service, or nobody
// knows of the replica. It needs no lock of the replica: an operation that hangs may hold it.
func (r *replica) reportLost() bool {
	seen := r.snapshot()
	if seen.state == 0 || seen.hidden || !r.volume.health.Out() {
		return false
	}
	r.volume.options.OnEvent(Event{Kind: Removed, Replica: r.describe(seen), Reason: "its volume is out of service",
		Lost: true})
	return true
}

// path of the file that the replica is in; io is held.
func (r *replica) path() string { return r.pathOf(r.view.snapshot) }

// directory that holds the replica's own file.
func (r *replica) directory() string {
	return r.volume.path(chunkfile.Directory + "/" + chunkfile.Shard(r.id[len(r.id)-1]))
}

// usableLocked reports whether the replica can be worked on at all.
func (r *replica) usableLocked(op string) error {
	switch {
	case r.gone || r.view.hidden:
		return notFound(op, r.id)
	case r.view.state == chunk.Corrupt:
		return chunkError(fault.CorruptData, op, r.id, "the replica is in quarantine")
	}
	return r.failed
}

// anotherGeneration refuses an order for a generation that the replica has not.
func (r *replica) anotherGeneration(op string, gen chunk.Generation) error {
	return chunkError(fault.StaleGeneration, op, r.id, "the replica has generation %d, the order is for %d",
		r.view.Generation, gen)
}

// ioError makes an error of a read, which leaves the replica as it was; it counts against the volume. v is the state
// that the caller saw.
func (r *replica) ioError(v snapshot, op string, err error) error {
	path := r.pathOf(v)
	failure := r.volume.ioError(op, path, r.id, err)
	r.volume.health.NoteRead(path, failure)
	return failure
}

// ioErrorLocked is ioError in the present state.
func (r *replica) ioErrorLocked(op string, err error) error {
	return r.ioError(r.view.snapshot, op, err)
}

// failLocked records an I/O error that ends writing to this replica until the next start, which verifies it from
// scratch: after a failed write or sync nobody knows which bytes the disk has, and a second sync may hide the error.
func (r *replica) failLocked(op string, err error) error {
	r.failed = r.ioErrorLocked(op, err)
	return r.failed
}

// createFileLocked makes a chunk file: header and a first sync slot that says length 0. A hint of what will
// come is preallocated.
func (r *replica) createFileLocked(layout chunkfile.Layout, hint int64) error {
	const op = "create replica"
	name, fsys := r.path(), r.volume.fs
	inner, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return chunkError(fault.Exists, op, r.id, "the file %s is there already", name)
	}
	if err != nil {
		return r.ioErrorLocked(op, err)
	}
	if hint < preallocateMin {
		hint = 0
	}
	r.tail, err = chunkfile.Create(inner, chunkfile.Header{ID: r.id, Layout: layout}, r.view.Generation, hint, &r.disk)
	if err != nil {
		r.tail = nil
		failure := r.ioErrorLocked(op, err)
		// What cannot be removed is found by the next start, which drops a replica that was never synced.
		return errors.Join(failure, inner.Close(), fsys.Remove(name))
	}
	r.file, r.named = r.volume.files.Add(&r.Owner, inner, true), false
	r.updateLocked(func(v *snapshot) { v.readable, v.layout = true, layout })
	return nil
}

// writeWhole writes a chunk file that holds data with the recorded sum of the replica's record, durably but
// for its name.
func (r *replica) writeWhole(name string, data []byte) (vfs.File, chunkfile.State, error) {
	v, fsys := r.view.snapshot, r.volume.fs
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, chunkfile.State{}, err
	}
	state, err := chunkfile.WriteWhole(f, chunkfile.Header{ID: r.id, Layout: v.layout}, v.Generation, data, v.Partial)
	if err != nil {
		return nil, state, errors.Join(err, f.Close(), fsys.Remove(name))
	}
	return f, state, nil
}

// openLocked returns the cached file of the replica, or opens it under its present name, with one more user.
// Errors: fault.Disk, fault.Busy.
func (r *replica) openLocked(op string, writable bool) (*filecache.File, error) {
	files := r.volume.files
	if f := files.Get(&r.Owner, writable); f != nil {
		return f, nil
	}
	f, err := files.Open(&r.Owner, r.volume.fs, r.path(), writable)
	if err != nil {
		return nil, r.ioErrorLocked(op, err)
	}
	return f, nil
}

// loadLocked reads header and slots of a sealed replica and learns the sum of its last block. The error is
// fault.CorruptData if the file cannot be this replica, fault.Disk if it cannot be read.
func (r *replica) loadLocked(f *filecache.File) error {
	if r.disk.Loaded() {
		return nil
	}
	state, partial, err := chunkfile.Load(f, r.id, r.view.Length)
	if fault.KindOf(err) == 0 && err != nil {
		return r.ioErrorLocked("load replica", err)
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

// appendLocked writes data and then shows the new length to readers. flush is false if a sync follows at once.
func (r *replica) appendLocked(data []byte, flush bool) error {
	const op = "append to chunk"
	end, err := r.tail.Append(data, r.view.End, flush)
	if err != nil {
		return r.rollbackLocked(op, err)
	}
	r.view.Lock()
	r.view.End = end
	r.view.Unlock()
	return nil
}

// rollbackLocked undoes an append that failed half way. After a full disk the file is cut back to the acknowledged
// length and the Writer goes on; after anything else, or if the cut fails, the replica takes no more writes.
func (r *replica) rollbackLocked(op string, cause error) error {
	if !vfs.IsFull(cause) {
		return r.failLocked(op, cause)
	}
	if step, err := r.tail.CutBack(r.view.End); err != nil {
		return r.failLocked(step+" after "+op, err)
	}
	return r.volume.ioError(op, r.path(), r.id, cause)
}

// syncLocked makes everything up to the present length durable, and with name the directory if the name is new.
func (r *replica) syncLocked(name bool) error {
	if err := r.tail.Sync(r.view.End); err != nil {
		return r.failLocked("sync chunk", err)
	}
	if name && !r.named {
		return r.syncNameLocked("sync directory of chunk")
	}
	return nil
}

// syncNameLocked makes the present name of the file durable.
func (r *replica) syncNameLocked(op string) error {
	if err := r.volume.fs.SyncDir(r.directory()); err != nil {
		return r.failLocked(op, err)
	}
	r.named = true
	return nil
}

// cutLocked shortens the replica's file to length, whose partial block has the given sum, so that no crash
// brings the rest back:
//
//  1. a sync slot for the new length, fdatasync: from here on recovery goes
//     by it, even when length is less than what was synced before;
//  2. no more sums of blocks that end behind it, truncation, fdatasync
//     (chunkfile.Appender.Cut).
//
// A crash in between leaves a replica of at least length verified bytes.
func (r *replica) cutLocked(op string, length int64, partial uint64) error {
	r.updateLocked(func(v *snapshot) { v.Length, v.Partial, v.cuts = length, partial, v.cuts+1 })
	r.disk.Outdate()
	if err := r.syncLocked(false); err != nil {
		return err
	}
	if err := r.tail.Cut(length); err != nil {
		return r.failLocked(op, err)
	}
	return nil
}

// sealLocked syncs the replica and gives the file its final name: durable on return. It needs r.tail and leaves it.
func (r *replica) sealLocked(generation chunk.Generation) error {
	const op = "seal chunk"
	if err := r.tail.Trim(r.view.Length); err != nil {
		return r.failLocked(op, err)
	}
	if err := r.syncLocked(false); err != nil {
		return err
	}
	if err := r.renameLocked(op, chunk.Sealed, generation); err != nil {
		return err
	}
	r.reportLocked(Stored, "")
	return nil
}

// renameLocked gives the replica a new state and generation by renaming its file, durably.
func (r *replica) renameLocked(op string, state chunk.State, generation chunk.Generation) error {
	next := r.view.snapshot
	next.state, next.Generation, next.hidden = state, generation, false
	source, target := r.path(), r.pathOf(next)
	if source != target {
		if err := r.volume.fs.Rename(source, target); err != nil {
			return r.failLocked(op, err)
		}
		r.named = false
	}
	r.updateLocked(func(v *snapshot) { v.state, v.Generation, v.hidden = state, generation, false })
	if r.named {
		return nil
	}
	return r.syncNameLocked(op)
}

// endSessionLocked fences the Writer, if there is one, and releases its file.
func (r *replica) endSessionLocked() {
	r.session++
	if r.tail != nil {
		r.volume.files.Release(r.file)
		r.tail, r.file = nil, nil
	}
}

// dataAt is where in its file byte 0 of the chunk is.
func (v *snapshot) dataAt() int64 {
	if v.place.kind == inRecord {
		return pack.DataOffset(v.place.offset)
	}
	return v.layout.DataOffset()
}

// sums returns the sums of the blocks that begin at or behind the block border start and before end: a block
// border, or the length of the snapshot. f is the file that holds the replica.
func (v *snapshot) sums(f io.ReaderAt, start, end int64) ([]byte, error) {
	if v.place.kind != inRecord {
		return v.layout.ReadSums(f, start, chunkfile.End{Length: end, Partial: v.Partial})
	}
	if end <= start { // one block at most
		return nil, nil
	}
	return binary.LittleEndian.AppendUint64(nil, v.Partial), nil
}
