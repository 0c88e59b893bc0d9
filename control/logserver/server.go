package logserver

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/semaphore"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/fault"
)

// Server is a running log server.
type Server struct {
	o         Options
	lock      *os.File
	store     *store
	fsm       *fsm
	transport *transport
	raft      *raft.Raft
	grpc      *rpc.Server
	listener  net.Listener
	mark      *markFile
	inFlight  *semaphore.Weighted // record bytes of all Append streams

	stopping chan struct{} // closed by Close: streams and watchers end
	failed   chan struct{} // closed when failure is set
	done     chan struct{} // closed when the server ended, by itself or by Close
	serving  sync.WaitGroup
	group    sync.WaitGroup // watchers and stream receivers
	closing  sync.Once
	closed   error // of Close

	mu struct {
		sync.Mutex
		leading bool // raft leads, and everything committed before is applied
		// failure is why this server must never serve again: a failed write, a
		// committed entry that cannot be read.
		failure error
		damage  error // a read met damage; the server goes on but is not ready
		ended   bool  // done is closed
		closing bool
		inside  int           // callers that wait for raft (enter, leave)
		outside chan struct{} // closed when nobody is inside; nil if nobody waits for that
	}
}

// Start opens the log in o.Directory, verifies all of it, and serves. It
// returns before a leader is elected: see Ready. Errors: fault.Invalid,
// fault.Busy (another process has the directory), fault.CorruptData (names
// every damaged place), fault.Disk, fault.NoSpace, fault.Unavailable (a port is
// taken).
func Start(o Options) (server *Server, err error) {
	o, err = o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Directory, 0o755); err != nil {
		return nil, diskFault("start log server", err)
	}
	s := &Server{
		o: o, inFlight: semaphore.NewWeighted(inFlightBytesMax),
		stopping: make(chan struct{}), failed: make(chan struct{}), done: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			s.release()
		}
	}()
	if s.lock, err = lockDirectory(o.Directory, true); err != nil {
		return nil, err
	}
	if s.o.NodeID, err = claim(o.Directory, o.NodeID); err != nil {
		return nil, err
	}
	report, err := prepare(o.Directory, o.Logger)
	if err != nil {
		return nil, err
	}
	last, err := readMark(o.Directory)
	if err != nil {
		return nil, diskFault("read mark", err)
	}
	if s.mark, err = openMark(o.Directory, last); err != nil {
		return nil, diskFault("open mark", err)
	}
	// From here on the end is no longer the orderly one that the mark may tell.
	if err := s.mark.write(0, false, true); err != nil {
		return nil, diskFault("write mark", err)
	}
	if s.listener, err = rpc.Listen(o.ListenGRPC); err != nil {
		return nil, err
	}
	self, _ := s.o.self()
	if s.transport, err = newTransport(s.o, self.Raft); err != nil {
		return nil, err
	}
	if s.store, err = openStore(s.o, report, s.fail); err != nil {
		return nil, err
	}
	s.fsm = newFSM(s.fail)
	s.grpc = rpc.NewServer(rpc.ServerOptions{Logger: o.Logger})
	controlpb.RegisterEditLogServer(s.grpc.Server, &service{server: s})
	if err := s.startRaft(report); err != nil {
		return nil, err
	}
	s.fsm.begin()
	s.group.Go(s.watchLeadership)
	s.group.Go(s.watchMark)
	s.serving.Go(func() {
		if err := s.grpc.Serve(s.listener); err != nil {
			s.fail(&fault.Error{Kind: fault.Unavailable, Op: "serve log", Address: s.Addr(), Err: err})
		}
	})
	o.Logger.Info("log server started", "node", s.o.NodeID, "grpc", s.Addr(), "raft", s.RaftAddr(), "dir", o.Directory,
		"peers", len(o.Peers), "last_txid", s.lastTxid(report))
	return s, nil
}

// lastTxid is what the verified log ends with.
func (s *Server) lastTxid(report *Report) uint64 {
	if report == nil {
		return 0
	}
	return report.LastTxid
}

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
	snapshots := ownSnapshots{SnapshotStore: files, store: s.store}
	kept, err := snapshots.List()
	if err != nil {
		return diskFault(op, err)
	}
	if len(kept) > 0 && (report == nil || kept[0].Index > report.LastIndex) {
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
	config.TrailingLogs = math.MaxUint64 // the log is the data: never cut
	config.NoLegacyTelemetry = true
	if report == nil || report.LastIndex == 0 {
		if err := s.bootstrap(config, snapshots); err != nil {
			return diskFault(op, err)
		}
	}
	if s.raft, err = raft.NewRaft(config, s.fsm, s.store, s.store, snapshots, s.transport.Transport); err != nil {
		return diskFault(op, err)
	}
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
			s.raft.Shutdown() // Close waits for it
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

// fail ends this server's service for good. It returns only after nothing can
// leave for the peers any more; it may run on any goroutine of raft, also while
// Start is still busy. watchLeadership does the rest.
func (s *Server) fail(err error) {
	s.mu.Lock()
	if s.mu.failure != nil || s.mu.closing {
		s.mu.Unlock()
		return
	}
	s.mu.failure = err
	s.mu.leading = false
	close(s.failed)
	s.mu.Unlock()
	s.o.Logger.Error("log server failed and serves no more; it must be started again", "node", s.o.NodeID, "err", err)
	s.transport.cut()
	s.grpc.SetServing(false)
}

// damaged remembers that a read met damage.
func (s *Server) damaged(err error) {
	s.mu.Lock()
	first := s.mu.damage == nil
	if first {
		s.mu.damage = err
	}
	s.mu.Unlock()
	if first {
		s.o.Logger.Error("the log is damaged", "node", s.o.NodeID, "err", err)
		s.grpc.SetServing(false)
	}
}

// end closes done once.
func (s *Server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.mu.ended {
		s.mu.ended = true
		close(s.done)
	}
}

// Addr is the address of the gRPC server, with the real port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// RaftAddr is the address of the raft port as peers use it; empty if there is
// none.
func (s *Server) RaftAddr() string {
	if s.o.ListenRaft == "" {
		return ""
	}
	return string(s.transport.LocalAddr())
}

// NodeID is this server's name among its peers.
func (s *Server) NodeID() string { return s.o.NodeID }

// Ready is nil while this server serves: it leads, or follows a leader, its
// disk took every write, and no read met damage. Else it says why not.
func (s *Server) Ready() error {
	s.mu.Lock()
	leading, failure, damage, closing := s.mu.leading, s.mu.failure, s.mu.damage, s.mu.closing
	s.mu.Unlock()
	switch {
	case closing:
		return fault.New(fault.Closed, "log server", "stopping")
	case failure != nil:
		return failure
	case damage != nil:
		return damage
	case leading:
		return nil
	}
	_, leader := s.raft.LeaderWithID()
	if leader == "" || string(leader) == s.o.NodeID {
		return fault.New(fault.NotActive, "log server", "no leader is elected yet")
	}
	return nil
}

// Done is closed when the server ended: by Close, or by itself (see Err).
func (s *Server) Done() <-chan struct{} { return s.done }

// Err is why the server ended by itself: a disk error on a server without
// peers. nil while it runs and after an orderly Close. The caller still calls
// Close, and exits non-zero.
func (s *Server) Err() error {
	select {
	case <-s.done:
	default:
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.failure
}

// leading tells whether this server leads and knows all that is committed.
func (s *Server) leading() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.leading && s.mu.failure == nil
}

// refusal is why no call can be served; nil if calls can be.
func (s *Server) refusal() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refusalLocked()
}

func (s *Server) refusalLocked() error {
	if s.mu.failure != nil {
		return s.mu.failure
	}
	if s.mu.closing {
		return fault.New(fault.Closed, "log server", "the log server is stopping")
	}
	return nil
}

// Close stops the server in order: streams end, the lead is handed on, calls
// may finish until ctx ends, the log is closed. Batches that were acknowledged
// are durable; the others may or may not be. Calling it again gives the same
// error.
func (s *Server) Close(ctx context.Context) error {
	s.closing.Do(func() { s.closed = s.close(ctx) })
	return s.closed
}

func (s *Server) close(ctx context.Context) error {
	s.mu.Lock()
	s.mu.closing = true
	leading, failure := s.mu.leading, s.mu.failure
	s.mu.Unlock()
	close(s.stopping)
	if leading && failure == nil && !s.alone() {
		s.handOn()
	}
	err := s.grpc.StopWithin(ctx)
	s.drain()
	s.serving.Wait()
	s.group.Wait()
	return errors.Join(err, s.release())
}

// handOn gives the lead to a peer, so that the group need not wait for an
// election; if that takes too long, it waits for one.
func (s *Server) handOn() {
	handed := make(chan error, 1)
	go func() { handed <- s.raft.LeadershipTransfer().Error() }()
	select {
	case err := <-handed:
		if err != nil {
			s.o.Logger.Debug("the lead was not handed on", "err", err)
		}
	case <-time.After(transferTimeout):
	}
}

// release ends raft and closes what Start opened, as far as it got.
func (s *Server) release() error {
	var errs []error
	clean := false
	if s.raft != nil {
		err := s.raft.Shutdown().Error()
		clean = err == nil && s.store.failed() == nil
		errs = append(errs, err)
	}
	if s.transport != nil {
		errs = append(errs, s.transport.close())
	}
	if s.store != nil {
		// With peers the last entries may not be committed yet, and raft may cut
		// them off later: only what is applied counts.
		applied := uint64(0)
		if s.fsm != nil {
			applied = s.fsm.view().applied
		}
		errs = append(errs, s.store.wal.Close())
		if clean {
			errs = append(errs, s.mark.write(applied, true, true))
		}
	}
	for _, c := range []io.Closer{s.listener, s.lock} {
		if c != nil && c != (*os.File)(nil) {
			if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	if s.mark != nil {
		errs = append(errs, s.mark.close())
	}
	s.end()
	return errors.Join(errs...)
}
