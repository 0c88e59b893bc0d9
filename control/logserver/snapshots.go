package logserver

import (
	"cmp"
	"io"
	"log/slog"
	"slices"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/whispering-woods/ww/control/logserver/checkpoint"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// snapshots are the snapshots that raft sees. There are two sorts. Small ones, in raft's own files, hold the state
// machine's state, so that a restart skips what was applied; they never travel, since they hold no records.
// Checkpoints hold all records up to theirs: one is sent to a peer that lacks what was cut from this log, and this
// server's log begins behind one that it received.
type snapshots struct {
	raft.SnapshotStore
	store       *store
	checkpoints *checkpoint.Store
	logger      *slog.Logger
	started     atomic.Bool // raft runs: what it asks for is for a peer
}

// List implements raft.SnapshotStore: the newest first. For a peer only checkpoints count, the newest of them since
// it leaves the least to send; at the start all that this log continues.
func (s *snapshots) List() ([]*raft.SnapshotMeta, error) {
	first, err := s.store.begins()
	if err != nil {
		return nil, err
	}
	var out []*raft.SnapshotMeta
	for _, f := range s.checkpoints.Usable(first) {
		meta, err := metaOf(f)
		if err != nil {
			return nil, err
		}
		out = append(out, meta)
	}
	if s.started.Load() {
		return out, nil
	}
	small, err := s.SnapshotStore.List()
	if err != nil {
		return nil, err
	}
	for _, meta := range small {
		if meta.Index+1 >= first {
			out = append(out, meta)
		}
	}
	slices.SortStableFunc(out, func(a, b *raft.SnapshotMeta) int { return -cmp.Compare(a.Index, b.Index) })
	return out, nil
}

// metaOf is a checkpoint as raft sees it.
func metaOf(f checkpoint.File) (*raft.SnapshotMeta, error) {
	members, err := f.Head.Configuration()
	if err != nil {
		return nil, err
	}
	return &raft.SnapshotMeta{Version: 1, ID: f.Name, Index: f.Head.Index, Term: f.Head.Term, Configuration: members,
		ConfigurationIndex: f.Head.Index, Size: f.FileBytes}, nil
}

// Open implements raft.SnapshotStore. A checkpoint is verified before any of it is sent.
func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	kept, ok := s.checkpoints.Find(id)
	if !ok {
		return s.SnapshotStore.Open(id)
	}
	meta, err := metaOf(kept)
	if err != nil {
		return nil, nil, err
	}
	file, err := s.checkpoints.Open(kept, s.started.Load())
	if err != nil {
		return nil, nil, err
	}
	return meta, &sentFile{SectionReader: io.NewSectionReader(file, 0, kept.FileBytes), file: file}, nil
}

// sentFile is a checkpoint's file on its way to raft.
type sentFile struct {
	*io.SectionReader
	file vfs.File
}

func (f *sentFile) Close() error { return f.file.Close() }

// Create implements raft.SnapshotStore. What is written decides the sort.
func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64, members raft.Configuration,
	membersIndex uint64, transport raft.Transport) (raft.SnapshotSink, error) {
	last, err := s.store.LastIndex()
	if err != nil {
		return nil, err
	}
	return &snapshotSink{snapshots: s, index: index, term: term, last: last, small: func() (raft.SnapshotSink, error) {
		if index > last {
			return nil, fault.New(fault.Gap, "keep snapshot",
				"it goes up to raft entry %d, the log here up to %d: keeping it would leave a gap", index, last)
		}
		return s.SnapshotStore.Create(version, index, term, members, membersIndex, transport)
	}}, nil
}

// snapshotSink receives a snapshot of either sort.
type snapshotSink struct {
	snapshots         *snapshots
	index, term, last uint64
	small             func() (raft.SnapshotSink, error)

	begun      []byte // until the magic is known
	own        raft.SnapshotSink
	checkpoint *checkpoint.Writer
	id         string
	closed     bool
}

// Write implements io.Writer.
func (k *snapshotSink) Write(b []byte) (int, error) {
	if k.own == nil && k.checkpoint == nil {
		k.begun = append(k.begun, b...)
		if len(k.begun) < 4 {
			return len(b), nil
		}
		if err := k.begin(); err != nil {
			return 0, err
		}
		return len(b), k.pass(k.begun)
	}
	return len(b), k.pass(b)
}

// begin opens the file of the sort that the first bytes name.
func (k *snapshotSink) begin() (err error) {
	if !checkpoint.BeginsFile(k.begun) {
		k.own, err = k.small()
		return err
	}
	if k.index <= k.last {
		return fault.New(fault.Exists, "keep snapshot", "it goes up to raft entry %d, the log here up to %d", k.index,
			k.last)
	}
	k.checkpoint, err = k.snapshots.checkpoints.Create()
	return err
}

func (k *snapshotSink) pass(b []byte) error {
	if k.own != nil {
		_, err := k.own.Write(b)
		return err
	}
	return k.checkpoint.Raw(b)
}

// Close implements io.Closer: a checkpoint is verified and durable on return.
func (k *snapshotSink) Close() error {
	if k.closed {
		return nil
	}
	k.closed = true
	switch {
	case k.own != nil:
		k.id = k.own.ID()
		return k.own.Close()
	case k.checkpoint == nil:
		return fault.New(fault.CorruptData, "keep snapshot", "%d bytes are no snapshot", len(k.begun))
	}
	defer k.checkpoint.Discard()
	kept, err := k.snapshots.checkpoints.Publish(k.checkpoint, true, func(h *checkpoint.Head) error {
		if h.Index != k.index || h.Term != k.term {
			return fault.New(fault.Protocol, "keep snapshot",
				"raft entry %d of term %d was announced, %d of term %d came", k.index, k.term, h.Index, h.Term)
		}
		_, err := h.Configuration()
		return err
	})
	if err != nil {
		return err
	}
	k.id = kept.Name
	k.snapshots.logger.Info("checkpoint received from the leader: it replaces the log up to it", "txid", kept.Head.Txid,
		"bytes", kept.Bytes, "index", kept.Head.Index)
	return nil
}

// Cancel implements raft.SnapshotSink.
func (k *snapshotSink) Cancel() error {
	if k.closed {
		return nil
	}
	k.closed = true
	if k.own != nil {
		return k.own.Cancel()
	}
	if k.checkpoint != nil {
		k.checkpoint.Discard()
	}
	return nil
}

// ID implements raft.SnapshotSink; a checkpoint has one once it is closed.
func (k *snapshotSink) ID() string {
	if k.own != nil {
		return k.own.ID()
	}
	return k.id
}
