package disk

import (
	"io"
	"path"
	"slices"

	"github.com/zeebo/xxh3"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// gap is a part of a segment that holds no record.
type gap struct{ start, end int64 }

// scanned is what a segment's file holds.
type scanned struct {
	records []record // whole ones, by offset
	damaged []gap    // where acknowledged records were
	end     int64    // of the last record
}

// scanSegment reads the headers of a segment from the first to size bytes.
//
// Where no record is it tries every following sector, so that damage costs only
// what was there. A gap below the highest record.durable that any header tells
// held acknowledged records. Behind it the last batch may be torn: its records
// count only if their data match too.
//
// Errors: fault.Version; that of a read.
func scanSegment(f io.ReaderAt, size int64, n segmentName) (scanned, error) {
	var all scanned
	var gaps []gap
	w := window{file: f, size: size}
	durable, start := int64(0), int64(-1)
	for at := int64(chunkfile.SectorBytes); at+chunkfile.SectorBytes <= size; {
		b, err := w.sector(at)
		if err != nil {
			return scanned{}, err
		}
		r, err := parseRecord(b, n, at)
		if fault.KindOf(err) == fault.Version {
			return scanned{}, err
		}
		if err != nil || r.end() > size {
			if start < 0 {
				start = at
			}
			at += chunkfile.SectorBytes
			continue
		}
		if start >= 0 {
			gaps, start = append(gaps, gap{start, at}), -1
		}
		durable = max(durable, r.durable)
		all.records = append(all.records, r)
		at = r.end()
	}
	if start >= 0 {
		gaps = append(gaps, gap{start, size})
	}
	for _, g := range gaps {
		if g.start < durable {
			g.end = min(g.end, durable)
			all.damaged = append(all.damaged, g)
		}
	}
	whole := all.records[:0]
	for _, r := range all.records {
		if r.offset >= durable && r.removed.IsZero() {
			data := make([]byte, r.length)
			if err := vfs.ReadFull(f, data, r.offset+chunkfile.SectorBytes); err != nil {
				return scanned{}, err
			}
			if xxh3.Hash(data) != r.sum {
				continue
			}
		}
		whole = append(whole, r)
		all.end = r.end()
	}
	all.records = whole
	return all, nil
}

// window reads a file in large pieces.
type window struct {
	file   io.ReaderAt
	size   int64
	buffer []byte
	start  int64
}

// sector returns the 512 bytes at an offset, until the next call.
func (w *window) sector(at int64) ([]byte, error) {
	if at < w.start || at+chunkfile.SectorBytes > w.start+int64(len(w.buffer)) {
		if w.buffer == nil {
			w.buffer = make([]byte, scanWindowBytes)
		}
		w.buffer = w.buffer[:min(int64(cap(w.buffer)), w.size-at)]
		if err := vfs.ReadFull(w.file, w.buffer, at); err != nil {
			w.buffer = w.buffer[:0]
			return nil, err
		}
		w.start = at
	}
	return w.buffer[at-w.start:][:chunkfile.SectorBytes], nil
}

// newestRecord is what a volume's segments say about a chunk.
type newestRecord struct {
	segment *segment
	record
}

// newerThan orders the records of one chunk on one volume: the higher
// generation, then what was written later. A record that was removed counts
// too, so that none that it replaced comes back.
func (n newestRecord) newerThan(other newestRecord) bool {
	switch {
	case n.generation != other.generation:
		return n.generation > other.generation
	case n.segment.name.sequence != other.segment.name.sequence:
		return n.segment.name.sequence > other.segment.name.sequence
	}
	return n.offset > other.offset
}

// scanPack reads all segments of a volume and makes what they hold durable:
// another process may have died before its sync. It returns the living records,
// one for each chunk.
func (s *Store) scanPack(v *volume) ([]newestRecord, error) {
	directory := v.path(packsDirectory)
	entries, err := v.fs.ReadDir(directory)
	if err != nil {
		return nil, diskError("list segments", directory, chunk.ID{}, err)
	}
	newest := make(map[chunk.ID]newestRecord)
	var struck []newestRecord
	for _, entry := range entries {
		name, ok := parseSegmentName(entry.Name())
		if !ok || entry.IsDir() {
			v.logger.Warn("file is not a segment and is left alone", "path", path.Join(directory, entry.Name()))
			continue
		}
		v.pack.packer.sequence = max(v.pack.packer.sequence, name.sequence)
		g := &segment{volume: v, name: name, closed: true}
		records, err := s.settleSegment(g)
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			n := newestRecord{g, r}
			old, twice := newest[r.id]
			if twice && !n.newerThan(old) {
				n, old = old, n
			}
			if twice && old.removed.IsZero() {
				struck = append(struck, old)
			}
			newest[r.id] = n
		}
	}
	if len(entries) > 0 {
		if err := v.fs.SyncDir(directory); err != nil {
			return nil, diskError("sync segments", directory, chunk.ID{}, err)
		}
	}
	for _, n := range struck {
		if err := s.dropRecord(n); err != nil {
			return nil, err
		}
	}
	living := make([]newestRecord, 0, len(newest))
	for _, n := range newest {
		if n.removed.IsZero() {
			living = append(living, n)
		}
	}
	slices.SortFunc(living, func(a, b newestRecord) int {
		if a.newerThan(b) {
			return 1
		}
		return -1
	})
	return living, nil
}

// settleSegment reads a segment, cuts off what is behind its last record and
// syncs it. Without records it is removed.
func (s *Store) settleSegment(g *segment) ([]record, error) {
	const op = "scan segment"
	v := g.volume
	fail := func(err error) ([]record, error) {
		if fault.KindOf(err) == fault.Version {
			return nil, err
		}
		return nil, diskError(op, g.path(), chunk.ID{}, err)
	}
	f, err := s.openSegment(g, true)
	if err != nil {
		return fail(err)
	}
	defer s.files.Release(f)
	info, err := f.Stat()
	if err != nil {
		return fail(err)
	}
	if err := checkSegmentHeader(f, info.Size(), g.name); fault.KindOf(err) == fault.CorruptData {
		v.logger.Warn("header of a segment is damaged, its records do not need it", "path", g.path(), "err", err)
	} else if err != nil {
		return fail(err)
	}
	all, err := scanSegment(f, info.Size(), g.name)
	if err != nil {
		return fail(err)
	}
	for _, d := range all.damaged {
		err := fault.New(fault.CorruptData, op, "bytes %d to %d of %s are damaged, the records there are lost", d.start, d.end, g.path())
		v.noteError(err)
		v.logger.Error("damage in a segment, its replicas have to be copied from other nodes", "path", g.path(), "from", d.start, "to", d.end)
	}
	if len(all.records) == 0 {
		if len(all.damaged) == 0 {
			if err := s.fs.Remove(g.path()); err != nil {
				return fail(err)
			}
			s.files.Detach(&g.Owner)
		}
		return nil, nil
	}
	if info.Size() > all.end {
		if err := f.Truncate(all.end); err != nil {
			return fail(err)
		}
	}
	if err := f.Datasync(); err != nil {
		return fail(err)
	}
	g.bytes = all.end
	now := s.options.Clock.Now()
	for _, r := range all.records {
		at := r.removed
		if at.After(now) { // the clock was set back: it counts from now
			at = now
		}
		if !at.IsZero() && !at.Add(s.options.TrashDelay).After(now) {
			continue
		}
		g.live += r.bytes()
		if !at.IsZero() {
			s.trash.addRecord(g, r, at)
		}
	}
	v.pack.add(g)
	return all.records, nil
}

// checkSegmentHeader reads the first sector. A file that is too short has none.
func checkSegmentHeader(f vfs.File, size int64, n segmentName) error {
	if size < chunkfile.SectorBytes {
		return nil
	}
	b := make([]byte, chunkfile.SectorBytes)
	if err := vfs.ReadFull(f, b, 0); err != nil {
		return err
	}
	if chunkfile.IsZero(b) { // never synced
		return nil
	}
	return parseSegmentHeader(b, n)
}

// dropRecord strikes a record that lost against another one of its chunk.
func (s *Store) dropRecord(n newestRecord) error {
	v := n.segment.volume
	if err := s.strike(n.segment, n.record, s.options.Clock.Now(), false); err != nil {
		return diskError("strike surplus record", n.segment.path(), n.id, err)
	}
	v.pack.shrink(n.segment, n.bytes())
	v.logger.Info("record of a chunk gave way to a newer one", "chunk", n.id, "gen", n.generation, "path", n.segment.path(), "offset", n.offset)
	return nil
}
