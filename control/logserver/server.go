package logserver

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/semaphore"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

// lockName is the file in a log server's directory whose lock keeps a second
// process out.
const lockName = "LOCK"

// Server is a running log server.
type Server struct {
	o         Options
	lock      io.Closer
	store     *store
	fsm       *fsm
	transport *transport
	raft      *raft.Raft
	endRaft   func() raft.Future // begins the end of raft; every call gives the one future that tells when it is over
	grpc      *rpc.Server
	listener  net.Listener
	mark      *markFile
	// checkpoints are on this server's disk; uploads is how many are coming in.
	checkpoints *checkpoints
	uploads     atomic.Int32
	inFlight    *semaphore.Weighted // record bytes of all Append streams

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
			_ = s.release() // the reason of the start's failure is told, not this
		}
	}()
	if s.lock, err = vfs.LockDirectory(o.Directory, lockName, true); err != nil {
		return nil, diskFault("lock log directory", err)
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
	if s.checkpoints, err = openCheckpoints(vfs.OS{}, o.Directory, o.Logger); err != nil {
		return nil, err
	}
	if s.store, err = openStore(s.o, report, s.checkpoints, s.fail); err != nil {
		return nil, err
	}
	s.fsm = newFSM(s.fail)
	s.grpc = rpc.NewServer(rpc.ServerOptions{Logger: o.Logger, ConnectionsMax: o.ConnectionsMax})
	controlpb.RegisterEditLogServer(s.grpc.Server, &service{server: s})
	if err := s.startRaft(report); err != nil {
		return nil, err
	}
	s.group.Go(s.watchLeadership)
	s.group.Go(s.watchCheckpoints)
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
		err := s.endRaft().Error()
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
		if c != nil {
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
