package pack

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
	records []Record // whole ones, by offset
	damaged []gap    // where acknowledged records were
	end     int64    // of the last Record
}

// scanSegment reads the headers of a segment from the first to size bytes.
//
// Where no record is it tries every following sector, so that damage costs only what was there. A gap below
// the highest Record.durable of any header held acknowledged records. Behind it the last batch may be torn:
// its records count only if their data match too.
//
// Errors: fault.Version; that of a read.
func scanSegment(file io.ReaderAt, size int64, n segmentName) (scanned, error) {
	var all scanned
	var gaps []gap
	w := window{file: file, size: size}
	durable, start := int64(0), int64(-1)
	for at := int64(chunkfile.SectorBytes); at+chunkfile.SectorBytes <= size; {
		b, err := w.sector(at)
		if err != nil {
			return scanned{}, err
		}
		record, err := parseRecord(b, n, at)
		if fault.KindOf(err) == fault.Version {
			return scanned{}, err
		}
		if err != nil || record.end() > size {
			if start < 0 {
				start = at
			}
			at += chunkfile.SectorBytes
			continue
		}
		if start >= 0 {
			gaps, start = append(gaps, gap{start, at}), -1
		}
		durable = max(durable, record.durable)
		all.records = append(all.records, record)
		at = record.end()
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
	for _, candidate := range all.records {
		if candidate.Offset >= durable && candidate.removed.IsZero() {
			data := make([]byte, candidate.Length)
			if err := vfs.ReadFull(file, data, candidate.Offset+chunkfile.SectorBytes); err != nil {
				return scanned{}, err
			}
			if xxh3.Hash(data) != candidate.Sum {
				continue
			}
		}
		whole = append(whole, candidate)
		all.end = candidate.end()
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

// Found is a record that a scan met.
type Found struct {
	Segment *Segment
	Record
}

// newerThan orders the records of one chunk on one volume: the higher generation, then what was written
// later. A record that was removed counts too, so that none that it replaced comes back.
func (n Found) newerThan(other Found) bool {
	switch {
	case n.Generation != other.Generation:
		return n.Generation > other.Generation
	case n.Segment.name.sequence != other.Segment.name.sequence:
		return n.Segment.name.sequence > other.Segment.name.sequence
	}
	return n.Offset > other.Offset
}

// Load reads all segments of a volume and makes what they hold durable: another process may have died before
// its sync. It returns the living records, one for each chunk. Call it once, before Run.
func (s *Set) Load() ([]Found, error) {
	options := &s.options
	entries, err := options.FS.ReadDir(options.Directory)
	if err != nil {
		return nil, vfs.Fault("list segments", options.Directory, err)
	}
	newest := make(map[chunk.ID]Found)
	var replaced []Found
	for _, entry := range entries {
		name, ok := parseSegmentName(entry.Name())
		if !ok || entry.IsDir() {
			options.Logger.Warn("file is not a segment and is left alone", "path",
				path.Join(options.Directory, entry.Name()))
			continue
		}
		s.packer.sequence = max(s.packer.sequence, name.sequence)
		g := &Segment{set: s, name: name, closed: true}
		records, err := s.settle(g)
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			n := Found{g, r}
			old, twice := newest[r.ID]
			if twice && !n.newerThan(old) {
				n, old = old, n
			}
			if twice && old.removed.IsZero() {
				replaced = append(replaced, old)
			}
			newest[r.ID] = n
		}
	}
	if len(entries) > 0 {
		if err := options.FS.SyncDir(options.Directory); err != nil {
			return nil, vfs.Fault("sync segments", options.Directory, err)
		}
	}
	for _, n := range replaced {
		if err := n.Drop(); err != nil {
			return nil, err
		}
	}
	living := make([]Found, 0, len(newest))
	for _, n := range newest {
		if n.removed.IsZero() {
			living = append(living, n)
		}
	}
	slices.SortFunc(living, func(a, b Found) int {
		if a.newerThan(b) {
			return 1
		}
		return -1
	})
	return living, nil
}

// Drop strikes a record that lost against a newer replica of its chunk.
func (n Found) Drop() error {
	if err := n.Segment.replaced(n.Record); err != nil {
		e := vfs.Fault("strike surplus record", n.Segment.Path(), err)
		e.Chunk = n.ID.String()
		return e
	}
	n.Segment.set.options.Logger.Info("record of a chunk gave way to a newer one",
		"chunk", n.ID, "gen", n.Generation, "path", n.Segment.Path(), "offset", n.Offset)
	return nil
}

// settle reads a segment, cuts off what is behind its last record and syncs it. Without records it is removed.
func (s *Set) settle(segment *Segment) (records []Record, err error) {
	const op = "scan segment"
	options := &s.options
	defer func() {
		if err != nil && fault.KindOf(err) != fault.Version {
			err = vfs.Fault(op, segment.Path(), err)
		}
	}()
	file, err := segment.Open(true)
	if err != nil {
		return nil, err
	}
	defer options.Files.Release(file)
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	foreign := false
	if err := checkSegmentHeader(file, info.Size(), segment.name); fault.KindOf(err) == fault.CorruptData {
		foreign = true
		options.Logger.Warn("header of a segment is damaged, its records do not need it", "path", segment.Path(), "err",
			err)
	} else if err != nil {
		return nil, err
	}
	all, err := scanSegment(file, info.Size(), segment.name)
	if err != nil {
		return nil, err
	}
	for _, d := range all.damaged {
		options.OnError(fault.New(fault.CorruptData, op, "bytes %d to %d of %s are damaged, the records there are lost",
			d.start, d.end, segment.Path()))
		options.Logger.Error("damage in a segment, its replicas have to be copied from other nodes",
			"path", segment.Path(), "from", d.start, "to", d.end)
	}
	if len(all.records) == 0 {
		if len(all.damaged) > 0 {
			return nil, nil
		}
		if foreign { // its name may be what is damaged: without the right one no record counts
			options.Logger.Error("a segment without any record has the header of another one and is left alone",
				"path", segment.Path())
			return nil, nil
		}
		if err := options.FS.Remove(segment.Path()); err != nil {
			return nil, err
		}
		options.Files.Detach(&segment.Owner)
		return nil, nil
	}
	if info.Size() > all.end {
		if err := file.Truncate(all.end); err != nil {
			return nil, err
		}
	}
	if err := file.Datasync(); err != nil {
		return nil, err
	}
	segment.bytes = all.end
	now := options.Clock.Now()
	for _, r := range all.records {
		at := r.removed
		if at.After(now) { // the clock was set back: it counts from now
			at = now
		}
		if !at.IsZero() && !at.Add(options.TrashDelay).After(now) {
			continue
		}
		segment.live += r.bytes()
		if !at.IsZero() {
			options.Expire(Found{segment, r}, at)
		}
	}
	s.add(segment)
	return all.records, nil
}

// checkSegmentHeader reads the first sector. A file that is too short has none.
func checkSegmentHeader(f vfs.File, size int64, name segmentName) error {
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
	return parseSegmentHeader(b, name)
}
