package disk

import (
	"errors"
	"io"
	"reflect"
	"sync"

	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
)

// membership is which node and cluster the volumes belong to, and the highest epoch that they have seen. It
// owns their identity files.
type membership struct {
	*env
	volumes *volumes
	group   sync.WaitGroup // of writes to identity files
	// persist is held while the files are written, which a disk may make long; mu is not.
	persist struct {
		sync.Mutex
		closed  bool
		records []volumeRecord // what the volumes know of each other
		change  uint64         // see volumeIdentity
	}
	mu struct {
		sync.Mutex
		datanode.Identity
	}
}

// settle makes all volumes in service agree, gives new ones their ids, and writes what changed. roll knows
// those that are not in service.
func (m *membership) settle(roll *roll) error {
	volumes := m.volumes.all()
	all, err := commonIdentity(volumes)
	if err != nil {
		return err
	}
	if all.NodeID == "" {
		if all.NodeID, err = newID(m.options.Random); err != nil {
			return err
		}
	}
	seen := make(map[string]string)
	records := make([]volumeRecord, 0, len(volumes))
	for _, volume := range volumes {
		if volume.health.Out() {
			if record, known := roll.recordOf(volume.directory); known {
				volume.id = record.VolumeID
				records = append(records, record)
			}
			continue
		}
		if volume.id = volume.identity.VolumeID; volume.id == "" {
			if volume.id, err = newID(m.options.Random); err != nil {
				return err
			}
		}
		if other, twice := seen[volume.id]; twice {
			return fault.New(fault.Invalid, "open chunk store",
				"%s and %s have the same volume id %s: one is a copy of the other", other, volume.directory,
				volume.id)
		}
		seen[volume.id] = volume.directory
		records = append(records, volume.record())
	}
	for _, record := range roll.records {
		if record.Removed {
			records = append(records, record)
		}
	}
	m.persist.records, m.persist.change = records, roll.change
	m.volumes.away.Store(lastRemoved(records))
	for _, volume := range volumes {
		if volume.health.Out() {
			continue
		}
		next := m.listedLocked(volume, records).with(all)
		if !reflect.DeepEqual(next, volume.identity) {
			if err := writeIdentity(volume.fs, volume.path(identityName), next); err != nil {
				return err
			}
			volume.identity = next
		}
		roll.note(volume)
	}
	m.mu.Identity = all
	return nil
}

// commonIdentity checks that all volumes belong to one node and one cluster, and takes the highest of what
// they have seen: a crash may have kept an update from some of them.
func commonIdentity(volumes []*volume) (datanode.Identity, error) {
	const op = "open chunk store"
	var all datanode.Identity
	var first, joined *volume
	for _, volume := range volumes {
		if volume.identity.NodeID == "" || volume.health.Out() {
			continue // new, or not here
		}
		if first == nil {
			first, all.NodeID = volume, volume.identity.NodeID
		}
		if volume.identity.NodeID != all.NodeID {
			return all, fault.New(fault.Invalid, op,
				"volume %s belongs to node %s, volume %s to node %s: they cannot serve together",
				first.directory, all.NodeID, volume.directory, volume.identity.NodeID)
		}
		if c := volume.identity.ClusterID; c != "" {
			if joined != nil && c != all.ClusterID {
				return all, fault.New(fault.Invalid, op,
					"volume %s belongs to cluster %s, volume %s to cluster %s: they cannot serve together",
					joined.directory, all.ClusterID, volume.directory, c)
			}
			joined, all.ClusterID = volume, c
		}
		all.HighestEpoch = max(all.HighestEpoch, volume.identity.HighestEpoch)
		all.HighestTxid = max(all.HighestTxid, volume.identity.HighestTxid)
	}
	return all, nil
}

// records is what the volumes know of each other. Nobody changes the list: a change makes another one.
func (m *membership) records() []volumeRecord {
	m.persist.Lock()
	defer m.persist.Unlock()
	return m.persist.records
}

func (m *membership) identity() datanode.Identity {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.Identity
}

// join is Store.Join.
func (m *membership) join(clusterID string) error {
	const op = "join cluster"
	if clusterID == "" {
		return fault.New(fault.Invalid, op, "the cluster id is empty")
	}
	m.persist.Lock()
	defer m.persist.Unlock()
	if m.persist.closed {
		return closedError(op)
	}
	now := m.identity()
	switch now.ClusterID {
	case clusterID:
		return nil
	case "":
	default:
		e := fault.New(fault.Invalid, op, "this datanode belongs to cluster %s, not to %s", now.ClusterID, clusterID)
		e.Node = now.NodeID
		e.Hint = "start it with empty directories, or point it at its own namenode"
		return e
	}
	next := now
	next.ClusterID = clusterID
	return m.persistLocked(next)
}

// observe is Store.ObserveEpoch.
func (m *membership) observe(epoch, txid uint64) error {
	const op = "observe epoch"
	m.persist.Lock()
	defer m.persist.Unlock()
	if m.persist.closed {
		return closedError(op)
	}
	now := m.identity()
	if epoch < now.HighestEpoch {
		e := fault.New(fault.Fenced, op, "epoch %d is over, epoch %d was seen", epoch, now.HighestEpoch)
		e.Node = now.NodeID
		return e
	}
	next := now
	next.HighestEpoch = epoch
	next.HighestTxid = max(next.HighestTxid, txid)
	if next == now {
		return nil
	}
	return m.persistLocked(next)
}

// close waits for the writes under way, and refuses those that come later: the volumes are unlocked next, and may
// be another process's.
func (m *membership) close() {
	m.persist.Lock()
	m.persist.closed = true
	m.persist.Unlock()
	m.group.Wait()
}

// persistLocked writes next to all volumes in service. One success is enough: a start takes the highest of all
// volumes. A failed one counts against its volume, and one that does not return is not waited for when another
// has it. A node without any volume in service has nothing that an order could harm: it remembers next only
// while it runs. persist is held.
func (m *membership) persistLocked(next datanode.Identity) error {
	written, _, err := m.writeLocked(m.volumes.all(), func(v *volume) volumeIdentity {
		return m.listedLocked(v, m.persist.records).with(next)
	})
	if err != nil && written == 0 {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.Identity = next
	return nil
}

// recordLocked writes down which volumes there are, on all of those in service: a list of which one knows only would go
// with that one. After an error some have it, and a start may heed it. persist is held.
func (m *membership) recordLocked(volumes []*volume, records []volumeRecord) error {
	const op = "write down the disks of this datanode"
	m.persist.change++ // also if it fails: some may have it nevertheless, and what follows must overrule that
	now := m.identity()
	written, left, err := m.writeLocked(volumes, func(v *volume) volumeIdentity {
		return m.listedLocked(v, records).with(now)
	})
	if written > 0 {
		m.persist.records = records
	}
	switch {
	case err != nil:
		return err
	case written == 0:
		return fault.New(fault.Disk, op, "none of its disks works: nothing can be written down")
	case left != "":
		return &fault.Error{Kind: fault.Busy, Op: op, Path: left, Reason: "the disk does not answer",
			Hint: "try again; a disk that hangs is out of service within datanode.disk_hang_after"}
	}
	m.volumes.away.Store(lastRemoved(records))
	return nil
}

// lastRemoved is when the last disk was removed that may have replicas; 0: none was.
func lastRemoved(records []volumeRecord) (at int64) {
	for _, record := range records {
		if record.Removed {
			at = max(at, record.RemovedAt)
		}
	}
	return at
}

// listedLocked is the identity of a volume with a list of all; persist is held.
func (m *membership) listedLocked(v *volume, records []volumeRecord) volumeIdentity {
	next := v.identity
	next.VolumeID, next.Volumes, next.VolumesChange = v.id, records, m.persist.change
	return next
}

// writeLocked writes the identity files of those volumes that are in service. When some are written, the others are
// not waited for much longer: left is one of them. Errors are those of volumes that are in service nevertheless.
// persist is held.
func (m *membership) writeLocked(volumes []*volume, of func(*volume) volumeIdentity) (written int, left string,
	err error) {
	type result struct {
		volume *volume
		wrote  volumeIdentity
		err    error
	}
	results := make(chan result, len(volumes)) // so that a late one does not wait for a reader
	waiting := make(map[*volume]bool)
	for _, volume := range volumes {
		if volume.health.Out() {
			continue
		}
		if volume.writing.Swap(true) {
			left = volume.directory
			continue
		}
		waiting[volume] = true
		identity := of(volume)
		m.group.Go(func() {
			err := writeIdentity(volume.fs, volume.path(identityName), identity)
			if err != nil {
				volume.noteError(err)
			}
			volume.writing.Store(false)
			results <- result{volume, identity, err}
		})
	}
	failed := make(map[*volume]error)
	patience := m.options.Clock.NewTimer(identityPatience)
	defer patience.Stop()
	over := false
	for len(waiting) > 0 && (!over || written == 0) {
		var one *volume // of those waited for
		for one = range waiting {
			break
		}
		select {
		case r := <-results:
			delete(waiting, r.volume)
			if r.err != nil {
				failed[r.volume] = r.err
				continue
			}
			r.volume.identity = r.wrote
			written++
		case <-patience.C():
			over = true
		case <-one.health.Gone():
			delete(waiting, one)
		}
	}
	for v := range waiting {
		left = v.directory
	}
	var failures []error
	for v, failure := range failed {
		if !v.health.Out() {
			failures = append(failures, failure)
		}
	}
	if written == 0 && len(failures) == 0 && len(inService(volumes)) > 0 {
		return 0, left, fault.New(fault.Busy, "write volume identity", "no disk of this datanode answers")
	}
	return written, left, errors.Join(failures...)
}

// raise takes over the highest epoch that a volume which comes back has seen. persist is held.
func (m *membership) raise(seen volumeIdentity) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.HighestEpoch = max(m.mu.HighestEpoch, seen.HighestEpoch)
	m.mu.HighestTxid = max(m.mu.HighestTxid, seen.HighestTxid)
}

// newID makes a random id while the store runs.
func (m *membership) newID() (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return newID(m.options.Random)
}

// random fills b; whoever needs chance for the volumes shares the source.
func (m *membership) random(b []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := io.ReadFull(m.options.Random, b); err != nil {
		return &fault.Error{Kind: fault.Internal, Op: "make segment key", Err: err}
	}
	return nil
}
