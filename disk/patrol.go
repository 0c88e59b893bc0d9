package disk

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"sync/atomic"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/disk/pack"
	"github.com/whispering-woods/ww/disk/scrub"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// patrol is a volume as its scrubber sees it (scrub.Volume). It opens every file anew, by its name, and reads from the
// disk: what the page cache or an open file still has is not what the next start will find.
type patrol struct {
	volume     *volume
	index      *index
	quarantine *quarantine
	unreadable atomic.Int32 // replicas in a row
}

// Begin looks at the pack segments.
func (p *patrol) Begin() {
	p.volume.packs.Inspect()
	err := p.volume.packs.Strays(func(name string) {
		p.note(p.quarantine.setAside(p.volume, path.Join(packsDirectory, name)))
	})
	p.note(err)
}

// note counts an error of the disk that no replica is to blame for.
func (p *patrol) note(err error) {
	if err != nil {
		p.volume.noteError(err)
		p.volume.logger.Warn("the scrub met an error", "err", err)
	}
}

// Busy tells whether somebody else uses the disk now.
func (p *patrol) Busy() bool { return p.volume.health.Busy() }

// Replicas lists the chunks whose ids end with a byte.
func (p *patrol) Replicas(last byte) []chunk.ID { return p.index.on(p.volume, last) }

// Verify compares a replica with its sums. What seems bad is compared once more with the replica's lock held: then
// nobody changes it, and a read that failed by chance does not fail again.
func (p *patrol) Verify(id chunk.ID, pace *scrub.Pace) (scrub.Result, error) {
	replica := p.index.lookup(id)
	if replica == nil || replica.volume != p.volume {
		return scrub.Result{}, nil // it is gone
	}
	seen := replica.snapshot()
	if !seen.comparable() {
		return scrub.Result{}, nil
	}
	err := p.compare(replica, seen, pace.Wait)
	if errors.Is(err, scrub.ErrStopped) {
		return scrub.Result{}, err
	}
	bad := false
	if err == nil {
		p.unreadable.Store(0)
	} else {
		if replica.lock(opScrub) != nil {
			return scrub.Result{}, scrub.ErrStopped
		}
		seen, bad, err = p.judgeLocked(replica)
		replica.io.Unlock()
	}
	if err != nil {
		return scrub.Result{}, err
	}
	return scrub.Result{Bytes: seen.Length, Verified: seen.comparable(), Bad: bad}, nil
}

// comparable tells whether a replica has bytes on the disk that must match their sums.
func (v *snapshot) comparable() bool {
	return v.state != 0 && v.state != chunk.Corrupt && v.place.kind != inMemory
}

// judgeLocked compares a replica again, and puts a bad one in quarantine. An error of a read is one of that replica: a
// disk with a bad sector may serve all the others for years. Only several unreadable replicas in a row count against
// the volume. Error: scrub.ErrStopped.
func (p *patrol) judgeLocked(replica *replica) (seen snapshot, bad bool, err error) {
	seen = replica.view.snapshot
	if replica.gone || !seen.comparable() {
		return snapshot{}, false, nil // it has gone meanwhile
	}
	err = p.compare(replica, seen, func(int64) error { return nil })
	switch {
	case err == nil:
		p.unreadable.Store(0)
		return seen, false, nil
	case p.volume.health.Out():
		return seen, false, scrub.ErrStopped
	case vfs.IsShortage(err), fault.KindOf(err) == fault.Version:
		p.volume.logger.Warn("replica cannot be verified", "chunk", replica.id, "err", err)
		return snapshot{}, false, nil
	}
	known := fault.KindOf(err) == fault.CorruptData || errors.Is(err, fs.ErrNotExist) ||
		errors.Is(err, io.ErrUnexpectedEOF)
	if !known && p.unreadable.Add(1) >= unreadableInARowMax {
		p.note(diskError(opScrub, replica.path(), replica.id, err))
	}
	p.quarantine.putLocked(replica, "found by the scrub: "+err.Error())
	return seen, true, nil
}

const opScrub = "scrub replica"

// compare compares a replica, as it was seen, with what is on the disk. Errors: fault.CorruptData, fault.Version,
// fs.ErrNotExist, or that of a read, or of wait.
func (p *patrol) compare(replica *replica, seen snapshot, wait func(bytes int64) error) error {
	file, err := p.volume.fs.OpenFile(replica.pathOf(seen), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close() // opened for reading
	if seen.place.kind == inRecord {
		return compareRecord(file, replica.record(seen), seen, wait)
	}
	if err := file.Uncache(0, 0); err != nil {
		return err
	}
	if err := compareFile(file, replica.id, seen, wait); err != nil {
		return err
	}
	return file.Uncache(0, 0) // it is not wanted more than before
}

// compareRecord compares a record of a pack segment.
func compareRecord(file vfs.File, record pack.Record, seen snapshot, wait func(int64) error) error {
	size := pack.RecordBytes(record.Length)
	if err := wait(size); err != nil {
		return err
	}
	const page = 4096 // only whole pages leave the cache
	start := record.Offset / page * page
	if err := file.Uncache(start, (record.Offset+size-start+page-1)/page*page); err != nil {
		return err
	}
	return seen.place.segment.Verify(file, record)
}

// compareFile compares a chunk file: header, slots, sums and data. Of an open one the slots may be changing.
func compareFile(file vfs.File, id chunk.ID, seen snapshot, wait func(int64) error) error {
	if seen.state != chunk.Sealed {
		if err := chunkfile.CheckHeader(file, id); err != nil {
			return err
		}
		return verifyData(file, id, seen, wait)
	}
	state, partial, err := chunkfile.Load(file, id, seen.Length)
	if err != nil {
		return err
	}
	if seen.readable && (partial != seen.Partial || state.Layout != seen.layout) {
		return chunkError(fault.CorruptData, opScrub, id, "its header or its slots are not those that were read before")
	}
	seen.Partial, seen.layout = partial, state.Layout
	return verifyData(file, id, seen, wait)
}

// Strays sets files aside that have the name of a replica which is not this one's: damage of a name, which a start
// would take for another replica.
func (p *patrol) Strays(last byte) {
	directory := path.Join(chunkfile.Directory, chunkfile.Shard(last))
	entries, err := p.volume.fs.ReadDir(p.volume.path(directory))
	if err != nil {
		p.note(diskError(opScrub, p.volume.path(directory), chunk.ID{}, err))
		return
	}
	for _, entry := range entries {
		relative := path.Join(directory, entry.Name())
		name, ok := chunkfile.ParseName(entry.Name())
		if !ok || entry.IsDir() || name.Relative() != relative {
			p.volume.logger.Warn("file is not a replica and is left alone", "path", p.volume.path(relative))
			continue
		}
		if !name.Hidden { // a copy under way, or what is left of one: a start drops it
			p.note(p.stray(name))
		}
	}
}

// stray sets a file aside unless it is that of its replica. The replica's lock keeps names as they are meanwhile; a
// chunk without one gets an entry of the index for so long.
func (p *patrol) stray(name chunkfile.Name) error {
	replica := p.index.lookup(name.ID)
	reserved := replica == nil
	if reserved {
		if replica = p.index.reserve(name.ID, p.volume); replica == nil {
			return nil // it has just come
		}
	} else if replica.lock(opScrub) != nil {
		return nil // it is on a disk that is out of service; a start finds out which file counts
	}
	defer replica.io.Unlock()
	if reserved {
		defer p.index.removeLocked(replica)
	}
	file := p.volume.path(name.Relative())
	if replica.gone || replica.volume == p.volume && replica.path() == file {
		return nil
	}
	if _, err := p.volume.fs.Stat(file); err != nil {
		return nil // it has gone, or the disk tells others what is wrong with it
	}
	return p.quarantine.setAside(p.volume, name.Relative())
}
