package disk

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/whispering-woods/ww/disk/filecache"
	"github.com/whispering-woods/ww/disk/pack"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// Store is the chunk store of one datanode. Safe for concurrent use.
type Store struct {
	options   Options
	fs        vfs.FS
	volumes   []*volume
	volumeIDs []string
	files     *filecache.Cache
	trash     *janitor
	compactor *pack.Compactor
	group     sync.WaitGroup // workers, janitor, compactor
	packers   sync.WaitGroup

	identity struct {
		sync.Mutex
		datanode.Identity
	}
	index struct {
		sync.RWMutex
		replicas map[chunk.ID]*replica
		// Volumes that Do chose for chunks that may be created soon. Bounded by
		// the workers' queues.
		placing map[chunk.ID][]*volume
		fences  fences
	}
	closing sync.RWMutex // read-held while a task is queued
	closed  bool         // guarded by closing
}

// Open opens the volumes, creating what is new, builds the index from the file
// names, and recovers replicas that were open to a verified prefix
// (chunk.Recovered). It reads the whole of each of those, and nothing of the
// sealed ones.
//
// Errors: fault.Invalid (options; a volume of another node or cluster),
// fault.Busy (another process has a volume), fault.CorruptData,
// fault.Version, fault.Disk.
func Open(o Options) (_ *Store, err error) {
	o, err = o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{options: o, fs: o.FS, files: filecache.New(idleFilesMax)}
	s.index.replicas = make(map[chunk.ID]*replica)
	s.index.placing = make(map[chunk.ID][]*volume)
	defer func() {
		if err != nil {
			s.files.Close()
			err = errors.Join(err, s.unlockVolumes())
		}
	}()
	for _, directory := range o.Directories {
		v, err := openVolume(o, directory, s.files)
		if err != nil {
			return nil, err
		}
		s.volumes = append(s.volumes, v)
	}
	if err := s.settleIdentity(); err != nil {
		return nil, err
	}
	s.compactor = pack.NewCompactor(s, o.Clock)
	for _, v := range s.volumes {
		v.packs = pack.New(pack.Options{
			FS: v.fs, Directory: v.path(packsDirectory), Files: s.files, Logger: v.logger, Clock: o.Clock, Compactor: s.compactor,
			SegmentBytes: o.PackSegmentBytes, ZeroBytes: o.packZeroBytes, TrashDelay: o.TrashDelay,
			Random: s.random, OnError: v.noteError,
			Expire: func(g *pack.Segment, bytes int64, at time.Time) { s.trash.addRecord(g, bytes, at) },
		})
	}
	if s.trash, err = newJanitor(s); err != nil {
		return nil, err
	}
	if err := s.scan(); err != nil {
		return nil, err
	}
	s.start()
	return s, nil
}

// settleIdentity makes all volumes agree, gives new ones their ids, and writes
// what changed.
func (s *Store) settleIdentity() error {
	all, err := agree(s.volumes)
	if err != nil {
		return err
	}
	if all.NodeID == "" {
		if all.NodeID, err = newID(s.options.Random); err != nil {
			return err
		}
	}
	seen := make(map[string]string)
	for _, v := range s.volumes {
		next := v.identity.with(all)
		if next.VolumeID == "" {
			if next.VolumeID, err = newID(s.options.Random); err != nil {
				return err
			}
		}
		if other, twice := seen[next.VolumeID]; twice {
			return fault.New(fault.Invalid, "open chunk store", "%s and %s have the same volume id %s: one is a copy of the other", other, v.directory, next.VolumeID)
		}
		seen[next.VolumeID] = v.directory
		next.Sum = v.identity.Sum
		if next != v.identity {
			if err := writeIdentity(s.fs, v.directory, next); err != nil {
				return err
			}
			v.identity = next
		}
		s.volumeIDs = append(s.volumeIDs, next.VolumeID)
	}
	s.identity.Identity = all
	return nil
}

// start starts the goroutines.
func (s *Store) start() {
	for _, v := range s.volumes {
		s.packers.Add(1)
		go v.packs.Run(&s.packers)
		for range s.options.WorkersPerVolume {
			w := newWorker(s.options.QueueDepth, &s.group)
			v.workers = append(v.workers, w)
			s.group.Add(1)
			go w.run()
		}
	}
	s.group.Add(1)
	go s.trash.run(&s.group)
	if !s.options.noCompactor {
		s.group.Add(1)
		go s.compactor.Run(&s.group)
	}
}

// Close refuses new work, finishes what is queued, stops all goroutines and
// releases the volumes. Open replicas stay open on the disk, unsynced. Readers
// keep their files until they are closed. A second Close does nothing.
func (s *Store) Close() error {
	s.closing.Lock()
	if s.closed {
		s.closing.Unlock()
		return nil
	}
	s.closed = true
	for _, v := range s.volumes {
		for _, w := range v.workers {
			close(w.queue)
		}
	}
	s.closing.Unlock()
	s.trash.stop()
	s.compactor.Stop()
	s.group.Wait()
	for _, v := range s.volumes {
		v.packs.Close()
	}
	s.packers.Wait()
	for _, r := range s.all() {
		r.io.Lock()
		s.endSessionLocked(r)
		r.io.Unlock()
	}
	s.files.Close()
	return s.unlockVolumes()
}

func (s *Store) unlockVolumes() error {
	var failures []error
	for _, v := range s.volumes {
		if err := v.lock.Close(); err != nil {
			failures = append(failures, diskError("unlock volume", v.directory, chunk.ID{}, err))
		}
	}
	return errors.Join(failures...)
}

func (s *Store) lookup(id chunk.ID) *replica {
	s.index.RLock()
	defer s.index.RUnlock()
	return s.index.replicas[id]
}

func (s *Store) all() []*replica {
	s.index.RLock()
	defer s.index.RUnlock()
	list := make([]*replica, 0, len(s.index.replicas))
	for _, r := range s.index.replicas {
		list = append(list, r)
	}
	return list
}

// insert puts a new replica into the index; only a corrupt one may be there, and
// no fence in its way.
func (s *Store) insert(r *replica) error {
	s.index.Lock()
	defer s.index.Unlock()
	const op = "create replica"
	old := s.index.replicas[r.id]
	if old != nil {
		if v := old.snapshot(); v.state != chunk.Corrupt {
			return chunkError(fault.Exists, op, r.id, "there is a replica, %s at generation %d, %d bytes", v.state, v.Generation, v.Length)
		}
	}
	if generation := r.view.Generation; !s.index.fences.allows(r.id, generation) {
		return chunkError(fault.StaleGeneration, op, r.id, "its generation is %d, a recovery that found nothing here was for %d",
			generation, s.index.fences.generations[r.id])
	}
	if old != nil {
		old.volume.replicas.Add(-1)
	}
	s.index.replicas[r.id] = r
	r.volume.replicas.Add(1)
	return nil
}

// drop takes a replica out of the index, if it is the one there.
func (s *Store) drop(r *replica) {
	s.index.Lock()
	defer s.index.Unlock()
	if s.index.replicas[r.id] == r {
		delete(s.index.replicas, r.id)
		r.volume.replicas.Add(-1)
	}
}

// Replicas lists all replicas, corrupt ones too, in no order: a snapshot for a
// full report.
func (s *Store) Replicas() []chunk.Replica {
	list := make([]chunk.Replica, 0, len(s.volumes))
	for _, r := range s.all() {
		if v := r.snapshot(); v.state != 0 {
			list = append(list, r.describe(v))
		}
	}
	return list
}

// Stat describes a replica; of an open one, what readers see. Error:
// fault.NotFound.
func (s *Store) Stat(id chunk.ID) (chunk.Replica, error) {
	if r := s.lookup(id); r != nil {
		if v := r.snapshot(); v.state != 0 {
			return r.describe(v), nil
		}
	}
	return chunk.Replica{}, notFound("stat replica", id)
}

// random fills b; the packers of several volumes share the source.
func (s *Store) random(b []byte) error {
	s.identity.Lock()
	defer s.identity.Unlock()
	if _, err := io.ReadFull(s.options.Random, b); err != nil {
		return &fault.Error{Kind: fault.Internal, Op: "make segment key", Err: err}
	}
	return nil
}

// Claim locks the replica of a record for the compactor.
func (s *Store) Claim(g *pack.Segment, rec pack.Record) pack.Claim {
	r := s.lookup(rec.ID)
	if r == nil {
		return nil
	}
	r.io.Lock()
	if r.gone || r.view.segment != g || r.view.at != rec.Offset {
		r.io.Unlock()
		return nil
	}
	return claim{s, r}
}

// claim is a packed replica, with its io lock, while its record is moved.
type claim struct {
	store   *Store
	replica *replica
}

func (c claim) Moved(to *pack.Segment, offset int64) {
	c.replica.updateLocked(func(v *snapshot) { v.segment, v.at = to, offset })
}

func (c claim) Corrupt(reason error) error {
	if c.replica.view.state != chunk.Corrupt {
		c.store.quarantineLocked(c.replica, reason.Error())
	}
	if c.replica.view.segment == nil {
		return nil // it is out of the way
	}
	return reason
}

func (c claim) Release() { c.replica.io.Unlock() }
