package dataplane

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whispering-woods/ww/dataplane/copier"
	"github.com/whispering-woods/ww/dataplane/machine"
	"github.com/whispering-woods/ww/dataplane/peers"
	"github.com/whispering-woods/ww/disk"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
)

// Options configure a Server.
type Options struct {
	Listen  string // host:port; port 0 picks a free one
	NodeID  string
	Store   *disk.Store
	Logger  *slog.Logger // nil: none
	Clock   clock.Clock  // nil: the system's
	Limits  Limits       // zero fields mean defaults
	Records RecordSink   // serves record sessions; nil: they are refused until ServeRecords
}

// Server is a running data server.
type Server struct {
	listen   string
	limits   Limits
	store    *disk.Store
	logger   *slog.Logger
	clock    clock.Clock
	started  time.Time
	node     *machine.Node
	counters *counters
	peers    *peers.Pool
	reads    *readServer
	copier   *copier.Copier
	records  atomic.Pointer[RecordSink]

	context    context.Context // ends when Close begins
	cancel     context.CancelFunc
	calls      calls          // of Copy and Recover
	goroutines sync.WaitGroup // of reads, sessions and queries; ticker
	work       sync.WaitGroup // what disk workers do for us
	handler    atomic.Pointer[handler]
	supervised chan struct{} // closed when the last engine has ended
}

var errStopping = fault.New(fault.Closed, "data server", "this datanode is stopping")

// engineRestartDelay spaces the restarts of an event engine that dies, which it
// does when it cannot accept (no file descriptors left).
const engineRestartDelay = 500 * time.Millisecond

// Start listens and serves until Close. Errors: fault.Invalid for impossible
// limits, fault.Unavailable when the address cannot be listened on.
func Start(options Options) (*Server, error) {
	limits, err := options.Limits.withDefaults()
	if err != nil {
		return nil, err
	}
	if options.Store == nil || options.NodeID == "" {
		return nil, fault.New(fault.Invalid, "start data server", "it needs a store and a node id")
	}
	asked := limits.ConnectionsMax
	var open unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &open); err != nil {
		return nil, &fault.Error{Kind: fault.Internal, Op: "start data server",
			Reason: "the limit of open files is unknown", Err: err}
	}
	lowered := limits.fitDescriptors(open.Cur)
	server := &Server{listen: options.Listen, limits: limits, store: options.Store, counters: &counters{},
		logger: cmp.Or(options.Logger, slog.New(slog.DiscardHandler)),
		clock:  cmp.Or[clock.Clock](options.Clock, clock.Real{})}
	if lowered {
		server.logger.Warn("fewer connections than configured: raise the limit of open files of this process",
			"configured", asked, "connections", limits.ConnectionsMax, "open_files", open.Cur,
			"open_files_wanted", asked*descriptorsPerConnection+descriptorsReserved)
	}
	server.started = server.clock.Now()
	server.node = machine.NewNode(options.NodeID, limits.machine(), &server.counters.protocol)
	server.peers = peers.New(peers.Options{DialTimeout: limits.DialTimeout, KeepAlive: keepAlivePeriod,
		IdleMax: limits.PeerConnectionsMax, IdleTimeout: limits.PeerIdleTimeout, Now: server.now})
	server.reads = &readServer{server: server, slots: make(chan struct{}, limits.Senders)}
	server.copier = copier.New(copier.Options{Store: server.store, Peers: server.peers, Buffers: server.node.Buffers,
		Clock: server.clock, Logger: server.logger,
		RunningMax: limits.CopiesMax, WaitingMax: limits.CopiesWaitingMax, StepTimeout: limits.StepTimeout,
		SilenceTimeout: limits.SilenceTimeout, DiskTimeout: limits.StepTimeout})
	server.context, server.cancel = context.WithCancel(context.Background())
	server.supervised = make(chan struct{})
	if options.Records != nil {
		server.records.Store(&options.Records)
	}

	h, ran, port, err := server.boot(options.Listen)
	if err != nil {
		server.cancel()
		return nil, &fault.Error{Kind: fault.Unavailable, Op: "start data server", Address: options.Listen, Err: err}
	}
	server.listen = withPort(options.Listen, port)
	go server.supervise(h, ran)
	server.goroutines.Go(server.tick)
	return server, nil
}

// boot starts an event engine and waits until it listens. ran tells when, and why, it has ended.
func (s *Server) boot(address string) (h *handler, ran chan error, port int, err error) {
	h = &handler{server: s, booted: make(chan int, 1)}
	ran = make(chan error, 1)
	go func() { ran <- h.run(address) }()
	select {
	case port, ok := <-h.booted:
		if ok {
			s.handler.Store(h)
			return h, ran, port, nil
		}
		h.stop()
		return nil, nil, 0, errors.Join(errors.New("cannot tell the port of the listening socket"), <-ran)
	case err := <-ran:
		return nil, nil, 0, err
	}
}

// supervise starts a new engine when one dies, until Close.
func (s *Server) supervise(engine *handler, ran chan error) {
	defer close(s.supervised)
	for {
		var err error
		select {
		case err = <-ran:
		case <-s.context.Done():
			engine.stop()
			err = <-ran
		}
		engine.finish()
		for engine = nil; engine == nil; {
			if s.context.Err() != nil {
				return
			}
			s.counters.engineRestarts.Add(1)
			s.logger.Error("event engine ended, starting it again", "address", s.listen, "err", err)
			if clock.Sleep(s.context, s.clock, engineRestartDelay) != nil {
				return
			}
			engine, ran, _, err = s.boot(s.listen)
		}
	}
}

// tick drives all timeouts.
func (s *Server) tick() {
	for clock.Sleep(s.context, s.clock, s.limits.TickInterval) == nil {
		s.handler.Load().tick()
		s.peers.Expire()
	}
}

// now is the time since the start.
func (s *Server) now() time.Duration { return s.clock.Now().Sub(s.started) }

// ServeRecords sets what serves the record sessions that begin from now on.
func (s *Server) ServeRecords(sink RecordSink) { s.records.Store(&sink) }

// Addr is the host:port that the server listens on.
func (s *Server) Addr() string { return s.listen }

// Load is the present load.
func (s *Server) Load() datanode.Load {
	sessions, windowBytes := s.node.Budget.Load()
	return datanode.Load{ActiveWrites: uint32(sessions), ActiveReads: uint32(s.counters.activeReads.Load()),
		QueuedDiskOps:      uint32(s.counters.diskJobs.Load() + s.copier.Stats().DiskJobs),
		GrantedWindowBytes: windowBytes, Links: s.node.Links()}
}

// MemoryMax is the most that peers can make the server hold, in bytes, besides
// replies that they do not read; garbage is not in it.
func (s *Server) MemoryMax() int64 { return s.limits.memoryMax() }

// Stats returns the counters.
func (s *Server) Stats() Stats {
	stats := s.counters.snapshot()
	stats.Buffers = s.node.Buffers.Outstanding()
	copies := s.copier.Stats()
	stats.Copies, stats.CopiesFailed, stats.BytesPulled = copies.Copies, copies.Failed, copies.BytesPulled
	return stats
}

// Close breaks off all sessions, reads and calls, leaves open replicas open, and waits for every goroutine and disk
// job of the server; ctx bounds the wait. The store stays open. Further calls wait too.
func (s *Server) Close(ctx context.Context) error {
	s.calls.refuse()
	s.cancel()
	done := make(chan struct{})
	go func() {
		<-s.supervised
		s.calls.running.Wait()
		s.peers.Close()
		s.goroutines.Wait()
		s.work.Wait()
		s.copier.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return &fault.Error{Kind: fault.Unavailable, Op: "stop data server", Reason: "work is still under way",
			Err: ctx.Err()}
	}
}

// calls counts the calls from goroutines of others, so that none begins what Close no longer waits for.
type calls struct {
	mu struct {
		sync.Mutex
		closed bool
	}
	running sync.WaitGroup // added to only while closed is false
}

func (c *calls) refuse() {
	c.mu.Lock()
	c.mu.closed = true
	c.mu.Unlock()
}

// enter begins a call from outside, whose context ends with ctx and when Close begins. The caller must call leave
// once its work is done. Error: fault.Closed after Close began.
func (s *Server) enter(ctx context.Context, op string) (_ context.Context, leave func(), _ error) {
	s.calls.mu.Lock()
	defer s.calls.mu.Unlock()
	if s.calls.mu.closed {
		return nil, nil, &fault.Error{Kind: fault.Closed, Op: op, Node: s.node.ID, Reason: "this datanode is stopping"}
	}
	s.calls.running.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.context, cancel)
	return ctx, func() {
		stop()
		cancel()
		s.calls.running.Done()
	}, nil
}
