package client

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/google/uuid"

	"github.com/whispering-woods/ww/client/internal/datanode"
	"github.com/whispering-woods/ww/client/internal/health"
	"github.com/whispering-woods/ww/client/internal/lifetime"
	"github.com/whispering-woods/ww/client/internal/namenode"
	"github.com/whispering-woods/ww/client/internal/pipeline"
	"github.com/whispering-woods/ww/client/internal/view"
	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/bufpool"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// Client is a connection to one cluster. Safe for concurrent use; Close it when done.
//
// It only puts its parts together; a method that begins something stands at the head of the file of what it begins.
type Client struct {
	options   Options
	logger    *slog.Logger
	clock     clock.Clock
	life      *lifetime.Lifetime
	buffers   *bufpool.Pool
	nodes     *health.Nodes
	namenode  *namenode.Client
	leases    *namenode.Leases
	datanodes *datanode.Client
	pipelines *pipeline.Pipelines
	views     *view.Views
}

// Dial makes a client. It checks the options but connects only when the first call needs it. ctx covers Dial alone.
// Errors: fault.Invalid.
func Dial(ctx context.Context, options Options) (*Client, error) {
	if err := ctx.Err(); err != nil {
		return nil, lifetime.Ended(ctx, "dial", "", nil)
	}
	if err := options.fill(); err != nil {
		return nil, err
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return nil, &fault.Error{Kind: fault.Internal, Op: "choose client id", Err: err}
	}
	bandwidth := datanode.NewBandwidth(options.Clock)
	if err := bandwidth.Set(options.BandwidthBytes); err != nil {
		return nil, err
	}
	client := &Client{options: options, logger: options.Logger, clock: options.Clock, life: lifetime.New(),
		buffers: bufpool.New(), nodes: health.NewNodes(options.Clock)}
	client.namenode, err = namenode.New(namenode.Options{Addresses: options.Namenodes, ID: id, Retry: client.retry,
		FirstContact: options.FirstContact, CallTimeout: options.CallTimeout, Life: client.life,
		Clock: options.Clock, Logger: options.Logger})
	if err != nil {
		return nil, err
	}
	client.leases = namenode.NewLeases(client.namenode, options.LeaseRenewal, options.KeepAlive)
	times := &health.ReadTimes{}
	client.datanodes = datanode.New(datanode.Options{DialTimeout: options.DialTimeout,
		DataTimeout: options.DataTimeout, SilenceTimeout: options.SilenceTimeout, Bandwidth: bandwidth,
		Buffers: client.buffers, Nodes: client.nodes, Times: times, Clock: options.Clock})
	client.pipelines = pipeline.New(pipeline.Options{Namenode: client.namenode, Datanodes: client.datanodes,
		Nodes: client.nodes, Life: client.life, Buffers: client.buffers, Clock: options.Clock,
		Logger: options.Logger, ClientName: options.Name, WindowBytes: options.WindowBytes,
		NodesLeast: options.PipelineNodesLeast, Retry: client.retry,
		SlowBytesPerSecond: options.SlowBytesPerSecond})
	client.views = view.New(view.Options{Namenode: client.namenode, Reports: namenode.NewReports(client.namenode),
		Datanodes: client.datanodes, Nodes: client.nodes, Times: times, Buffers: client.buffers,
		Retry: client.retry, Clock: options.Clock, Logger: options.Logger, HedgeAfter: options.HedgeAfter})
	return client, nil
}

// retry asks the policy of the options.
func (c *Client) retry(number int, elapsed time.Duration, err error) (wait time.Duration, retry bool) {
	return c.options.Retry.Next(Attempt{Number: number, Elapsed: elapsed, Err: err})
}

// fill puts the defaults in and checks the rest.
func (o *Options) fill() error {
	var err error
	if o.Namenodes, err = rpc.CheckAddresses(o.Namenodes); err != nil {
		return err
	}
	o.Clock = cmp.Or[clock.Clock](o.Clock, clock.Real{})
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	if o.Retry == nil {
		if o.Retry, err = RetryByName(RetryExponential, RetryLimits{}); err != nil {
			return err
		}
	}
	if o.Name == "" {
		host, _ := os.Hostname() // only for people; the pid is enough
		o.Name = fmt.Sprintf("%s:%d", host, os.Getpid())
	}
	if o.User == "" {
		o.User = userName()
	}
	o.FirstContact = cmp.Or(o.FirstContact, firstContactDefault)
	o.CallTimeout = cmp.Or(o.CallTimeout, callTimeoutDefault)
	o.DataTimeout = cmp.Or(o.DataTimeout, dataTimeoutDefault)
	o.SilenceTimeout = cmp.Or(o.SilenceTimeout, silenceTimeoutDefault)
	o.DialTimeout = cmp.Or(o.DialTimeout, dialTimeoutDefault)
	o.LeaseRenewal = cmp.Or(o.LeaseRenewal, leaseRenewalDefault)
	o.KeepAlive = cmp.Or(o.KeepAlive, keepAliveDefault)
	o.PipelineNodesLeast = cmp.Or(o.PipelineNodesLeast, 1)
	o.SlowBytesPerSecond = cmp.Or(o.SlowBytesPerSecond, slowRateDefault)
	o.ParallelChunks = cmp.Or(o.ParallelChunks, parallelChunksDefault)
	o.PacketBytes = cmp.Or(o.PacketBytes, packetBytesDefault)
	o.WindowBytes = cmp.Or(o.WindowBytes, windowBytesDefault)
	o.ReadaheadBytes = cmp.Or(o.ReadaheadBytes, readaheadBytesDefault)
	invalid := func(format string, args ...any) error {
		return fault.New(fault.Invalid, "check client options", format, args...)
	}
	text := limits.CheckText("the client's name", o.Name, limits.TextBytesMax)
	negative := min(o.KeepAlive, o.FirstContact, o.CallTimeout, o.DataTimeout, o.SilenceTimeout, o.DialTimeout,
		o.LeaseRenewal) < 0
	const block = chunk.ChecksumBlockBytes
	switch {
	case text != "":
		return invalid("%s", text)
	case o.PacketBytes < 0 || o.PacketBytes%block != 0 || o.PacketBytes > limits.PacketBytesMax:
		return invalid("packets of %d bytes: want a multiple of %d, at most %d", o.PacketBytes, block,
			limits.PacketBytesMax)
	case o.ParallelChunks < 0 || o.ParallelChunks > ParallelChunksMax:
		return invalid("%d parallel chunks: want 1 to %d", o.ParallelChunks, ParallelChunksMax)
	case o.WindowBytes < int64(o.PacketBytes) || o.WindowBytes > limits.WindowBytesMax:
		return invalid("a window of %d bytes: want %d to %d", o.WindowBytes, o.PacketBytes, limits.WindowBytesMax)
	case o.ReadaheadBytes > readaheadBytesMax:
		return invalid("%d bytes of reading ahead: want at most %d", o.ReadaheadBytes, readaheadBytesMax)
	case o.PipelineNodesLeast < 1 || o.PipelineNodesLeast > wire.HopsMax:
		return invalid("at least %d nodes of a pipeline: want 1 to %d", o.PipelineNodesLeast, wire.HopsMax)
	case o.HedgeAfter < 0 && o.HedgeAfter != HedgeP99:
		return invalid("a second replica asked after %v", o.HedgeAfter)
	case negative:
		return invalid("a negative duration")
	}
	return nil
}

// Close ends all background work, makes running operations fail with fault.Closed, closes all connections, and waits.
// Files still open for writing stay open in the namenode until their lease ends: Close or Abort them first.
func (c *Client) Close() error {
	if !c.life.Close() {
		return nil // it was closed before
	}
	c.datanodes.Pool.Close()
	return c.namenode.Close()
}

// SetBandwidth limits the bytes per second that the client sends to and reads from datanodes, all its files together;
// 0: no limit. Bytes that datanodes copy among themselves do not count. Error: fault.Invalid below BandwidthLeast.
func (c *Client) SetBandwidth(bytesPerSecond int64) error {
	return c.datanodes.Bandwidth.Set(bytesPerSecond)
}

// Stats is what a Client holds at one moment.
type Stats struct {
	Buffers     int64 // pooled buffers in use; 0 while nothing runs
	Connections int   // data connections in use
}

// Stats counts what the client holds.
func (c *Client) Stats() Stats {
	return Stats{Buffers: c.buffers.Outstanding(), Connections: c.datanodes.Pool.InUse()}
}
