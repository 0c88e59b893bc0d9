package namenode

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/editlog"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/fault"
)

// Keys of log lines.
const (
	keyNode    = "node"
	keyPeer    = "peer"
	keyEpoch   = "epoch"
	keyTxid    = "txid"
	keyCluster = "cluster"
	keyChunk   = "chunk"
	keyFile    = "file"
	keyCount   = "count"
	keyError   = "err"
)

// Server is a running namenode.
type Server struct {
	options  Options
	log      EditLog
	dialed   *editlog.Log // nil if Options.Log was given
	logger   *slog.Logger
	rpc      *rpc.Server
	listener net.Listener
	stats    counters

	// soft ends when Close begins, hard when it has waited long enough.
	cancelSoft, cancelHard context.CancelFunc

	closing chan struct{}  // closed by Close
	life    sync.WaitGroup // the life's goroutine and the gRPC server's
	streams sync.WaitGroup // receivers of datanode streams
	once    sync.Once

	// current is the term that serves; nil: not active, phase says why.
	current atomic.Pointer[term]
	phase   atomic.Pointer[phase]
	// logServers is what the watch over the epoch last heard.
	logServers atomic.Pointer[[]*controlpb.LogServerStatus]
	// checkpoint is what the last term knows of its checkpoints.
	checkpoint atomic.Pointer[checkpointStatus]
	calls      atomic.Int64  // client calls that wait for the actor
	sessions   atomic.Int64  // open datanode streams
	number     atomic.Uint64 // of the last session

	ready     chan struct{} // closed when first active
	readyOnce sync.Once
	done      chan struct{} // closed when the life has ended
	err       error         // why; set before done is closed
}

// phase is what a namenode that is not serving does.
type phase struct {
	doing string
	// applied of target records, while replaying.
	applied, target uint64
}

// Start listens and starts the first term; it does not wait until the namenode is
// active (Ready). Errors: fault.Invalid, fault.Unavailable if the port is taken.
func Start(options Options) (*Server, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	server := &Server{options: options, log: options.Log, logger: options.Logger, closing: make(chan struct{}),
		ready: make(chan struct{}), done: make(chan struct{})}
	server.phase.Store(&phase{doing: "starting"})
	if server.log == nil {
		if server.dialed, err = editlog.Dial(editlog.Options{Addresses: options.LogServers, Logger: options.Logger,
			Clock: options.Clock}); err != nil {
			return nil, err
		}
		server.log = dialedLog{server.dialed}
	}
	if server.listener, err = rpc.Listen(options.Listen); err != nil {
		server.closeLog()
		return nil, err
	}
	server.rpc = rpc.NewServer(rpc.ServerOptions{Logger: options.Logger, ConnectionsMax: options.ConnectionsMax,
		Extra: []grpc.ServerOption{grpc.MaxRecvMsgSize(requestBytesMax), grpc.NumStreamWorkers(streamWorkers)}})
	controlpb.RegisterNamenodeServer(server.rpc, &service{server: server})
	controlpb.RegisterDatanodeControlServer(server.rpc, &datanodes{server: server})
	hard, cancelHard := context.WithCancel(context.Background())
	soft, cancelSoft := context.WithCancel(hard)
	server.cancelSoft, server.cancelHard = cancelSoft, cancelHard
	server.life.Go(func() {
		if err := server.rpc.Serve(server.listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			server.logger.Error("gRPC server ended", keyError, err)
		}
	})
	server.life.Go(func() { server.run(soft, hard) })
	server.logger.Info("namenode listens", "address", server.Addr())
	return server, nil
}

// Addr is the gRPC server's host:port, with the real port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Ready is closed when the namenode became active for the first time.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Active is nil while the namenode serves, else the error that callers get.
func (s *Server) Active() error {
	_, err := s.activeTerm("check")
	return err
}

// Done is closed when the namenode has ended: by Close, or for good because another holds a higher epoch or the log
// is damaged (Err). In the latter case the port still answers, with fault.NotActive, until Close.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err is why the namenode ended by itself: fault.Fenced, fault.CorruptData,
// fault.Version. nil while it lives, and after Close.
func (s *Server) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// activeTerm is the term that serves, or fault.NotActive with what is going on.
func (s *Server) activeTerm(op string) (*term, error) {
	if t := s.current.Load(); t != nil {
		return t, nil
	}
	p := s.phase.Load()
	e := fault.New(fault.NotActive, op, "this namenode is not serving: %s", p.doing)
	if p.target > 0 {
		e = fault.New(fault.NotActive, op, "this namenode is not serving yet: %s, %d of %d", p.doing, p.applied,
			p.target)
	}
	return nil, e
}

// Close refuses new calls, waits until what is in flight to the log is durable and answered, cuts the datanode
// streams and ends every goroutine, within ctx. Errors: fault.Closed when calls had to be cut off.
func (s *Server) Close(ctx context.Context) error {
	var err error
	s.once.Do(func() {
		s.phase.Store(&phase{doing: "shutting down"})
		close(s.closing)
		s.cancelSoft()
		select {
		case <-s.done:
		case <-ctx.Done():
			s.cancelHard()
			<-s.done
		}
		s.cancelHard()
		err = s.rpc.StopWithin(ctx)
		s.life.Wait()
		s.streams.Wait()
		s.closeLog()
		s.logger.Info("namenode closed")
	})
	return err
}

func (s *Server) closeLog() {
	if s.dialed != nil {
		if err := s.dialed.Close(); err != nil {
			s.logger.Warn("log connection", keyError, err)
		}
	}
}
