package logserver

import (
	"github.com/hashicorp/raft"

	"github.com/whispering-woods/ww/internal/fault"
)

// ownSnapshots keeps out snapshots that go beyond this server's log, which
// only a peer can send: they hold no records, so raft would begin behind a
// hole (see fsm.Restore). They never occur while every log is kept whole.
type ownSnapshots struct {
	raft.SnapshotStore
	store *store
}

// Create implements raft.SnapshotStore.
func (s ownSnapshots) Create(version raft.SnapshotVersion, index, term uint64, members raft.Configuration, membersIndex uint64, transport raft.Transport) (raft.SnapshotSink, error) {
	last, err := s.store.LastIndex()
	if err != nil {
		return nil, err
	}
	if index > last {
		return nil, fault.New(fault.Gap, "keep snapshot", "it goes up to raft entry %d, the log here up to %d: taking it would leave a hole", index, last)
	}
	return s.SnapshotStore.Create(version, index, term, members, membersIndex, transport)
}
