package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/backoff"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

// link keeps a stream to one namenode: it connects, runs a session, and reconnects. Its goroutine is run.
type link struct {
	agent      *Agent
	address    string
	connection *grpc.ClientConn
	logger     *slog.Logger
	queue      *changeQueue
	// outbox holds answers to orders for the stream that runs, or the next one.
	outbox chan *controlpb.DatanodeMessage
	// urgent asks for a heartbeat at once; beats counts those that were sent.
	urgent chan struct{} // capacity 1
	beats  atomic.Uint64
	report uint64 // the number of the last full report; only run's goroutine
	mu     struct {
		sync.Mutex
		status Status
	}
}

func newLink(a *Agent, address string, connection *grpc.ClientConn) *link {
	l := &link{agent: a, address: address, connection: connection,
		logger: a.options.Logger.With(keyNamenode, address), queue: a.options.Events.subscribe(queueChangesMax),
		outbox: make(chan *controlpb.DatanodeMessage, outboxMax), urgent: make(chan struct{}, 1)}
	l.mu.status = Status{Namenode: address, Since: a.options.Clock.Now()}
	return l
}

func (l *link) close() {
	l.agent.options.Events.unsubscribe(l.queue)
	// The only error is that it was closed before.
	_ = l.connection.Close()
}

// run lives until ctx ends.
func (l *link) run(ctx context.Context) {
	failures := 0 // in a row
	var last string
	for ctx.Err() == nil {
		s := newSession(l)
		err := s.run(ctx)
		l.queue.stop()
		if ctx.Err() != nil {
			break
		}
		wasRegistered := l.noteEnded(err)
		if wasRegistered {
			failures = 0
			l.observeLast()
		}
		failures++
		pause := backoff.Spread(backoff.Exponential{First: backoffFirst, Max: backoffMax}.After(failures))
		refused := isRefusal(err)
		if refused {
			pause = max(pause, backoffRefused)
		}
		occupied := errors.Is(err, fault.Exists)
		if occupied || errors.Is(err, fault.Closed) {
			// Somebody else is registered under this node's id: do not take turns with it in a fast circle.
			pause = max(pause, backoffMax)
		}
		// The same reason is logged once, however often it comes back.
		if text := err.Error(); wasRegistered || text != last {
			last = text
			level, message := slog.LevelWarn, "no namenode"
			switch {
			case refused:
				level, message = slog.LevelError, "refused: namenode and datanode do not belong together"
			case occupied:
				level, message = slog.LevelError, "refused: another process runs under this datanode's id"
			case wasRegistered:
				message = "stream to namenode broke"
			case errors.Is(err, fault.NotActive):
				level, message = slog.LevelInfo, "the namenode is not serving yet"
			}
			l.logger.Log(ctx, level, message, keyError, err, "retryIn", pause.Round(time.Millisecond))
		}
		if clock.Sleep(ctx, l.agent.options.Clock, pause) != nil {
			break
		}
	}
	l.noteEnded(&fault.Error{Kind: fault.Closed, Op: "agent"})
}

// observeLast writes down how far the namenode's log was when its stream ended: what comes next under its address may
// be an older copy of it.
func (l *link) observeLast() {
	last := l.snapshot()
	if err := l.agent.options.Store.ObserveEpoch(last.Epoch, last.Txid); err != nil && !errors.Is(err, fault.Fenced) {
		l.logger.Warn("the namenode's last txid is not written down", keyTxid, last.Txid, keyError, err)
	}
}

// isRefusal reports whether an early retry is of no use: one side is of another
// cluster, or has forgotten what the other one knows.
func isRefusal(err error) bool {
	return errors.Is(err, fault.Fenced) || errors.Is(err, fault.Invalid) || errors.Is(err, fault.Version) ||
		errors.Is(err, fault.Protocol)
}

// answer queues the answer to an order. Without a stream, or when the outbox is
// full, it is dropped: the namenode repeats an order that is not answered.
func (l *link) answer(m *controlpb.DatanodeMessage) {
	select {
	case l.outbox <- m:
	default:
		l.logger.Warn("answer to an order dropped: too many wait for the stream")
	}
}

func (l *link) snapshot() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.status
}

func (l *link) noteRegistered(clusterID string, epoch, txid uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.status = Status{Namenode: l.address, Registered: true, ClusterID: clusterID, Epoch: epoch, Txid: txid,
		Since: l.agent.options.Clock.Now(), Reports: l.mu.status.Reports}
}

func (l *link) noteReport() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.status.Reports++
}

func (l *link) noteTxid(txid uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.status.Txid = txid
}

// noteEnded keeps why the stream is gone, and returns whether it was registered.
func (l *link) noteEnded(err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.mu.status.Registered
	if was {
		l.mu.status.Since = l.agent.options.Clock.Now()
	}
	l.mu.status.Registered, l.mu.status.Err = false, err
	return was
}

// connect opens a stream.
func (l *link) connect(ctx context.Context) (controlpb.DatanodeControl_ConnectClient, error) {
	stream, err := controlpb.NewDatanodeControlClient(l.connection).Connect(ctx)
	return stream, l.explain(err)
}

func (l *link) explain(err error) error {
	return rpc.FromStatus(err, "register with namenode", l.address)
}
