package logserver

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/logserver/checkpoint"
	"github.com/whispering-woods/ww/control/logserver/walcheck"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// Server is a running log server.
type Server struct {
	options   Options
	lock      io.Closer
	health    *health
	good      context.Context // of the watchers; ends when the server stops, or fails for good
	gate      gate
	mark      *walcheck.Mark
	store     *store
	fsm       *fsm
	transport *transport
	group     *group
	keeper    *checkpointKeeper
	grpc      *rpc.Server
	listener  net.Listener
	inFlight  *semaphore.Weighted // record bytes of all Append streams

	serving  sync.WaitGroup // the gRPC server
	watchers sync.WaitGroup // and stream receivers
	closing  sync.Once
	closed   error // of Close
}

// Start opens the log in options.Directory, verifies all of it, and serves. It returns before a leader is elected:
// see Ready. Errors: fault.Invalid, fault.Busy (another process has the directory), fault.CorruptData (names every
// damaged place), fault.Disk, fault.NoSpace, fault.Unavailable (a port is taken).
func Start(options Options) (*Server, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{options: options, health: newHealth(), inFlight: semaphore.NewWeighted(inFlightBytesMax)}
	if err := s.start(); err != nil {
		_ = s.release() // the start's failure is returned, not this one
		return nil, err
	}
	return s, nil
}

// start does the work of Start; release follows if it fails.
func (s *Server) start() (err error) {
	options := &s.options
	if err := os.MkdirAll(options.Directory, 0o755); err != nil {
		return vfs.FaultOf("start log server", err)
	}
	if s.lock, err = vfs.LockDirectory(options.Directory, walcheck.LockName, true); err != nil {
		return vfs.FaultOf("lock log directory", err)
	}
	if options.NodeID, err = claim(options.Directory, options.NodeID); err != nil {
		return err
	}
	report, err := walcheck.Prepare(options.Directory, options.Logger)
	if err != nil {
		return err
	}
	if s.mark, err = walcheck.OpenMark(options.Directory); err != nil {
		return vfs.FaultOf("open mark", err)
	}
	// From here on the log no longer ends where an orderly mark says.
	if err := s.mark.Write(0, false, true); err != nil {
		return vfs.FaultOf("write mark", err)
	}
	if s.listener, err = rpc.Listen(options.ListenGRPC); err != nil {
		return err
	}
	self, _ := options.self()
	if s.transport, err = newTransport(*options, self.Raft); err != nil {
		return err
	}
	files, err := checkpoint.OpenStore(vfs.OS{}, options.Directory, options.Logger)
	if err != nil {
		return err
	}
	if s.store, err = openStore(*options, report, files, s.fail); err != nil {
		return err
	}
	s.keeper = &checkpointKeeper{server: s, files: files}
	s.fsm = newFSM(s.fail)
	s.grpc = rpc.NewServer(rpc.ServerOptions{Logger: options.Logger, ConnectionsMax: options.ConnectionsMax})
	controlpb.RegisterEditLogServer(s.grpc.Server, &service{server: s})
	if s.group, err = startGroup(*options, s.fsm, s.store, s.transport, report); err != nil {
		return err
	}
	first, err := s.store.begins()
	if err != nil {
		return err
	}
	s.fsm.rebase(first, files.Usable(first))
	good, end := context.WithCancel(context.Background())
	s.good = good
	s.watchers.Go(func() {
		defer end()
		select {
		case <-s.health.stopping:
		case <-s.health.failed:
		}
	})
	s.watchers.Go(s.watchLeadership)
	s.watchers.Go(s.keeper.watch)
	s.watchers.Go(s.watchMark)
	if options.ScrubPeriod > 0 {
		s.watchers.Go(s.scrub)
	}
	s.serving.Go(func() {
		if err := s.grpc.Serve(s.listener); err != nil {
			s.fail(&fault.Error{Kind: fault.Unavailable, Op: "serve log", Address: s.Addr(), Err: err})
		}
	})
	last := uint64(0)
	if report != nil {
		last = report.LastTxid
	}
	options.Logger.Info("log server started", "node", options.NodeID, "grpc", s.Addr(), "raft", s.RaftAddr(),
		"dir", options.Directory, "peers", len(options.Peers), "last_txid", last)
	return nil
}

// Addr is the address of the gRPC server, with the real port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// RaftAddr is the address of the raft port as peers use it; empty if there is none.
func (s *Server) RaftAddr() string {
	if s.options.ListenRaft == "" {
		return ""
	}
	return string(s.transport.LocalAddr())
}

// NodeID is this server's name among its peers.
func (s *Server) NodeID() string { return s.options.NodeID }

// Close stops the server in order: streams end, the lead is transferred, calls may finish until ctx ends, the log
// is closed. Batches that were acknowledged are durable; the others may or may not be. Further calls return the
// same error.
func (s *Server) Close(ctx context.Context) error {
	s.closing.Do(func() { s.closed = s.close(ctx) })
	return s.closed
}

func (s *Server) close(ctx context.Context) error {
	if s.health.close() && !s.group.alone() {
		s.group.resign()
	}
	err := s.grpc.StopWithin(ctx)
	s.gate.drain()
	s.serving.Wait()
	s.watchers.Wait()
	return errors.Join(err, s.release())
}

// release ends raft and closes what Start opened, as far as it got.
func (s *Server) release() error {
	var errs []error
	clean := false
	if s.group != nil {
		err := s.group.shutdown().Error()
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
			errs = append(errs, s.mark.Write(applied, true, true))
		}
	}
	for _, c := range []io.Closer{s.listener, s.lock} {
		if c != nil {
			if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	if s.mark != nil {
		errs = append(errs, s.mark.Close())
	}
	s.health.end()
	return errors.Join(errs...)
}

// fail ends this server's service for good. It returns only after nothing can leave for the peers any more; it may
// run on any goroutine of raft, also while Start is still busy. watchLeadership does the rest.
func (s *Server) fail(err error) {
	if !s.health.fail(err) {
		return
	}
	s.options.Logger.Error("log server failed and must be restarted", "node", s.options.NodeID, "err", err)
	s.transport.cut()
	s.grpc.SetServing(false)
}

// readFailed remembers damage and disk errors: they are this server's, not the caller's.
func (s *Server) readFailed(err error) error {
	if (errors.Is(err, fault.CorruptData) || errors.Is(err, fault.Disk) || errors.Is(err, fault.Version)) &&
		s.health.damaged(err) {
		s.options.Logger.Error("the log is damaged", "node", s.options.NodeID, "err", err)
		s.grpc.SetServing(false)
	}
	return err
}

// Ready is nil while this server serves: it leads, or follows a leader, its
// disk kept every write, and no read found damage. Otherwise the error says why not.
func (s *Server) Ready() error {
	if err := s.health.unready(); err != nil || s.health.leading() {
		return err
	}
	_, leader := s.group.raft.LeaderWithID()
	if leader == "" || string(leader) == s.options.NodeID {
		return fault.New(fault.NotActive, "log server", "no leader is elected yet")
	}
	return nil
}

// Done is closed when the server ended: by Close, or by itself (see Err).
func (s *Server) Done() <-chan struct{} { return s.health.done }

// Err is why the server ended by itself: a disk error on a server without peers. nil while it runs and after an
// orderly Close. The caller still calls Close, and exits non-zero.
func (s *Server) Err() error {
	select {
	case <-s.health.done:
		return s.health.failure()
	default:
		return nil
	}
}

// leaderAddress is the leader's gRPC address; "" if it is not known.
func (s *Server) leaderAddress() string {
	if s.health.leading() {
		return s.Addr()
	}
	peer, _ := s.group.leader()
	return peer.GRPC
}

// explain returns the server's own failure instead of what raft made of it.
func (s *Server) explain(err error) error {
	if refusal := s.health.refusal(); refusal != nil {
		return refusal
	}
	return err
}

// watchLeadership keeps health informed whether this server leads and has applied everything that was committed
// before. After a failure it shuts raft down.
func (s *Server) watchLeadership() {
	for {
		select {
		case <-s.health.stopping:
			return
		case <-s.health.failed:
			alone := s.group.alone()
			s.gate.drain()
			s.group.shutdown() // Close waits for it
			if alone {
				s.health.end()
			}
			return
		case leads := <-s.group.raft.LeaderCh():
			leads = leads && s.lead()
			s.health.leadsNow(leads)
			s.grpc.SetServing(s.Ready() == nil)
			s.options.Logger.Info("log leadership", "node", s.options.NodeID, "leads", leads)
		}
	}
}

// lead prepares this server to serve as the leader; false if it cannot.
func (s *Server) lead() bool {
	if s.gate.enter(s.health.refusal) != nil {
		return false
	}
	defer s.gate.leave()
	return s.group.catchUp()
}

// watchMark writes the mark while the log grows.
func (s *Server) watchMark() {
	for clock.Sleep(s.good, s.options.Clock, markInterval) == nil {
		if applied := s.fsm.view().applied; applied > s.mark.Index() && s.store.failed() == nil {
			if err := s.mark.Write(applied, false, false); err != nil {
				_ = s.store.fail("write mark", err)
			}
		}
	}
}
