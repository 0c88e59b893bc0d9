package logserver

import (
	"errors"
	"log/slog"
	"math"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/whispering-woods/ww/internal/fault"
)

// startRaft opens the group: a new one if the directory is empty, the old one
// if not.
func (s *Server) startRaft(report *Report) error {
	const op = "start raft"
	warnAs := slog.LevelWarn
	if s.o.ListenRaft == "" {
		warnAs = slog.LevelDebug
	}
	logger := hclogTo(s.o.Logger, "raft", warnAs)
	files, err := raft.NewFileSnapshotStoreWithLogger(s.o.Directory, snapshotsKept, logger)
	if err != nil {
		return diskFault(op, err)
	}
	snapshots := &ownSnapshots{SnapshotStore: files, store: s.store, checkpoints: s.checkpoints}
	last := uint64(0)
	if report != nil {
		last = report.LastIndex
	}
	if report != nil && report.begins() > last {
		// A peer's checkpoint replaced this log, and a crash came before raft
		// removed what it replaced. raft-wal takes no entry behind a gap.
		last = report.begins()
		if err := s.store.DeleteRange(1, report.LastIndex); err != nil {
			return diskFault(op, err)
		}
	}
	kept, err := snapshots.List()
	if err != nil {
		return diskFault(op, err)
	}
	if len(kept) > 0 && kept[0].Index > last {
		return &fault.Error{Kind: fault.CorruptData, Op: op, Path: s.o.Directory,
			Reason: "a snapshot is newer than the log: log files are missing", Hint: "restore the directory from a copy or from a peer"}
	}
	config := raft.DefaultConfig()
	config.LocalID = raft.ServerID(s.o.NodeID)
	config.Logger = logger
	config.HeartbeatTimeout = s.o.HeartbeatTimeout
	config.ElectionTimeout = s.o.HeartbeatTimeout
	config.LeaderLeaseTimeout = s.o.HeartbeatTimeout / 2
	if s.o.ListenRaft == "" {
		config.LeaderLeaseTimeout = s.o.HeartbeatTimeout // nobody to lose: look less often
	}
	config.BatchApplyCh = true
	config.MaxAppendEntries = entriesPerAppend
	config.SnapshotThreshold = s.o.SnapshotEntries
	config.TrailingLogs = math.MaxUint64 // raft never cuts the log: settleCheckpoints does
	config.NoLegacyTelemetry = true
	if last == 0 {
		if err := s.bootstrap(config, snapshots); err != nil {
			return diskFault(op, err)
		}
	}
	if s.raft, err = raft.NewRaft(config, s.fsm, s.store, s.store, snapshots, s.transport.Transport); err != nil {
		return diskFault(op, err)
	}
	s.endRaft = sync.OnceValue(s.raft.Shutdown)
	snapshots.started.Store(true)
	first, err := s.store.begins()
	if err != nil {
		return diskFault(op, err)
	}
	s.fsm.rebase(first, s.checkpoints.usable(first))
	return nil
}

// bootstrap writes the group's first entry. raft does that in two steps, the
// term and the entry; a crash between them left a term and an empty log, and
// the entry is written here. It is the same on every server.
func (s *Server) bootstrap(config *raft.Config, snapshots raft.SnapshotStore) error {
	err := raft.BootstrapCluster(config, s.store, s.store, snapshots, s.transport.Transport, s.members())
	if errors.Is(err, raft.ErrCantBootstrap) {
		err = s.store.StoreLog(&raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(s.members())})
	}
	return errors.Join(err, s.store.failed())
}

// members is the group that a first start makes.
func (s *Server) members() raft.Configuration {
	var c raft.Configuration
	for _, peer := range s.o.Peers {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(peer.NodeID), Address: raft.ServerAddress(peer.Raft)})
	}
	if len(c.Servers) == 0 {
		c.Servers = []raft.Server{{ID: raft.ServerID(s.o.NodeID), Address: s.transport.LocalAddr()}}
	}
	return c
}

// alone tells whether the group has no other server.
func (s *Server) alone() bool {
	future := s.raft.GetConfiguration()
	return future.Error() == nil && len(future.Configuration().Servers) == 1
}

// watchLeadership keeps leading true while this server leads and has applied
// everything that was committed before. After a failure it ends raft.
func (s *Server) watchLeadership() {
	for {
		select {
		case <-s.stopping:
			return
		case <-s.failed:
			alone := s.alone()
			s.drain()
			s.endRaft() // Close waits for it
			if alone {
				s.end()
			}
			return
		case leads := <-s.raft.LeaderCh():
			if leads {
				leads = s.lead()
			}
			s.mu.Lock()
			s.mu.leading = leads && s.mu.failure == nil
			s.mu.Unlock()
			s.grpc.SetServing(s.Ready() == nil)
			s.o.Logger.Info("log leadership", "node", s.o.NodeID, "leads", leads)
		}
	}
}

// lead waits until everything committed is applied, and tells the group this
// server's address if it has changed and nobody else needs to agree.
func (s *Server) lead() bool {
	if s.enter() != nil {
		return false
	}
	defer s.leave()
	if err := s.raft.Barrier(barrierTimeout).Error(); err != nil {
		s.o.Logger.Warn("log leadership was lost before it began", "err", err)
		return false
	}
	future := s.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return false
	}
	servers := future.Configuration().Servers
	if len(servers) == 1 && servers[0].Address != s.transport.LocalAddr() {
		if err := s.raft.AddVoter(servers[0].ID, s.transport.LocalAddr(), 0, barrierTimeout).Error(); err != nil {
			s.o.Logger.Warn("the new raft address was not recorded", "err", err)
		}
	}
	return true
}

// watchMark writes the mark while the log grows.
func (s *Server) watchMark() {
	timer := s.o.Clock.NewTimer(markInterval)
	defer timer.Stop()
	for {
		select {
		case <-s.stopping:
			return
		case <-timer.C():
			if applied := s.fsm.view().applied; applied > s.mark.last.index && s.store.failed() == nil {
				if err := s.mark.write(applied, false, false); err != nil {
					_ = s.store.fail("write mark", err)
				}
			}
			timer.Reset(markInterval)
		}
	}
}
