package disk

import (
	"errors"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/whispering-woods/ww/disk/filecache"
	"github.com/whispering-woods/ww/disk/pack"
	"github.com/whispering-woods/ww/disk/scrub"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
	"github.com/whispering-woods/ww/internal/vfs"
)

// Store is the chunk store of one datanode. Safe for concurrent use. Its methods are in this file; its parts
// do the work.
type Store struct {
	*env
	gate       *gate
	index      *index
	volumes    *volumes
	membership *membership
	changes    *changes
	quarantine *quarantine
	trash      *trash
	restorer   *restorer
	sessions   *sessions
	recovery   *recovery
	readers    *readers
	verifier   *verifier
	compactor  *pack.Compactor
	losses     *losses
	monitor    *monitor
	group      sync.WaitGroup // workers, scrubbers, compactors, trash, losses, monitor
	packers    sync.WaitGroup
}

// env is what all parts of a store share.
type env struct {
	options Options
	fs      vfs.FS
	files   *filecache.Cache
}

// Open opens the volumes, creating what is new, builds the index from the file names, and recovers replicas that were
// open to a verified prefix (chunk.Recovered). It reads the whole of each of those, and nothing of the sealed ones.
//
// Errors: fault.Invalid (options; a volume of another node or cluster), fault.Busy (another process has a
// volume), fault.CorruptData, fault.Version, fault.Disk.
func Open(options Options) (_ *Store, err error) {
	options, err = options.withDefaults()
	if err != nil {
		return nil, err
	}
	store := newStore(options)
	defer func() {
		if err != nil {
			store.files.Close()
			err = errors.Join(err, store.volumes.unlock())
		}
	}()
	roll, err := store.findVolumes()
	if err != nil {
		return nil, err
	}
	starting := &starting{env: store.env, volumes: store.volumes}
	if err := starting.open(roll); err != nil {
		return nil, err
	}
	if err := store.membership.settle(roll); err != nil {
		return nil, err
	}
	for _, v := range store.volumes.all() {
		store.equip(v)
	}
	for _, v := range inService(store.volumes.all()) {
		if err := starting.tolerate(v, store.trash.load(v)); err != nil {
			return nil, err
		}
	}
	start := &scan{env: store.env, index: store.index, starting: starting, quarantine: store.quarantine,
		trash: store.trash}
	if err := start.run(); err != nil {
		return nil, err
	}
	store.trash.sort()
	for _, v := range inService(store.volumes.all()) {
		store.patrol(v)
	}
	store.start()
	return store, nil
}

// findVolumes describes the volumes: those that the options name and those that were added while an earlier store ran,
// without removed ones.
func (s *Store) findVolumes() (*roll, error) {
	var list []*volume
	for _, directory := range s.options.Directories {
		list = append(list, newVolume(s.env, directory, s.lost))
	}
	roll := callRoll(s.fs, list)
	for news := true; news; {
		news = false
		for _, directory := range roll.added() {
			if !slices.ContainsFunc(list, func(v *volume) bool { return path.Clean(v.directory) == directory }) {
				v := newVolume(s.env, directory, s.lost)
				v.added = true
				roll.read(v)
				if !roll.again(list, v) {
					list, news = append(list, v), true
				}
			}
		}
	}
	list = slices.DeleteFunc(list, func(v *volume) bool {
		record, left := roll.left(v.directory)
		if left {
			v.logger.Warn("a disk that was removed is not used; `ww admin disk add` takes it back, or an empty one in "+
				"its place", "removed", record.VolumeID)
		}
		return left
	})
	for _, v := range list {
		v.draining.Store(roll.drains(v.directory))
	}
	s.volumes.set(list)
	if len(list) == 0 {
		return nil, fault.New(fault.Invalid, "open chunk store", "all of its disks (%s) were removed",
			strings.Join(s.options.Directories, ", "))
	}
	return roll, nil
}

// equip gives a volume what it needs to hold replicas.
func (s *Store) equip(v *volume) {
	v.packs = pack.New(pack.Options{FS: v.fs, Directory: v.path(packsDirectory), Files: s.files,
		Logger: v.logger, Clock: s.options.Clock,
		SegmentBytes: s.options.PackSegmentBytes, ZeroBytes: s.options.packZeroBytes,
		TrashDelay: s.options.TrashDelay, Random: s.membership.random, OnError: v.noteError,
		Expire: func(record pack.Found, at time.Time) { s.trash.expire(v, record, at) }})
}

// patrol gives a volume its scrubber.
func (s *Store) patrol(v *volume) {
	v.scrubber = scrub.New(scrub.Options{
		Volume: &patrol{volume: v, index: s.index, quarantine: s.quarantine},
		FS:     v.fs, Path: v.path(scrubName), Gone: v.health.Gone(), Clock: s.options.Clock, Logger: v.logger,
		Period: s.options.ScrubPeriod, Bandwidth: s.options.ScrubBandwidth})
}

// newStore connects the parts of a store.
func newStore(options Options) *Store {
	shared := &env{options: options, fs: options.FS, files: filecache.New(idleFilesMax)}
	store := &Store{env: shared, gate: &gate{}, index: newIndex(), volumes: &volumes{env: shared},
		quarantine: &quarantine{shared}}
	unpacker := &unpacker{env: shared, index: store.index, quarantine: store.quarantine}
	store.trash = newTrash(shared, store.index)
	store.sessions = &sessions{env: shared, gate: store.gate, index: store.index, volumes: store.volumes,
		quarantine: store.quarantine, trash: store.trash, unpacker: unpacker}
	store.recovery = &recovery{store.sessions}
	store.restorer = &restorer{env: shared, index: store.index, trash: store.trash, unpacker: unpacker,
		scan: &scan{env: shared, index: store.index, quarantine: store.quarantine, trash: store.trash}}
	store.readers = &readers{env: shared, index: store.index, quarantine: store.quarantine, unpacker: unpacker}
	store.verifier = &verifier{readers: store.readers, quarantine: store.quarantine}
	store.monitor = &monitor{env: shared, volumes: store.volumes, done: make(chan struct{}),
		probed: make(map[*volume]probed), siblings: siblings{records: make(map[*volume]*sibling)}}
	store.losses = &losses{env: shared, index: store.index, done: make(chan struct{}),
		waiting: make(chan *volume, limits.VolumesPerNodeMax+changesMax)}
	store.membership = &membership{env: shared, volumes: store.volumes}
	store.changes = &changes{Store: store}
	store.monitor.drained, store.monitor.release = store.changes.finish, store.changes.releaseAll
	store.volumes.set(nil)
	store.compactor = pack.NewCompactor(&claims{index: store.index, quarantine: store.quarantine}, options.Clock)
	return store
}

// lost is called once for each volume that goes out of service; the channel has room for all.
func (s *Store) lost(v *volume) { s.losses.waiting <- v }

// start starts the goroutines.
func (s *Store) start() {
	for _, v := range s.volumes.all() {
		s.staff(v)
		s.launch(v)
	}
	s.group.Go(s.trash.run)
	s.group.Go(s.losses.run)
	if !s.options.noMonitor {
		s.group.Go(s.monitor.run)
	}
}

// staff gives a volume its workers.
func (s *Store) staff(v *volume) {
	v.workers, v.copiers = s.startWorkers(s.options.WorkersPerVolume, s.options.QueueDepth),
		s.startWorkers(copyWorkers, copyQueueDepth)
}

// launch starts what works on a volume by itself, once the index knows what is on it.
func (s *Store) launch(v *volume) {
	s.packers.Go(v.packs.Run)
	if v.scrubber != nil {
		s.group.Go(v.scrubber.Run)
	}
	if !s.options.noCompactor {
		s.group.Go(func() { s.compactor.Run(v.packs) })
	}
}

func (s *Store) startWorkers(count, queueDepth int) []*worker {
	workers := make([]*worker, count)
	for i := range workers {
		workers[i] = &worker{queue: make(chan task, queueDepth)}
		s.group.Go(workers[i].run)
	}
	return workers
}

// Close refuses new work, finishes what is queued, stops all goroutines and releases the volumes. Open replicas
// stay open on the disk, unsynced. Readers keep their files until they are closed. A second Close does nothing.
//
// A disk that hangs is waited for 10 s. Then nothing begins on any volume any more, and Close returns. Error:
// fault.Disk, which names each volume on which an operation is under way; it stays locked while the process lives.
func (s *Store) Close() error {
	if !s.refuse() {
		return nil
	}
	patience := s.options.Clock.NewTimer(closePatience)
	defer patience.Stop()
	ended := make(chan struct{})
	go func() { // it outlives Close only when a disk hangs
		s.finish()
		close(ended)
	}()
	select {
	case <-ended:
		return s.volumes.unlock()
	case <-patience.C():
		return s.volumes.abandon()
	}
}

// refuse refuses new work from now on; false: it did before.
func (s *Store) refuse() bool {
	s.gate.Lock()
	defer s.gate.Unlock()
	if s.gate.closed {
		return false
	}
	s.gate.closed = true
	for _, v := range s.volumes.ever() {
		for _, w := range slices.Concat(v.workers, v.copiers) {
			close(w.queue)
		}
	}
	return true
}

// finish finishes what is queued and stops all goroutines. It waits for the disks.
func (s *Store) finish() {
	for _, v := range s.volumes.ever() {
		if v.scrubber != nil {
			v.scrubber.Stop()
		}
	}
	s.trash.stop()
	s.compactor.Stop()
	s.monitor.stop()
	s.losses.stop()
	s.group.Wait()
	s.trash.group.Wait()
	s.monitor.group.Wait()
	s.membership.close()
	for _, v := range s.volumes.ever() {
		v.packs.Close()
	}
	s.packers.Wait()
	for _, r := range s.index.all() {
		r.io.Lock()
		r.endSessionLocked()
		r.io.Unlock()
	}
	s.files.Close()
}

// Create makes an empty open replica and its Writer. Nothing is durable before the first sync. A corrupt
// replica in quarantine does not stand in the way; a hidden one may be written beside a stale replica, which stays
// until the new one is sealed or published, and then goes to the trash in the same moment.
//
// Does file I/O: call it from Do. Errors: fault.Exists, fault.StaleGeneration (a recovery above gen found no replica
// here), fault.Invalid, fault.NoSpace (also when only the reserve is left), fault.Disk.
func (s *Store) Create(id chunk.ID, gen chunk.Generation, o CreateOptions) (*Writer, error) {
	return s.sessions.create(id, gen, o)
}

// CreateSmall is a Create that does no I/O and does not wait, so that an event loop may call it: for a
// replica that stays in memory until it is a record. ok is false, and nothing has happened, if this one would
// not, or its volume has to be looked for; then call Create. Errors: fault.Exists, fault.StaleGeneration.
func (s *Store) CreateSmall(id chunk.ID, gen chunk.Generation, o CreateOptions) (w *Writer, ok bool, err error) {
	return s.sessions.createSmall(id, gen, o)
}

// Reopen makes a sealed or recovered replica open again, at generation gen, to append at length, which must
// be its length. previous is the lowest generation that the caller accepts; a replica that an earlier attempt
// opened under a generation up to gen is taken over. The bytes of the last block are verified before anything
// is built on them. The new state is durable on return.
//
// Does file I/O: call it from Do. Errors: fault.NotFound, fault.StaleGeneration, fault.Invalid (length),
// fault.CorruptData (quarantined), fault.Disk.
func (s *Store) Reopen(id chunk.ID, previous, gen chunk.Generation, length int64) (*Writer, error) {
	return s.sessions.takeOver("reopen replica", id, takeOver{previous: previous, generation: gen, length: length})
}

// Resume goes on writing a replica after its pipeline broke: the bytes beyond length are cut, the generation
// becomes gen, and the Writer before, if any, is fenced. previous is the lowest generation that the caller
// accepts. A replica that was sealed when the pipeline broke is opened again. The new state and the cut are
// durable on return; bytes that were not synced stay unsynced.
//
// Does file I/O: call it from Do. Errors: as Reopen; fault.Invalid if the replica is shorter than length.
func (s *Store) Resume(id chunk.ID, previous, gen chunk.Generation, length int64) (*Writer, error) {
	want := takeOver{previous: previous, generation: gen, length: length, cut: true}
	return s.sessions.takeOver("resume replica", id, want)
}

// Do runs f on the worker of a chunk, behind the jobs queued there, and does not wait for it. A chunk that is
// not here yet gets its volume now, and a Create inside f keeps to it. Errors: fault.Busy when the queue is
// full, fault.Closed; then f never runs.
func (s *Store) Do(id chunk.ID, f func()) error { return s.sessions.do(id, f) }

// BeginRecovery is the first half of bringing the replicas of a chunk to one length: it fences the writer, syncs
// what there is, and promises, durably, that nobody below newGen writes the replica any more. It returns the
// replica as it is, with its verified length; wasRestarted says that its node restarted while it was open, so that
// bytes that were only flushed may be missing. The same newGen may come again. Does file I/O.
//
// Without a replica it promises that none below newGen is created; see fences.
//
// Errors: fault.NotFound; fault.StaleGeneration if the replica is at newGen or above, or promised a higher
// one; fault.CorruptData; fault.Disk.
func (s *Store) BeginRecovery(id chunk.ID, newGen chunk.Generation) (_ chunk.Replica, wasRestarted bool, err error) {
	return s.recovery.begin(id, newGen)
}

// FinishRecovery is the second half: it cuts the replica to the length that was agreed, at most its own, and
// seals it at newGen, durably. BeginRecovery must have promised newGen, possibly before a restart. The same
// call again does nothing. Does file I/O.
//
// Errors: fault.NotFound, fault.StaleGeneration, fault.Invalid (length), fault.CorruptData, fault.Disk.
func (s *Store) FinishRecovery(id chunk.ID, newGen chunk.Generation, length int64) error {
	return s.recovery.finish(id, newGen, length)
}

// OpenReader opens a replica of generation minGen or higher. The first reader of a replica since the start
// reads and checks its header. Does file I/O. Errors: fault.NotFound, fault.StaleGeneration,
// fault.CorruptData (the replica is in quarantine), fault.Disk.
func (s *Store) OpenReader(id chunk.ID, minGen chunk.Generation) (*Reader, error) {
	return s.readers.open(id, minGen)
}

// Digest is one xxh3-64 over the replica's stored block sums, the sum of its partial last block if there is
// one, and its length (8 bytes, little endian): equal bytes give equal digests. It does not read the data.
// Errors: as OpenReader and Range.
func (s *Store) Digest(id chunk.ID) (uint64, error) { return s.readers.digest(id) }

// VerifyReplica reads a replica and compares it with its sums: what to do when a reader reports it. A mismatch puts the
// replica in quarantine and returns fault.CorruptData. An open replica is verified as far as it is visible, and may be
// written meanwhile. Other errors: fault.NotFound; fault.Disk if it cannot be read; fault.Busy if it is cut repeatedly.
//
// Reads the whole replica on the caller's goroutine.
func (s *Store) VerifyReplica(id chunk.ID) error { return s.verifier.verify(id) }

// Scrub has every replica verified from now on, at once, and does not wait. It returns, for each volume in service, the
// number of the pass that does it: it is over when Volumes counts so many.
func (s *Store) Scrub() map[string]uint64 {
	passes := make(map[string]uint64, len(s.volumes.all()))
	for _, v := range inService(s.volumes.all()) {
		if v.scrubber != nil {
			passes[v.id] = v.scrubber.Request()
		}
	}
	return passes
}

// ScrubReplica is VerifyReplica as the scrub does it: header, name and record count too, and the file is read from the
// disk.
func (s *Store) ScrubReplica(id chunk.ID) error {
	replica := s.index.lookup(id)
	if replica == nil {
		return notFound(opScrub, id)
	}
	if err := replica.volume.outError(opScrub, id); err != nil {
		return err
	}
	result, err := replica.volume.scrubber.Verify(id)
	switch {
	case err != nil:
		return chunkError(fault.Closed, opScrub, id, "%v", err)
	case result.Bad:
		return chunkError(fault.CorruptData, opScrub, id, "the replica is corrupt and in quarantine")
	case !result.Verified:
		return chunkError(fault.Busy, opScrub, id, "the replica is in quarantine already, or being changed")
	}
	return nil
}

// Quarantine takes a replica out of service for ever: it is reported as corrupt, its file is moved to the
// volume's quarantine and never deleted. A writer is fenced. Errors: fault.NotFound; fault.StaleGeneration if
// the replica has another generation than gen. A corrupt one again: no error.
func (s *Store) Quarantine(id chunk.ID, gen chunk.Generation, reason string) error {
	const op = "quarantine replica"
	replica, err := s.index.lock(op, id)
	if err != nil {
		return err
	}
	defer replica.io.Unlock()
	switch {
	case replica.view.state == 0:
		return notFound(op, id)
	case replica.view.Generation != gen:
		return replica.anotherGeneration(op, gen)
	case replica.view.state == chunk.Corrupt:
		return nil
	}
	if err := s.sessions.unpacker.materialiseLocked(replica); err != nil {
		return err
	}
	s.quarantine.putLocked(replica, reason)
	return nil
}

// Delete takes a replica out of service: from now on it is not found, and its file waits in the trash for
// Options.TrashDelay. A writer is fenced; readers finish. The move is not synced: after a power failure the
// replica may be back. A corrupt replica is forgotten, its file stays in quarantine.
//
// Errors: fault.NotFound; fault.StaleGeneration if the replica has another generation than gen; fault.Disk,
// and the replica stays.
func (s *Store) Delete(id chunk.ID, gen chunk.Generation) error {
	const op = "delete replica"
	replica, err := s.index.lockAt(op, id, gen)
	if err != nil {
		return err
	}
	defer replica.io.Unlock()
	if replica.view.Generation != gen {
		return replica.anotherGeneration(op, gen)
	}
	if err := s.trash.takeLocked(replica); err != nil {
		return err
	}
	if !replica.view.hidden { // else nobody knows that it was there
		replica.reportLocked(Removed, "")
	}
	return nil
}

// Trash lists deleted replicas that can be restored, at most so many, in the order in which their room becomes free:
// those behind a number (0: from the start), of one chunk or (zero id) of all. What is newer may go sooner than its
// time: a record goes with its segment when that is compacted.
func (s *Store) Trash(of chunk.ID, after uint64, most int) []Trashed {
	return s.trash.list(of, after, most)
}

// Restore brings a deleted replica back, durably, and reports it like one that a start finds: its bytes are compared
// with their sums by whoever reads it. One that was open is recovered. Does file I/O.
//
// Errors: fault.NotFound if it is not in the trash; fault.Exists if there is a replica of its chunk;
// fault.StaleGeneration (a recovery above its generation found nothing here); fault.Invalid (a copy that was never
// whole); fault.CorruptData; fault.NoSpace; fault.Disk.
func (s *Store) Restore(id chunk.ID, gen chunk.Generation, number uint64) error {
	return s.restorer.restore(id, gen, number)
}

// EmptyTrash gives the room of a deleted replica free now. That of a record is free when its segment is compacted. Not
// durable: after a power failure it may be in the trash again. Errors: fault.NotFound, fault.Disk.
func (s *Store) EmptyTrash(id chunk.ID, gen chunk.Generation, number uint64) error {
	return s.trash.empty(id, gen, number)
}

// Volumes describes the volumes, in the order of Options.Directories. It asks the file systems for their free space.
func (s *Store) Volumes() []datanode.VolumeState { return s.volumes.describe() }

// OutOfService describes the volumes that are out of service, without asking their disks; all is the number of volumes.
func (s *Store) OutOfService() (out []datanode.VolumeState, all int) {
	volumes := s.volumes.all()
	for _, v := range volumes {
		if v.health.Out() {
			out = append(out, v.describe())
		}
	}
	return out, len(volumes)
}

// AddDisk takes a directory as a further volume, durably: a later Open uses it too, whether the options name it or not.
// It is there, and empty; one that belongs to this node, because it was removed, is read, and only then used. One that
// is a volume in service already: no error.
//
// Errors: fault.Invalid (it is not there, not empty, inside or above a volume, of another node or cluster; too many
// volumes), fault.Exists (its volume is out of service), fault.NoSpace, fault.Busy (another process has it; a disk does
// not answer; another change is under way), fault.CorruptData, fault.Version, fault.Disk. After one of the last two it
// may be used by a later Open.
func (s *Store) AddDisk(directory string) (datanode.VolumeState, error) {
	return s.changes.add("add disk", directory)
}

// RemoveDisk takes a volume out, durably: no later Open uses it, until it is added again. Its files stay. disk is its
// directory, its id, or the beginning of that. One that is out of service is removed on return. One that works drains
// first, as Volumes shows: nothing new goes there, its sealed replicas are reported as Leaving, and when each has been
// deleted, or has another one here in its place, it is removed by itself. The same again does nothing.
//
// Errors: fault.NotFound, fault.Invalid (disk means more than one), fault.TooFewNodes (no other one would take new
// replicas), fault.Busy, fault.Disk.
func (s *Store) RemoveDisk(disk string) (datanode.VolumeState, error) { return s.changes.remove(disk) }

// KeepDisk takes the order to remove a disk back while that drains. Errors: as RemoveDisk; fault.Exists if it is
// removed.
func (s *Store) KeepDisk(disk string) (datanode.VolumeState, error) { return s.changes.keep(disk) }

// ReplaceDisk is RemoveDisk, unless that was done, and then AddDisk of an empty directory; empty: the same directory.
func (s *Store) ReplaceDisk(disk, directory string) (datanode.VolumeState, error) {
	return s.changes.replace(disk, directory)
}

// VolumeOf is the id of the volume that a replica of a chunk is on, in service or not; "": there is none. No I/O.
func (s *Store) VolumeOf(id chunk.ID) string {
	if r := s.index.lookup(id); r != nil {
		return r.volume.id
	}
	return ""
}

// Identity is who the volumes belong to.
func (s *Store) Identity() datanode.Identity { return s.membership.identity() }

// Join binds the store to a cluster for ever, durably. Joining the same cluster again does nothing; another
// one is refused with fault.Invalid. Errors also: fault.Closed.
func (s *Store) Join(clusterID string) error { return s.membership.join(clusterID) }

// ObserveEpoch notes the epoch and txid of a namenode, durably when either is new, which costs two file syncs
// per volume. A lower epoch than the highest seen is refused with fault.Fenced, and everything after
// Close with fault.Closed.
func (s *Store) ObserveEpoch(epoch, txid uint64) error { return s.membership.observe(epoch, txid) }

// Replicas lists all replicas, corrupt ones too, of the volumes in service, in no order: a snapshot for a full report.
func (s *Store) Replicas() []chunk.Replica {
	list := make([]chunk.Replica, 0, len(s.volumes.all()))
	for _, r := range s.index.all() {
		if v := r.snapshot(); v.state != 0 && !r.volume.health.Out() {
			list = append(list, r.describe(v))
		}
	}
	return list
}

// Announce reports what there is of a chunk, as an event in order with the others of its replica: the replica, or that
// there is none of this generation. It waits for what is being done to the replica.
func (s *Store) Announce(id chunk.ID, gen chunk.Generation) {
	s.index.announce(id, func() {
		absent := chunk.Replica{ID: id, Generation: gen}
		s.options.OnEvent(Event{Kind: Removed, Replica: absent, Reason: "it is not here"})
	})
}

// Stat describes a replica; of an open one, what readers see. Error: fault.NotFound, also if its volume is out of
// service.
func (s *Store) Stat(id chunk.ID) (chunk.Replica, error) {
	if r := s.index.lookup(id); r != nil && !r.volume.health.Out() {
		if v := r.snapshot(); v.state != 0 {
			return r.describe(v), nil
		}
	}
	return chunk.Replica{}, notFound("stat replica", id)
}
