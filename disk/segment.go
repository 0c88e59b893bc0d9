package disk

import (
	"errors"
	"os"
	"path"
	"sync"
	"time"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/disk/filecache"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/vfs"
)

// segment is one file of records. Only the packer of its volume appends to it;
// headers of records are overwritten in place when their replica goes.
type segment struct {
	filecache.Owner
	volume *volume
	name   segmentName

	// guarded by pack.mu
	bytes  int64 // up to the end of the last acknowledged record
	live   int64 // of the records that are replicas, or deleted ones in their delay
	closed bool  // nothing is appended any more
	busy   bool  // the compactor works on it
	gone   bool  // unlinked
}

// path of the segment's file.
func (g *segment) path() string {
	return g.volume.path(path.Join(packsDirectory, g.name.String()))
}

// pack is the set of segments of a volume.
type pack struct {
	store  *Store
	volume *volume
	packer *packer

	mu struct {
		sync.Mutex
		segments map[uint64]*segment // by sequence
	}
}

func newPack(s *Store, v *volume) *pack {
	p := &pack{store: s, volume: v, packer: newPacker(s, v)}
	p.mu.segments = make(map[uint64]*segment)
	return p
}

func (p *pack) add(g *segment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.segments[g.name.sequence] = g
}

// grow notes a record that was acknowledged.
func (p *pack) grow(g *segment, end, bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g.bytes = max(g.bytes, end)
	g.live += bytes
}

// shrink notes that the room of a record is free, and has the segment unlinked
// or compacted if that pays now.
func (p *pack) shrink(g *segment, bytes int64) {
	p.mu.Lock()
	g.live -= bytes
	due := g.wasteful()
	p.mu.Unlock()
	if due {
		p.store.compactor.look()
	}
}

// close notes that nothing is appended to the segment any more.
func (p *pack) close(g *segment) {
	p.mu.Lock()
	g.closed = true
	due := g.wasteful()
	p.mu.Unlock()
	if due {
		p.store.compactor.look()
	}
}

// wasteful tells whether so much of the segment is dead that moving the rest
// pays; pack.mu is held.
func (g *segment) wasteful() bool {
	return g.closed && !g.busy && !g.gone && g.live <= (g.bytes-chunkfile.SectorBytes)/compactLiveDivisor
}

// openSegment returns the cached file of a segment with one more user. Error:
// fs.ErrNotExist once it was unlinked.
func (s *Store) openSegment(g *segment, writable bool) (*filecache.File, error) {
	if f := s.files.Get(&g.Owner, writable); f != nil {
		return f, nil
	}
	return s.files.Open(&g.Owner, g.volume.fs, g.path(), writable)
}

// readRecord reads and checks the header at an offset.
func readRecord(f *filecache.File, n segmentName, offset int64) (record, error) {
	b := make([]byte, chunkfile.SectorBytes)
	if err := vfs.ReadFull(f, b, offset); err != nil {
		return record{}, err
	}
	return parseRecord(b, n, offset)
}

// strike marks the record of a replica as removed, in place. Durable only with
// sync.
func (s *Store) strike(g *segment, r record, at time.Time, sync bool) (err error) {
	f, err := s.openSegment(g, true)
	if err != nil {
		return err
	}
	defer s.files.Release(f)
	// Its place in the order of syncs is worth keeping.
	if old, err := readRecord(f, g.name, r.offset); err == nil && old.id == r.id {
		r.durable = old.durable
	}
	r.removed = at
	b := make([]byte, chunkfile.SectorBytes)
	putRecord(b, g.name, r)
	if _, err := f.WriteAt(b, r.offset); err != nil {
		return err
	}
	if sync {
		return f.Datasync()
	}
	return nil
}

// record is what the header of a packed replica says, but for record.durable.
func (r *replica) record(v snapshot) record {
	return record{id: r.id, generation: v.Generation, chunkSize: v.layout.ChunkSize, length: v.Length, sum: v.Partial, offset: v.at}
}

// createSegment makes an empty segment; its file is not durable yet. The caller
// has one use of the file.
func (s *Store) createSegment(v *volume, n segmentName) (*segment, *filecache.File, error) {
	g := &segment{volume: v, name: n, bytes: chunkfile.SectorBytes}
	inner, err := v.fs.OpenFile(g.path(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, nil, err
	}
	b := make([]byte, chunkfile.SectorBytes)
	putSegmentHeader(b, n)
	if _, err := inner.WriteAt(b, 0); err != nil {
		// What cannot be removed is found empty by the next start.
		return nil, nil, errors.Join(err, inner.Close(), v.fs.Remove(g.path()))
	}
	return g, s.files.Add(&g.Owner, inner, true), nil
}

// unlinkSegment removes a segment without live records, durably.
func (s *Store) unlinkSegment(g *segment) error {
	p := g.volume.pack
	if err := s.fs.Remove(g.path()); err != nil {
		return diskError("remove segment", g.path(), chunk.ID{}, err)
	}
	p.mu.Lock()
	g.gone = true
	delete(p.mu.segments, g.name.sequence)
	p.mu.Unlock()
	s.files.Detach(&g.Owner)
	if err := s.fs.SyncDir(g.volume.path(packsDirectory)); err != nil {
		return diskError("remove segment", g.path(), chunk.ID{}, err)
	}
	return nil
}
