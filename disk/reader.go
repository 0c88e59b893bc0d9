package disk

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/disk/filecache"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// Reader reads one replica. It holds a counted open file: the bytes stay readable when the replica is deleted. Safe
// for concurrent use, but for Close. It verifies nothing: who uses the bytes compares them with Range's sums.
type Reader struct {
	files   *filecache.Cache
	replica *replica
	file    *filecache.File
	base    int64
	packed  *snapshot // in file: a record, whose bytes never change; nil: the replica's own file
	closed  atomic.Bool

	// of one that reads in the background; see InBackground
	background bool
	asked      int64 // the disk reads up to here, an offset in the chunk
}

// Range is a part of a replica that can be verified.
type Range struct {
	// DataOffset in the chunk and DataLength: the asked range rounded out to checksum blocks, cut at the
	// visible end and after RangeBlocksMax blocks.
	DataOffset int64
	DataLength int64
	// Sums has the xxh3-64 of each block, 8 bytes each, little endian. The last block may be partial: its sum
	// is that of its bytes in the range.
	Sums          []byte
	ReplicaLength int64 // visible bytes
	Generation    chunk.Generation
	State         chunk.State
	ChunkSize     int64 // most bytes that the replica may get
}

// readers opens replicas for reading.
type readers struct {
	*env
	index      *index
	quarantine *quarantine
	unpacker   *unpacker
}

// open is Store.OpenReader.
func (rs *readers) open(id chunk.ID, minGen chunk.Generation) (*Reader, error) {
	const op = "read chunk"
	replica := rs.index.lookup(id)
	if replica == nil {
		return nil, notFound(op, id)
	}
	for range rangeRetriesMax {
		if err := replica.volume.outError(op, id); err != nil {
			return nil, err
		}
		seen := replica.snapshot()
		if err := seen.readableAt(op, id, minGen); err != nil {
			return nil, err
		}
		if seen.place.kind != inRecord {
			reader, err := rs.openFile(replica, seen, minGen)
			if err != nil || reader != nil {
				return reader, err
			}
			continue
		}
		f, err := seen.place.segment.Open(false)
		if err == nil {
			return &Reader{files: rs.files, replica: replica, file: f, base: seen.dataAt(), packed: &seen}, nil
		}
		if !errors.Is(err, fs.ErrNotExist) { // else it has moved to another segment
			return nil, replica.ioError(seen, op, err)
		}
	}
	return nil, chunkError(fault.Busy, op, id, "the replica moved while it was opened, %d times", rangeRetriesMax)
}

// openFile opens a replica that has a file of its own; v is what the caller saw of it. nil without an error:
// it became a record meanwhile.
func (rs *readers) openFile(replica *replica, v snapshot, minGen chunk.Generation) (*Reader, error) {
	const op = "read chunk"
	if v.readable {
		if f := rs.files.Get(&replica.Owner, false); f != nil {
			return &Reader{files: rs.files, replica: replica, file: f, base: v.dataAt()}, nil
		}
	}
	if err := replica.lock(op); err != nil { // the name must not change under the open
		return nil, err
	}
	defer replica.io.Unlock()
	if replica.gone {
		return nil, notFound(op, replica.id)
	}
	if err := replica.view.readableAt(op, replica.id, minGen); err != nil {
		return nil, err
	}
	if replica.view.place.kind == inRecord {
		return nil, nil
	}
	if err := rs.unpacker.materialiseLocked(replica); err != nil {
		return nil, err
	}
	f, err := replica.openLocked(op, false)
	if err != nil {
		return nil, err
	}
	if err := rs.quarantine.loadLocked(replica, f); err != nil {
		rs.files.Release(f)
		return nil, err
	}
	return &Reader{files: rs.files, replica: replica, file: f, base: replica.disk.DataOffset()}, nil
}

// readableAt reports whether a replica in this state may be read.
func (v *snapshot) readableAt(op string, id chunk.ID, minGen chunk.Generation) error {
	switch {
	case v.state == 0:
		return notFound(op, id)
	case v.state == chunk.Corrupt:
		return chunkError(fault.CorruptData, op, id, "the replica is in quarantine")
	case v.Generation < minGen:
		return chunkError(fault.StaleGeneration, op, id, "the replica has generation %d, wanted %d", v.Generation,
			minGen)
	}
	return nil
}

// Range describes the part of the replica around offset..offset+length; a length of -1 is to the visible end.
// An offset at or behind the end gives an empty range and no error. Length, state and the sum of a partial
// block are of one moment. Does file I/O. Errors: fault.Invalid (negative numbers), fault.CorruptData
// (quarantined meanwhile), fault.Disk; fault.Busy if the replica is cut repeatedly.
func (r *Reader) Range(offset, length int64) (Range, error) {
	const op = "read chunk"
	if offset < 0 || length < -1 {
		return Range{}, chunkError(fault.Invalid, op, r.replica.id, "range of %d bytes at %d", length, offset)
	}
	for range rangeRetriesMax {
		if err := r.replica.volume.outError(op, r.replica.id); err != nil {
			return Range{}, err
		}
		seen := r.replica.snapshot()
		if seen.state == chunk.Corrupt {
			return Range{}, chunkError(fault.CorruptData, op, r.replica.id, "the replica is in quarantine")
		}
		seen = r.seen(seen)
		got := seen.around(offset, length)
		if got.DataLength > 0 {
			var err error
			if got.Sums, err = seen.sums(r.file, got.DataOffset, got.DataOffset+got.DataLength); err != nil {
				return Range{}, r.replica.ioError(seen, op, err)
			}
		}
		if r.packed != nil || r.replica.snapshot().cuts == seen.cuts {
			return got, nil
		}
	}
	return Range{}, chunkError(fault.Busy, op, r.replica.id, "the replica was cut while it was read, %d times",
		rangeRetriesMax)
}

// seen is what this reader can see of the replica: now is its present state. The reader of a record keeps to it,
// also when the replica has moved since; one that appends, cuts or deletes does not change the record's bytes.
func (r *Reader) seen(now snapshot) snapshot {
	if r.packed != nil {
		return *r.packed
	}
	return now
}

// around rounds a range out to blocks, without its sums.
func (v *snapshot) around(offset, length int64) Range {
	got := Range{ReplicaLength: v.Length, Generation: v.Generation, State: v.state, ChunkSize: v.layout.ChunkSize}
	if offset >= v.Length {
		got.DataOffset = v.Length / blockBytes * blockBytes
		return got
	}
	end := v.Length
	if length >= 0 && length < v.Length-offset {
		end = offset + length
	}
	first := offset / blockBytes
	last := min((end+blockBytes-1)/blockBytes, first+RangeBlocksMax)
	got.DataOffset = first * blockBytes
	got.DataLength = min(last*blockBytes, v.Length) - got.DataOffset
	return got
}

// File returns the operating system's file, and where in it byte 0 of the chunk is, for sendfile; nil on a
// file system without one. It is valid until Close. Only ranges that Range returned may be read from it.
func (r *Reader) File() (f *os.File, base int64) { return r.file.OSFile(), r.base }

// InBackground makes a new Reader one that leaves the disk to others: its owner calls Ahead before it reads.
func (r *Reader) InBackground() { r.background = true }

// Ahead has the disk read what a background reader reads next, from an offset up to end, in steps of copyStepBytes, two
// of which may be under way: the kernel would read much more ahead, and whoever else uses the disk would wait for that.
// Before each step it lets others go first. It returns how many bytes may be read now. Not for concurrent use.
func (r *Reader) Ahead(offset, end int64) (bytes int64, err error) {
	volume := r.replica.volume
	for r.asked = max(r.asked, offset); r.asked < min(end, offset+2*copyStepBytes); {
		step := min(end-r.asked, copyStepBytes)
		volume.health.Yield()
		if err := r.file.Prefetch(r.base+r.asked, step); err != nil {
			return 0, diskError("read ahead", volume.directory, r.replica.id, err)
		}
		r.asked += step
	}
	return min(end-offset, copyStepBytes), nil
}

// Watch runs a call that reads from File: its errors of the disk and the time it takes count for the volume. It must
// not wait for a peer. It returns what read did; fault.Disk if the volume is out of service, and then read was not
// called.
func (r *Reader) Watch(op string, read func() (int, error)) (int, error) {
	volume := r.replica.volume
	watch := volume.health.WatchRead
	if r.background {
		watch = volume.health.WatchBackgroundRead
	}
	got, err := watch(op, volume.directory, read)
	var failure *fs.PathError
	switch {
	case errors.Is(err, syscall.EIO):
		volume.health.NoteRead(r.replica.pathOf(r.replica.snapshot()), err)
	case errors.As(err, &failure):
		return got, diskError("read chunk", volume.directory, r.replica.id, err)
	}
	return got, err
}

// ReadAt reads visible bytes of the chunk at an offset in the chunk (io.ReaderAt). Errors: io.EOF,
// fault.Invalid, fault.Disk.
func (r *Reader) ReadAt(buffer []byte, offset int64) (int, error) {
	const op = "read chunk"
	if offset < 0 {
		return 0, chunkError(fault.Invalid, op, r.replica.id, "offset %d", offset)
	}
	v := r.seen(r.replica.snapshot())
	var short error
	if left := max(0, v.Length-offset); int64(len(buffer)) > left {
		buffer, short = buffer[:left], io.EOF
	}
	if len(buffer) == 0 {
		return 0, short
	}
	if err := vfs.ReadFull(r.file, buffer, r.base+offset); err != nil {
		return 0, r.replica.ioError(v, op, err)
	}
	return len(buffer), short
}

// Close releases the file. A second Close does nothing.
func (r *Reader) Close() error {
	if !r.closed.Swap(true) {
		r.files.Release(r.file)
	}
	return nil
}

// digest is Store.Digest.
func (rs *readers) digest(id chunk.ID) (uint64, error) {
	const op = "digest replica"
	reader, err := rs.open(id, 0)
	if err != nil {
		return 0, err
	}
	defer reader.Close() // cannot fail the first time
	for range rangeRetriesMax {
		v := reader.seen(reader.replica.snapshot())
		sums, err := v.sums(reader.file, 0, v.Length)
		if err != nil {
			return 0, diskError(op, reader.replica.pathOf(v), id, err)
		}
		if reader.packed != nil || reader.replica.snapshot().cuts == v.cuts {
			return xxh3.Hash(binary.LittleEndian.AppendUint64(sums, uint64(v.Length))), nil
		}
	}
	return 0, chunkError(fault.Busy, op, id, "the replica was cut meanwhile, %d times", rangeRetriesMax)
}
