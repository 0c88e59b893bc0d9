package disk

import (
	"errors"
	"io"
	"sync"

	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
)

// membership is which node and cluster the volumes belong to, and the highest epoch that they have seen. It
// owns their identity files.
type membership struct {
	*env
	volumes []*volume
	mu      struct {
		sync.Mutex
		datanode.Identity
	}
}

// settle makes all volumes agree, gives new ones their ids, and writes what changed.
func (m *membership) settle() error {
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
	for _, volume := range m.volumes {
		next := volume.identity.with(all)
		if next.VolumeID == "" {
			if next.VolumeID, err = newID(m.options.Random); err != nil {
				return err
			}
		}
		if other, twice := seen[next.VolumeID]; twice {
			return fault.New(fault.Invalid, "open chunk store",
				"%s and %s have the same volume id %s: one is a copy of the other", other, volume.directory,
				next.VolumeID)
		}
		seen[next.VolumeID] = volume.directory
		next.Sum = volume.identity.Sum
		if next != volume.identity {
			if err := writeIdentity(m.fs, volume.directory, next); err != nil {
				return err
			}
			volume.identity = next
		}
		volume.id = next.VolumeID
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
		if volume.identity.NodeID == "" {
			continue // new
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
	m.mu.Lock()
	defer m.mu.Unlock()
	switch m.mu.ClusterID {
	case clusterID:
		return nil
	case "":
	default:
		e := fault.New(fault.Invalid, op, "this datanode belongs to cluster %s, not to %s", m.mu.ClusterID, clusterID)
		e.Node = m.mu.NodeID
		e.Hint = "start it with empty directories, or point it at its own namenode"
		return e
	}
	next := m.mu.Identity
	next.ClusterID = clusterID
	return m.persistLocked(next)
}

// observe is Store.ObserveEpoch.
func (m *membership) observe(epoch, txid uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if epoch < m.mu.HighestEpoch {
		e := fault.New(fault.Fenced, "observe epoch", "epoch %d is over, epoch %d was seen", epoch, m.mu.HighestEpoch)
		e.Node = m.mu.NodeID
		return e
	}
	next := m.mu.Identity
	next.HighestEpoch = epoch
	next.HighestTxid = max(next.HighestTxid, txid)
	if next == m.mu.Identity {
		return nil
	}
	return m.persistLocked(next)
}

// persistLocked writes next to all volumes. One success is enough: a start takes the highest of all volumes.
// A failed one counts against its volume.
func (m *membership) persistLocked(next datanode.Identity) error {
	var failures []error
	for _, v := range m.volumes {
		if err := writeIdentity(m.fs, v.directory, v.identity.with(next)); err != nil {
			v.noteError(err)
			failures = append(failures, err)
			continue
		}
		v.identity = v.identity.with(next)
	}
	if len(failures) == len(m.volumes) {
		return errors.Join(failures...)
	}
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
