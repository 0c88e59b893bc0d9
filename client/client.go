package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/google/uuid"
	"golang.org/x/time/rate"

	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/bufpool"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
)

// Client is a connection to one cluster. Safe for concurrent use; Close it when
// done.
type Client struct {
	options   Options
	id        uuid.UUID
	logger    *slog.Logger
	clock     clock.Clock
	namenodes *namenodes
	sequences *sequences
	pool      *connectionPool
	nodes     *nodeMemory
	leases    *leaseKeeper
	buffers   *bufpool.Pool
	reports   badReports
	slow      slowWatch
	limiter   *rate.Limiter
	times     readTimes
	hedged    atomic.Int64 // reads that asked a second replica

	// ctx ends when the client closes; every operation's context ends with it.
	ctx    context.Context
	cancel context.CancelFunc
	mu     struct {
		sync.Mutex
		closed bool
	}
	// running counts goroutines; none is added once closed is set.
	running sync.WaitGroup
}

// Dial makes a client. It checks the options but connects only when the first
// call needs it. ctx covers Dial alone. Errors: fault.Invalid.
func Dial(ctx context.Context, o Options) (*Client, error) {
	if err := ctx.Err(); err != nil {
		return nil, contextFault(ctx, "dial", "", nil)
	}
	if err := o.fill(); err != nil {
		return nil, err
	}
	c := &Client{options: o, logger: o.Logger, clock: o.Clock, buffers: bufpool.New()}
	var err error
	if c.id, err = uuid.NewRandom(); err != nil {
		return nil, &fault.Error{Kind: fault.Internal, Op: "choose client id", Err: err}
	}
	if c.namenodes, err = newNamenodes(o); err != nil {
		return nil, err
	}
	c.limiter = rate.NewLimiter(rate.Inf, bandwidthBurst)
	if err := c.SetBandwidth(o.BandwidthBytes); err != nil {
		return nil, err
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.sequences = newSequences(c.id)
	c.nodes = newNodeMemory(o.Clock)
	c.slow.client = c
	c.pool = newConnectionPool(o)
	c.leases = newLeaseKeeper(c)
	c.reports.running = make(map[badReplica]struct{})
	return c, nil
}

// fill puts the defaults in and checks the rest.
func (o *Options) fill() error {
	var err error
	if o.Namenodes, err = rpc.CheckAddresses(o.Namenodes); err != nil {
		return err
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Retry == nil {
		if o.Retry, err = RetryByName(RetryExponential, RetryLimits{}); err != nil {
			return err
		}
	}
	if o.Name == "" {
		host, _ := os.Hostname() // only for people; an empty host still tells the pid
		o.Name = fmt.Sprintf("%s:%d", host, os.Getpid())
	}
	setDefault(&o.FirstContact, firstContactDefault)
	setDefault(&o.CallTimeout, callTimeoutDefault)
	setDefault(&o.DataTimeout, dataTimeoutDefault)
	setDefault(&o.DialTimeout, dialTimeoutDefault)
	setDefault(&o.LeaseRenewal, leaseRenewalDefault)
	setDefault(&o.KeepAlive, keepAliveDefault)
	setDefault(&o.PipelineNodesLeast, 1)
	setDefault(&o.SlowBytesPerSecond, slowRateDefault)
	setDefault(&o.ParallelChunks, parallelChunksDefault)
	setDefault(&o.PacketBytes, packetBytesDefault)
	setDefault(&o.WindowBytes, windowBytesDefault)
	if o.ReadaheadBytes == 0 {
		o.ReadaheadBytes = readaheadBytesDefault
	}
	const op = "check client options"
	switch {
	case len(o.Name) > nameBytesMax || !utf8.ValidString(o.Name):
		return fault.New(fault.Invalid, op, "a name of %d bytes: want valid UTF-8, at most %d", len(o.Name), nameBytesMax)
	case o.PacketBytes < 0 || o.PacketBytes%chunk.ChecksumBlockBytes != 0 || o.PacketBytes > packetBytesMax:
		return fault.New(fault.Invalid, op, "packets of %d bytes: want a multiple of %d, at most %d", o.PacketBytes, chunk.ChecksumBlockBytes, packetBytesMax)
	case o.ParallelChunks < 0 || o.ParallelChunks > ParallelChunksMax:
		return fault.New(fault.Invalid, op, "%d parallel chunks: want 1 to %d", o.ParallelChunks, ParallelChunksMax)
	case o.WindowBytes < int64(o.PacketBytes) || o.WindowBytes > windowBytesMax:
		return fault.New(fault.Invalid, op, "a window of %d bytes: want %d to %d", o.WindowBytes, o.PacketBytes, windowBytesMax)
	case o.ReadaheadBytes > readaheadBytesMax:
		return fault.New(fault.Invalid, op, "%d bytes of reading ahead: want at most %d", o.ReadaheadBytes, readaheadBytesMax)
	case o.PipelineNodesLeast < 1 || o.PipelineNodesLeast > wire.HopsMax:
		return fault.New(fault.Invalid, op, "at least %d nodes of a pipeline: want 1 to %d", o.PipelineNodesLeast, wire.HopsMax)
	case o.HedgeAfter < 0 && o.HedgeAfter != HedgeP99:
		return fault.New(fault.Invalid, op, "a second replica asked after %v", o.HedgeAfter)
	case o.KeepAlive < 0 || o.FirstContact < 0 || o.CallTimeout < 0 || o.DataTimeout < 0 || o.DialTimeout < 0 || o.LeaseRenewal < 0:
		return fault.New(fault.Invalid, op, "a negative duration")
	}
	return nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Close ends all background work, makes running operations fail with
// fault.Closed, closes all connections, and waits. Files still open for writing
// stay open in the namenode until their lease ends: Close or Abort them first.
func (c *Client) Close() error {
	c.mu.Lock()
	already := c.mu.closed
	c.mu.closed = true
	c.mu.Unlock()
	if already {
		return nil
	}
	c.cancel()
	c.running.Wait()
	c.pool.close()
	return c.namenodes.close()
}

// start runs f on a goroutine that Close waits for; false if the client is
// closed.
func (c *Client) start(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closed {
		return false
	}
	c.running.Add(1)
	go func() {
		defer c.running.Done()
		f()
	}()
	return true
}

// scope derives the context of one operation: it also ends when the client
// closes. The caller must call the returned function.
func (c *Client) scope(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.ctx, func() { cancel(errClientClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

var errClientClosed = fault.New(fault.Closed, "client", "the client was closed")

// contextFault is the error of an operation whose context ended: fault.Closed
// when cancelled, fault.Unavailable when out of time. last is the failure that
// was being retried, if any.
func contextFault(ctx context.Context, op, path string, last error) error {
	cause := ctx.Err()
	e := &fault.Error{Kind: fault.Closed, Op: op, Path: path, Reason: "cancelled by the caller", Err: cause}
	switch {
	case errors.Is(context.Cause(ctx), errClientClosed):
		e.Reason, e.Err = errClientClosed.Reason, nil
	case cause == context.DeadlineExceeded:
		e.Kind, e.Reason = fault.Unavailable, "out of time"
	}
	if last != nil {
		e.Reason += ", after: " + last.Error()
	}
	return e
}
