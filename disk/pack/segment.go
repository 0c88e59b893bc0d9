package pack

import (
	"io"
	"path"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/disk/filecache"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// Segment is one file of records. Only the packer of its set appends to it; headers of records are
// overwritten in place when their replica goes.
type Segment struct {
	filecache.Owner
	set  *Set
	name segmentName

	// guarded by Set.mu
	bytes  int64 // up to the end of the last acknowledged record
	live   int64 // of the records that are replicas, or deleted ones in their delay
	closed bool  // nothing is appended any more
	busy   bool  // the compactor works on it
	gone   bool  // unlinked
	lost   bool  // its file is not at its path any more

	retryAt time.Time // the compactor leaves it alone until then: it could not be compacted
}

// Path of the segment's file.
func (g *Segment) Path() string { return path.Join(g.set.options.Directory, g.name.String()) }

// Open returns the cached file of the segment with one more user, who releases it. Error: fs.ErrNotExist once
// it was unlinked.
func (g *Segment) Open(writable bool) (*filecache.File, error) {
	o := &g.set.options
	if f := o.Files.Get(&g.Owner, writable); f != nil {
		return f, nil
	}
	return o.Files.Open(&g.Owner, o.FS, g.Path(), writable)
}

// ReadData reads the data of the record at an offset; they are not verified.
func (g *Segment) ReadData(offset, length int64) ([]byte, error) {
	f, err := g.Open(false)
	if err != nil {
		return nil, err
	}
	defer g.set.options.Files.Release(f)
	data := make([]byte, length)
	return data, vfs.ReadFull(f, data, DataOffset(offset))
}

// Verify compares the bytes of a record with what is known of it, and its data with their sum. file is the segment's.
// Errors: fault.CorruptData, fault.Version, or that of a read.
func (g *Segment) Verify(file io.ReaderAt, want Record) error {
	b := make([]byte, want.bytes())
	if err := vfs.ReadFull(file, b, want.Offset); err != nil {
		return err
	}
	got, err := parseRecord(b, g.name, want.Offset)
	if err != nil {
		return err
	}
	want.durable = got.durable
	if got != want {
		return fault.New(fault.CorruptData, opVerify, "the record at %d is that of chunk %s, generation %d, %d bytes",
			want.Offset, got.ID, got.Generation, got.Length)
	}
	if sum := xxh3.Hash(b[chunkfile.SectorBytes:][:want.Length]); sum != want.Sum {
		return fault.New(fault.CorruptData, opVerify, "the record at %d has sum %016x, recorded is %016x", want.Offset,
			sum, want.Sum)
	}
	return nil
}

const opVerify = "verify record"

// DataOffset is where in the segment the data of the record at an offset are.
func DataOffset(offset int64) int64 { return offset + chunkfile.SectorBytes }

// Remove strikes the record of a deleted replica. After a power failure it may be back; its room is free when
// the trash delay is over.
func (g *Segment) Remove(r Record) error {
	now := g.set.options.Clock.Now()
	err := g.strike(r, now, false)
	if err == nil {
		g.set.options.Expire(Found{g, r}, now)
	}
	return err
}

// RemoveDurably strikes a record that must not come back.
func (g *Segment) RemoveDurably(r Record) error {
	err := g.strike(r, g.set.options.Clock.Now(), true)
	if err == nil {
		g.Free(r)
	}
	return err
}

// replaced strikes a record of which there is a newer one. It need not be durable: the newer one counts.
func (g *Segment) replaced(r Record) error {
	err := g.strike(r, g.set.options.Clock.Now(), false)
	if err == nil {
		g.Free(r)
	}
	return err
}

// strike marks a record as removed, in place. Durable only with sync.
func (g *Segment) strike(record Record, at time.Time, sync bool) error {
	file, err := g.Open(true)
	if err != nil {
		return err
	}
	defer g.set.options.Files.Release(file)
	b := make([]byte, chunkfile.SectorBytes)
	if err := vfs.ReadFull(file, b, record.Offset); err == nil {
		// Its place in the order of syncs is worth keeping.
		if old, err := parseRecord(b, g.name, record.Offset); err == nil && old.ID == record.ID {
			record.durable = old.durable
		}
	}
	record.removed = at
	putRecord(b, g.name, record)
	if _, err := file.WriteAt(b, record.Offset); err != nil {
		return err
	}
	if sync {
		return file.Datasync()
	}
	return nil
}

// Free notes that the room of a removed record is free, and has the segment unlinked or compacted if that pays now.
func (g *Segment) Free(removed Record) {
	g.set.update(g, func() { g.live -= removed.bytes() })
}

// Gone tells whether the segment was unlinked, with what was removed in it.
func (g *Segment) Gone() bool {
	g.set.mu.Lock()
	defer g.set.mu.Unlock()
	return g.gone
}

// wasteful reports whether so much of the segment is dead that moving the rest pays; Set.mu is held.
func (g *Segment) wasteful() bool {
	return g.closed && !g.busy && !g.gone && g.live <= (g.bytes-chunkfile.SectorBytes)/compactLiveDivisor
}
