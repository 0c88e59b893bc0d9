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
	o        Options
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

	// current is the tenure that serves; nil: not active, phase says why.
	current atomic.Pointer[tenure]
	phase   atomic.Pointer[phase]
	// logServers is what the watch over the epoch last heard.
	logServers atomic.Pointer[[]*controlpb.LogServerStatus]
	// checkpoint is what the last tenure knows of its checkpoints.
	checkpoint atomic.Pointer[checkpointStatus]
	calls      atomic.Int64  // client calls that wait for the actor
	sessions   atomic.Int64  // open datanode streams
	number     atomic.Uint64 // of the last session

	ready     chan struct{} // closed when first active
	readyOnce sync.Once
	done      chan struct{} // closed when the life has ended
	err       error         // why; set before done is closed
}

// phase is what a namenode that does not serve is doing.
type phase struct {
	doing string
	// applied of target records, while replaying.
	applied, target uint64
}

// Start listens and begins the namenode's life; it does not wait until it is
// active (Ready). Errors: fault.Invalid, fault.Unavailable if the port is taken.
func Start(o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{o: o, log: o.Log, logger: o.Logger, closing: make(chan struct{}), ready: make(chan struct{}), done: make(chan struct{})}
	s.phase.Store(&phase{doing: "starting"})
	if s.log == nil {
		if s.dialed, err = editlog.Dial(editlog.Options{Addresses: o.LogServers, Logger: o.Logger, Clock: o.Clock}); err != nil {
			return nil, err
		}
		s.log = dialedLog{s.dialed}
	}
	if s.listener, err = rpc.Listen(o.Listen); err != nil {
		s.closeLog()
		return nil, err
	}
	s.rpc = rpc.NewServer(rpc.ServerOptions{Logger: o.Logger, ConnectionsMax: o.ConnectionsMax, Extra: []grpc.ServerOption{grpc.MaxRecvMsgSize(requestBytesMax), grpc.NumStreamWorkers(streamWorkers)}})
	controlpb.RegisterNamenodeServer(s.rpc, &service{server: s, audit: newAudit(o)})
	controlpb.RegisterDatanodeControlServer(s.rpc, &datanodes{server: s})
	hard, cancelHard := context.WithCancel(context.Background())
	soft, cancelSoft := context.WithCancel(hard)
	s.cancelSoft, s.cancelHard = cancelSoft, cancelHard
	s.life.Go(func() {
		if err := s.rpc.Serve(s.listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			s.logger.Error("gRPC server ended", keyError, err)
		}
	})
	s.life.Go(func() { s.live(soft, hard) })
	s.logger.Info("namenode listens", "address", s.Addr())
	return s, nil
}

// Addr is the gRPC server's host:port, with the real port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Ready is closed when the namenode became active for the first time.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Active is nil while the namenode serves, else the error that callers get.
func (s *Server) Active() error {
	_, err := s.tenure("check")
	return err
}

// Done is closed when the namenode has ended: by Close, or for good because
// another holds a higher epoch or the log is damaged (Err). In the latter case
// the port still answers, with fault.NotActive, until Close.
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

// tenure is the one that serves, or fault.NotActive with what is going on.
func (s *Server) tenure(op string) (*tenure, error) {
	if t := s.current.Load(); t != nil {
		return t, nil
	}
	p := s.phase.Load()
	e := fault.New(fault.NotActive, op, "this namenode does not serve: %s", p.doing)
	if p.target > 0 {
		e = fault.New(fault.NotActive, op, "this namenode does not serve yet: %s, %d of %d", p.doing, p.applied, p.target)
	}
	return nil, e
}

// Close refuses new calls, waits until what is in flight to the log is durable
// and answered, cuts the datanode streams and ends every goroutine, within ctx.
// Errors: fault.Closed when calls had to be cut off.
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
