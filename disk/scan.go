package disk

import (
	"errors"
	"path"
	"strings"
	"sync"

	"github.com/whispering-woods/ww/disk/chunkfile"
	"github.com/whispering-woods/ww/disk/pack"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// found is a replica's file that a scan met.
type found struct {
	volume *volume
	name   chunkfile.Name
	parked string     // relative path, if it is in quarantine
	packed pack.Found // its segment is nil for a file
}

// scan builds the index of a store that starts.
type scan struct {
	*env
	index      *index
	volumes    []*volume
	quarantine *quarantine
	trash      *trash
}

// run takes sealed replicas from their names, open ones by recovery, corrupt ones
// from the quarantine.
func (s *scan) run() error {
	best, surplus, err := s.list()
	if err != nil {
		return err
	}
	for _, f := range surplus {
		if f.packed.Segment == nil {
			err = s.quarantine.keep(f)
		} else {
			err = f.packed.Drop()
		}
		if err != nil {
			return err
		}
	}
	open := make(map[*volume][]*replica)
	for _, file := range best {
		replica := &replica{id: file.name.ID, volume: file.volume}
		replica.view.Generation, replica.view.Length = file.name.Generation, file.name.Length
		switch {
		case file.packed.Segment != nil:
			replica.view.state, replica.view.readable, replica.view.layout = chunk.Sealed, true,
				chunkfile.Layout{ChunkSize: file.packed.ChunkSize}
			replica.view.Partial, replica.view.place = file.packed.Sum, recordAt(file.packed.Segment, file.packed.Offset)
		case file.parked != "":
			replica.view.state, replica.view.place = chunk.Corrupt, place{kind: aside, path: file.parked}
		case file.name.Sealed:
			replica.view.state = chunk.Sealed
		default:
			replica.view.state = chunk.Recovered
			open[file.volume] = append(open[file.volume], replica)
		}
		if err := s.index.insert(replica); err != nil {
			return err
		}
	}
	return s.recoverAll(open)
}

// list reads the directories of all volumes. best holds one file per chunk,
// surplus the others: two files of one chunk are not what this package leaves,
// but people copy files.
func (s *scan) list() (best map[chunk.ID]found, surplus []found, err error) {
	best = make(map[chunk.ID]found)
	keep := func(f found) {
		old, twice := best[f.name.ID]
		if twice && !f.betterThan(old) {
			f, old = old, f
		}
		if twice {
			surplus = append(surplus, old)
		}
		best[f.name.ID] = f
	}
	for _, volume := range s.volumes {
		for last := range 256 {
			directory := path.Join(chunkfile.Directory, chunkfile.Shard(byte(last)))
			entries, err := volume.fs.ReadDir(volume.path(directory))
			if err != nil {
				return nil, nil, diskError("list replicas", volume.path(directory), chunk.ID{}, err)
			}
			for _, entry := range entries {
				name, ok := chunkfile.ParseName(entry.Name())
				if !ok || entry.IsDir() || name.Relative() != path.Join(directory, entry.Name()) {
					volume.logger.Warn("file is not a replica and is left alone", "path", volume.path(path.Join(directory,
						entry.Name())))
					continue
				}
				if name.Hidden {
					volume.logger.Info("unfinished copy is dropped", "chunk", name.ID, "gen", name.Generation)
					if err := volume.fs.Remove(volume.path(name.Relative())); err != nil {
						return nil, nil, diskError("drop unfinished copy", volume.path(name.Relative()), name.ID, err)
					}
					continue
				}
				keep(found{volume: volume, name: name})
			}
		}
	}
	records, err := s.scanPacks()
	if err != nil {
		return nil, nil, err
	}
	for i, v := range s.volumes {
		for _, n := range records[i] {
			keep(found{volume: v, packed: n, name: chunkfile.Name{ID: n.ID, Generation: n.Generation, Sealed: true,
				Length: n.Length}})
		}
	}
	for _, v := range s.volumes {
		entries, err := v.fs.ReadDir(v.path(quarantineDirectory))
		if err != nil {
			return nil, nil, diskError("list quarantine", v.path(quarantineDirectory), chunk.ID{}, err)
		}
		for _, entry := range entries {
			parked, ok := chunkfile.ParseParkedName(entry.Name())
			if !ok {
				if !strings.HasSuffix(entry.Name(), forgottenSuffix) {
					v.logger.Warn("file in quarantine is not a replica", "path", v.path(path.Join(quarantineDirectory, entry.Name())))
				}
				continue
			}
			f := found{volume: v, name: parked.Name, parked: path.Join(quarantineDirectory, entry.Name())}
			if old, twice := best[f.name.ID]; !twice || f.betterThan(old) {
				best[f.name.ID] = f
			}
		}
	}
	return best, surplus, nil
}

// scanPacks reads the segments of all volumes, one volume beside the other.
func (s *scan) scanPacks() ([][]pack.Found, error) {
	var wait sync.WaitGroup
	living := make([][]pack.Found, len(s.volumes))
	failures := make([]error, len(s.volumes))
	for i, v := range s.volumes {
		wait.Go(func() { living[i], failures[i] = v.packs.Load() })
	}
	wait.Wait()
	return living, errors.Join(failures...)
}

// betterThan orders two replicas of one chunk: any before a corrupt one, then
// the higher generation, then a file before a record (it was made from it), then
// sealed before open.
func (f found) betterThan(other found) bool {
	switch {
	case (f.parked == "") != (other.parked == ""):
		return f.parked == ""
	case f.name.Generation != other.name.Generation:
		return f.name.Generation > other.name.Generation
	case (f.packed.Segment == nil) != (other.packed.Segment == nil):
		return f.packed.Segment == nil
	}
	return f.name.Sealed && !other.name.Sealed
}

// recoverAll recovers the open replicas, one volume beside the other.
func (s *scan) recoverAll(open map[*volume][]*replica) error {
	var wait sync.WaitGroup
	failures := make([]error, len(s.volumes))
	for i, v := range s.volumes {
		if len(open[v]) == 0 {
			continue
		}
		wait.Go(func() {
			for _, r := range open[v] {
				if err := s.recoverReplica(r); err != nil {
					failures[i] = err
					return
				}
			}
		})
	}
	wait.Wait()
	return errors.Join(failures...)
}

// recoverReplica finds the verified prefix of a replica that was open when the
// store stopped, and cuts the file to it, durably, so that the next start finds
// the same. A replica that was never synced goes to the trash; one that lost
// synced bytes to quarantine. Error: one that concerns more than this replica.
func (s *scan) recoverReplica(replica *replica) error {
	const op = "recover replica"
	replica.io.Lock()
	defer replica.io.Unlock()
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
		replica.volume.logger.Info("replica was never synced and is dropped", "chunk", replica.id, "gen",
			replica.view.Generation)
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
	replica.volume.logger.Info("open replica recovered", "chunk", replica.id, "gen", replica.view.Generation, "length",
		got.Length)
	return nil
}
