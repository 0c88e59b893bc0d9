package logserver

import (
	"errors"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/whispering-woods/ww/control/logserver/checkpoint"
	"github.com/whispering-woods/ww/control/logserver/walcheck"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// group is this server's part in raft: the library itself and the way to its peers.
type group struct {
	raft      *raft.Raft
	options   Options
	store     *store
	transport *transport
	shutdown  func() raft.Future // starts raft's shutdown; every call returns the same future
}

// startGroup opens the group: a new one if the directory is empty, the old one if not.
func startGroup(options Options, machine *fsm, store *store, transport *transport, report *walcheck.Report) (*group,
	error) {
	const op = "start raft"
	joined := &group{options: options, store: store, transport: transport}
	warnAs := slog.LevelWarn
	if options.ListenRaft == "" {
		warnAs = slog.LevelDebug
	}
	logger := hclogTo(options.Logger, "raft", warnAs)
	files, err := raft.NewFileSnapshotStoreWithLogger(options.Directory, snapshotsKept, logger)
	if err != nil {
		return nil, vfs.FaultOf(op, err)
	}
	snapshots := &snapshots{SnapshotStore: files, store: store, checkpoints: store.checkpoints, logger: options.Logger}
	last := uint64(0)
	if report != nil {
		last = report.LastIndex
		if received := checkpoint.Received(report.Checkpoints); received > last {
			// A peer's checkpoint replaced this log, and a crash came before raft
			// removed what it replaced. raft-wal accepts no entry behind a gap.
			last = received
			if err := store.DeleteRange(1, report.LastIndex); err != nil {
				return nil, vfs.FaultOf(op, err)
			}
		}
	}
	kept, err := snapshots.List()
	if err != nil {
		return nil, vfs.FaultOf(op, err)
	}
	if len(kept) > 0 && kept[0].Index > last {
		return nil, &fault.Error{Kind: fault.CorruptData, Op: op, Path: options.Directory,
			Reason: "a snapshot is newer than the log: log files are missing",
			Hint:   "restore the directory from a copy or from a peer"}
	}
	config := raftConfig(options)
	config.Logger = logger
	if last == 0 {
		if err := joined.bootstrap(config, snapshots); err != nil {
			return nil, vfs.FaultOf(op, err)
		}
	}
	if joined.raft, err = raft.NewRaft(config, machine, store, store, snapshots, transport.Transport); err != nil {
		return nil, vfs.FaultOf(op, err)
	}
	joined.shutdown = sync.OnceValue(joined.raft.Shutdown)
	snapshots.started.Store(true)
	return joined, nil
}

// raftConfig is raft's configuration without its logger.
func raftConfig(options Options) *raft.Config {
	config := raft.DefaultConfig()
	config.LocalID = raft.ServerID(options.NodeID)
	config.HeartbeatTimeout = options.HeartbeatTimeout
	config.ElectionTimeout = options.HeartbeatTimeout
	config.LeaderLeaseTimeout = options.HeartbeatTimeout / 2
	if options.ListenRaft == "" {
		config.LeaderLeaseTimeout = options.HeartbeatTimeout // no peer can take over: check less often
	}
	config.BatchApplyCh = true
	config.MaxAppendEntries = walcheck.EntriesPerWriteMax
	config.SnapshotThreshold = options.SnapshotEntries
	config.TrailingLogs = math.MaxUint64 // raft never cuts the log: checkpointKeeper.settle does
	config.NoLegacyTelemetry = true
	return config
}

// bootstrap writes the group's first entry. raft does that in two steps, the term and the entry; a crash between
// them left a term and an empty log, and the entry is written here. It is the same on every server.
func (g *group) bootstrap(config *raft.Config, snapshots raft.SnapshotStore) error {
	err := raft.BootstrapCluster(config, g.store, g.store, snapshots, g.transport.Transport, g.members())
	if errors.Is(err, raft.ErrCantBootstrap) {
		err = g.store.StoreLog(&raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration,
			Data: raft.EncodeConfiguration(g.members())})
	}
	return errors.Join(err, g.store.failed())
}

// members is the group that a first start makes.
func (g *group) members() raft.Configuration {
	var c raft.Configuration
	for _, peer := range g.options.Peers {
		c.Servers = append(c.Servers,
			raft.Server{ID: raft.ServerID(peer.NodeID), Address: raft.ServerAddress(peer.Raft)})
	}
	if len(c.Servers) == 0 {
		c.Servers = []raft.Server{{ID: raft.ServerID(g.options.NodeID), Address: g.transport.LocalAddr()}}
	}
	return c
}

// alone reports whether the group has no other server.
func (g *group) alone() bool {
	future := g.raft.GetConfiguration()
	return future.Error() == nil && len(future.Configuration().Servers) == 1
}

// catchUp waits until everything committed is applied, and records this server's address in the group if it has
// changed and no other server has to agree. False if the lead is lost meanwhile.
func (g *group) catchUp() bool {
	if err := g.raft.Barrier(barrierTimeout).Error(); err != nil {
		g.options.Logger.Warn("log leadership was lost before it began", "err", err)
		return false
	}
	future := g.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return false
	}
	servers := future.Configuration().Servers
	if len(servers) == 1 && servers[0].Address != g.transport.LocalAddr() {
		if err := g.raft.AddVoter(servers[0].ID, g.transport.LocalAddr(), 0, barrierTimeout).Error(); err != nil {
			g.options.Logger.Warn("the new raft address was not recorded", "err", err)
		}
	}
	return true
}

// resign transfers the lead to a peer, so that the group need not wait for an
// election; if that takes too long, it waits for one.
func (g *group) resign() {
	transferred := make(chan error, 1)
	go func() { transferred <- g.raft.LeadershipTransfer().Error() }()
	select {
	case err := <-transferred:
		if err != nil {
			g.options.Logger.Debug("the lead was not transferred", "err", err)
		}
	case <-time.After(transferTimeout):
	}
}

// leader is the peer that leads; false if none is known, or it is not among the peers.
func (g *group) leader() (Peer, bool) {
	_, id := g.raft.LeaderWithID()
	for _, peer := range g.options.Peers {
		if raft.ServerID(peer.NodeID) == id {
			return peer, true
		}
	}
	return Peer{}, false
}
