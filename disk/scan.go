package disk

import (
	"errors"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/disk/pack"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// scan builds the index of a store that starts: sealed replicas from their names, open ones by recovery,
// corrupt ones from the quarantine.
type scan struct {
	*env
	index      *index
	starting   *starting
	quarantine *quarantine
	trash      *trash

	best map[chunk.ID]*replica // what was met, one for each chunk
	// surplus are the others: two files of one chunk are not what this package leaves, but people copy files.
	surplus []*replica
}

func (s *scan) run() error {
	if err := s.list(); err != nil {
		return err
	}
	for _, r := range s.surplus {
		if err := s.dropSurplus(r); err != nil {
			return err
		}
	}
	open := make(map[*volume][]*replica)
	for _, r := range s.best {
		if r.view.state == chunk.Recovered {
			open[r.volume] = append(open[r.volume], r)
		}
		if err := s.index.insert(r); err != nil {
			return err
		}
	}
	return s.each(func(v *volume) error {
		for _, r := range open[v] {
			if err := s.recoverReplica(r); err != nil {
				return err
			}
		}
		return nil
	})
}

// each calls work for every volume in service, one beside the other. A volume whose disk fails it goes out of
// service, if the store can start without it.
func (s *scan) each(work func(v *volume) error) error {
	volumes := inService(s.starting.volumes.all())
	var wait sync.WaitGroup
	failures := make([]error, len(volumes))
	for i, v := range volumes {
		wait.Go(func() { failures[i] = work(v) })
	}
	wait.Wait()
	var all []error
	for i, v := range volumes {
		all = append(all, s.starting.tolerate(v, failures[i]))
	}
	return errors.Join(all...)
}

// list reads the directories and the segments of all volumes. Of one that cannot be read whole nothing counts.
func (s *scan) list() error {
	s.best = make(map[chunk.ID]*replica)
	var mu sync.Mutex
	found := make(map[*volume]listing)
	err := s.each(func(v *volume) error {
		var l listing
		if err := l.read(v); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		found[v] = l
		return nil
	})
	if err != nil {
		return err
	}
	// Of two equal ones the first counts: one on a disk that is to be removed was copied to another.
	volumes := slices.SortedStableFunc(slices.Values(s.starting.volumes.all()), func(a, b *volume) int {
		switch draining := a.draining.Load(); {
		case draining == b.draining.Load():
			return 0
		case draining:
			return 1
		}
		return -1
	})
	for _, v := range volumes {
		for _, r := range found[v].replicas {
			s.add(r)
		}
	}
	for _, v := range s.starting.volumes.all() {
		for _, r := range found[v].corrupt {
			s.addCorrupt(r)
		}
	}
	return nil
}

// listing is what is on one volume.
type listing struct {
	replicas []*replica
	corrupt  []*replica // in quarantine
}

func (l *listing) read(volume *volume) error {
	for last := range 256 {
		if err := l.readShard(volume, path.Join(chunkfile.Directory, chunkfile.Shard(byte(last)))); err != nil {
			return err
		}
	}
	records, err := volume.packs.Load()
	if err != nil {
		return err
	}
	for _, n := range records {
		r := &replica{id: n.ID, volume: volume}
		r.view.state, r.view.readable, r.view.layout = chunk.Sealed, true, chunkfile.Layout{ChunkSize: n.ChunkSize}
		r.view.End = chunkfile.End{Generation: n.Generation, Length: n.Length, Partial: n.Sum}
		r.view.place = recordAt(n.Segment, n.Offset)
		l.replicas = append(l.replicas, r)
	}
	return l.readQuarantine(volume)
}

// readShard reads a directory of chunk files.
func (l *listing) readShard(volume *volume, directory string) error {
	entries, err := volume.fs.ReadDir(volume.path(directory))
	if err != nil {
		return diskError("list replicas", volume.path(directory), chunk.ID{}, err)
	}
	for _, entry := range entries {
		name, ok := chunkfile.ParseName(entry.Name())
		if !ok || entry.IsDir() || name.Relative() != path.Join(directory, entry.Name()) {
			at := volume.path(path.Join(directory, entry.Name()))
			volume.logger.Warn("file is not a replica and is left alone", "path", at)
			continue
		}
		if name.Hidden {
			volume.logger.Info("unfinished copy is dropped", "chunk", name.ID, "gen", name.Generation)
			if err := volume.fs.Remove(volume.path(name.Relative())); err != nil {
				return diskError("drop unfinished copy", volume.path(name.Relative()), name.ID, err)
			}
			continue
		}
		state := chunk.Recovered
		if name.Sealed {
			state = chunk.Sealed
		}
		l.replicas = append(l.replicas, fileReplica(volume, name, state))
	}
	return nil
}

// readQuarantine reads the corrupt replicas of a volume.
func (l *listing) readQuarantine(volume *volume) error {
	entries, err := volume.fs.ReadDir(volume.path(quarantineDirectory))
	if err != nil {
		return diskError("list quarantine", volume.path(quarantineDirectory), chunk.ID{}, err)
	}
	for _, entry := range entries {
		at := path.Join(quarantineDirectory, entry.Name())
		parked, ok := chunkfile.ParseParkedName(entry.Name())
		if !ok {
			if !strings.HasSuffix(entry.Name(), forgottenSuffix) {
				volume.logger.Warn("file in quarantine is not a replica", "path", volume.path(at))
			}
			continue
		}
		r := fileReplica(volume, parked.Name, chunk.Corrupt)
		r.view.place = place{kind: aside, path: at}
		l.corrupt = append(l.corrupt, r)
	}
	return nil
}

// addCorrupt keeps a corrupt replica if it is the best of its chunk. Another one stays where it is.
func (s *scan) addCorrupt(r *replica) {
	if old := s.best[r.id]; old == nil || better(&r.view.snapshot, &old.view.snapshot) {
		s.best[r.id] = r
	}
}

func fileReplica(v *volume, name chunkfile.Name, state chunk.State) *replica {
	r := &replica{id: name.ID, volume: v}
	r.view.state, r.view.Generation, r.view.Length = state, name.Generation, name.Length
	return r
}

// add keeps the better one of a chunk.
func (s *scan) add(r *replica) {
	old := s.best[r.id]
	if old != nil && !better(&r.view.snapshot, &old.view.snapshot) {
		r, old = old, r
	}
	if old != nil {
		s.surplus = append(s.surplus, old)
	}
	s.best[r.id] = r
}

// better orders two replicas of one chunk: any before a corrupt one, then the higher generation, then a file
// before a record (it was made from it), then sealed before open.
func better(one, two *snapshot) bool {
	switch {
	case (one.place.kind == aside) != (two.place.kind == aside):
		return one.place.kind != aside
	case one.Generation != two.Generation:
		return one.Generation > two.Generation
	case (one.place.kind == inRecord) != (two.place.kind == inRecord):
		return one.place.kind != inRecord
	}
	return one.state == chunk.Sealed && two.state != chunk.Sealed
}

// adopt takes a replica of a volume that comes back into the index of a store that runs, and reports it. A corrupt one
// stays where it is if there is another.
func (s *scan) adopt(found *replica) error {
	found.io.Lock()
	defer found.io.Unlock()
	state := found.view.state
	for {
		err := s.index.insert(found)
		if err == nil {
			break
		}
		if state == chunk.Corrupt {
			return nil // nobody needs it
		}
		if surplus, err := s.makeWay(found); err != nil || surplus {
			return err
		}
	}
	if state == chunk.Recovered {
		if err := s.recoverLocked(found); err != nil || found.gone || found.view.state == chunk.Corrupt {
			return err
		}
	}
	if state == chunk.Corrupt {
		found.reportLocked(Corrupt, "it was in quarantine")
	} else {
		found.reportLocked(Stored, "")
	}
	return nil
}

// makeWay decides between a replica that was found on a volume that comes back and the one that is in the index. Only
// what a sealed one of the same or a higher generation supersedes is struck: a copy under way is not one yet.
func (s *scan) makeWay(found *replica) (surplus bool, err error) {
	const op = "take replica back"
	here, err := s.index.lock(op, found.id)
	if err != nil {
		return false, nil // it has gone, or its volume has: nothing is in the way
	}
	defer here.io.Unlock()
	one, other := found.view.snapshot, here.view.snapshot
	switch {
	case other.state == chunk.Corrupt:
		return false, nil
	case other.state == chunk.Sealed && other.Generation >= one.Generation:
		return true, s.dropSurplus(found)
	case other.state == 0, one.state == chunk.Sealed && one.Generation >= other.Generation:
		if err := s.trash.takeLocked(here); err != nil {
			here.endSessionLocked()
			s.index.removeLocked(here)
		}
		return false, nil
	case other.state != chunk.Sealed && other.Generation > one.Generation:
		return true, s.quarantine.keep(found) // the open one went on from it
	}
	return false, chunkError(fault.Busy, op, found.id, "it is %s at generation %d on the disk that comes back, and "+
		"%s at generation %d here: a restart of the datanode decides which counts",
		one.state, one.Generation, other.state, other.Generation)
}

// dropSurplus sets a surplus file aside, or strikes a surplus record.
func (s *scan) dropSurplus(r *replica) error {
	if r.view.place.kind == inRecord {
		return pack.Found{Segment: r.view.place.segment, Record: r.record(r.view.snapshot)}.Drop()
	}
	return s.quarantine.keep(r)
}

// recoverReplica finds the verified prefix of a replica that was open when the store stopped, and cuts the
// file to it, durably, so that the next start finds the same. A replica that was never synced goes to the
// trash; one that lost synced bytes to quarantine. Error: one that concerns more than this replica.
func (s *scan) recoverReplica(replica *replica) error {
	replica.io.Lock()
	defer replica.io.Unlock()
	return s.recoverLocked(replica)
}

func (s *scan) recoverLocked(replica *replica) error {
	const op = "recover replica"
	file, err := replica.openLocked(op, true)
	if err != nil {
		return err
	}
	got, err := chunkfile.Recover(file, replica.id)
	if err != nil {
		s.files.Release(file)
	}
	switch {
	case errors.Is(err, chunkfile.ErrNeverSynced):
		replica.volume.logger.Info("replica was never synced and is dropped",
			"chunk", replica.id, "gen", replica.view.Generation)
		return s.trash.takeLocked(replica)
	case fault.KindOf(err) == fault.Version:
		return err
	case vfs.IsShortage(err):
		return diskError(op, replica.path(), replica.id, err)
	case err != nil:
		s.quarantine.putLocked(replica, err.Error())
		return nil
	}
	replica.disk = got.State
	replica.updateLocked(func(v *snapshot) {
		v.Length, v.Partial, v.readable, v.layout = got.Length, got.Partial, true, got.Layout
	})
	replica.tail, replica.file = chunkfile.NewAppender(file.File, replica.id, &replica.disk), file
	err = replica.cutLocked(op, got.Length, got.Partial)
	replica.endSessionLocked()
	if err != nil {
		return err
	}
	// The name may be there only because the machine did not stop.
	if err := replica.syncNameLocked(op); err != nil {
		return err
	}
	replica.volume.logger.Info("open replica recovered",
		"chunk", replica.id, "gen", replica.view.Generation, "length", got.Length)
	return nil
}
