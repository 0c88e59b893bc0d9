package disk

import (
	"errors"
	"io"
	"path"
	"reflect"
	"sync"

	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
)

// membership is which node and cluster the volumes belong to, and the highest epoch that they have seen. It
// owns their identity files.
type membership struct {
	*env
	volumes []*volume
	group   sync.WaitGroup // of writes to identity files
	// persist is held while the files are written, which a disk may make long; mu is not.
	persist struct {
		sync.Mutex
		closed bool
	}
	mu struct {
		sync.Mutex
		datanode.Identity
	}
}

// settle makes all volumes in service agree, gives new ones their ids, and writes what changed. roll knows
// those that are not in service.
func (m *membership) settle(roll *roll) error {
	all, err := commonIdentity(m.volumes)
	if err != nil {
		return err
	}
	if all.NodeID == "" {
		if all.NodeID, err = newID(m.options.Random); err != nil {
			return err
		}
	}
	seen := make(map[string]string)
	records := make([]volumeRecord, 0, len(m.volumes))
	for _, volume := range m.volumes {
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
		records = append(records, volumeRecord{volume.id, path.Clean(volume.directory), volume.mounted})
	}
	for _, volume := range m.volumes {
		if volume.health.Out() {
			continue
		}
		next := volume.identity.with(all)
		next.VolumeID, next.Volumes = volume.id, records
		next.Sum = volume.identity.Sum
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
	type result struct {
		volume *volume
		err    error
	}
	results := make(chan result, len(m.volumes)) // so that a late one does not wait for a reader
	waiting := make(map[*volume]bool)
	for _, volume := range m.volumes {
		if volume.health.Out() || volume.writing.Swap(true) {
			continue
		}
		waiting[volume] = true
		identity := volume.identity.with(next)
		m.group.Go(func() {
			err := writeIdentity(volume.fs, volume.path(identityName), identity)
			if err != nil {
				volume.noteError(err)
			}
			volume.writing.Store(false)
			results <- result{volume, err}
		})
	}
	var failures []error
	written := 0
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
				failures = append(failures, r.err)
				continue
			}
			r.volume.identity = r.volume.identity.with(next)
			written++
		case <-patience.C():
			over = true
		case <-one.health.Gone():
			delete(waiting, one)
		}
	}
	if written == 0 && len(inService(m.volumes)) > 0 {
		if len(failures) == 0 {
			return fault.New(fault.Busy, "write volume identity", "no disk of this datanode answers")
		}
		return errors.Join(failures...)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.Identity = next
	return nil
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
