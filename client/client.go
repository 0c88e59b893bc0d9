package client

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"
	"unicode/utf8"

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
func Dial(ctx context.Context, o Options) (*Client, error) {
	if err := ctx.Err(); err != nil {
		return nil, lifetime.Ended(ctx, "dial", "", nil)
	}
	if err := o.fill(); err != nil {
		return nil, err
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return nil, &fault.Error{Kind: fault.Internal, Op: "choose client id", Err: err}
	}
	bandwidth := datanode.NewBandwidth(o.Clock)
	if err := bandwidth.Set(o.BandwidthBytes); err != nil {
		return nil, err
	}
	c := &Client{options: o, logger: o.Logger, clock: o.Clock, life: lifetime.New(), buffers: bufpool.New(), nodes: health.NewNodes(o.Clock)}
	if c.namenode, err = namenode.New(namenode.Options{Addresses: o.Namenodes, ID: id, Retry: c.retry, FirstContact: o.FirstContact,
		CallTimeout: o.CallTimeout, Life: c.life, Clock: o.Clock, Logger: o.Logger}); err != nil {
		return nil, err
	}
	c.leases = namenode.NewLeases(c.namenode, o.LeaseRenewal, o.KeepAlive)
	times := &health.ReadTimes{}
	c.datanodes = datanode.New(datanode.Options{DialTimeout: o.DialTimeout, DataTimeout: o.DataTimeout, Bandwidth: bandwidth,
		Buffers: c.buffers, Nodes: c.nodes, Times: times, Clock: o.Clock})
	c.pipelines = pipeline.New(pipeline.Options{Namenode: c.namenode, Datanodes: c.datanodes, Nodes: c.nodes, Life: c.life,
		Buffers: c.buffers, Clock: o.Clock, Logger: o.Logger, ClientName: o.Name, WindowBytes: o.WindowBytes,
		NodesLeast: o.PipelineNodesLeast, SlowBytesPerSecond: o.SlowBytesPerSecond})
	c.views = view.New(view.Options{Namenode: c.namenode, Reports: namenode.NewReports(c.namenode), Datanodes: c.datanodes,
		Nodes: c.nodes, Times: times, Buffers: c.buffers, Retry: c.retry, Clock: o.Clock, Logger: o.Logger, HedgeAfter: o.HedgeAfter})
	return c, nil
}

// retry asks the policy of the options.
func (c *Client) retry(number int, elapsed time.Duration, err error) (wait time.Duration, again bool) {
	return c.options.Retry.Next(Attempt{Number: number, Elapsed: elapsed, Err: err})
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
	o.FirstContact = cmp.Or(o.FirstContact, firstContactDefault)
	o.CallTimeout = cmp.Or(o.CallTimeout, callTimeoutDefault)
	o.DataTimeout = cmp.Or(o.DataTimeout, dataTimeoutDefault)
	o.DialTimeout = cmp.Or(o.DialTimeout, dialTimeoutDefault)
	o.LeaseRenewal = cmp.Or(o.LeaseRenewal, leaseRenewalDefault)
	o.KeepAlive = cmp.Or(o.KeepAlive, keepAliveDefault)
	o.PipelineNodesLeast = cmp.Or(o.PipelineNodesLeast, 1)
	o.SlowBytesPerSecond = cmp.Or(o.SlowBytesPerSecond, slowRateDefault)
	o.ParallelChunks = cmp.Or(o.ParallelChunks, parallelChunksDefault)
	o.PacketBytes = cmp.Or(o.PacketBytes, packetBytesDefault)
	o.WindowBytes = cmp.Or(o.WindowBytes, windowBytesDefault)
	o.ReadaheadBytes = cmp.Or(o.ReadaheadBytes, readaheadBytesDefault)
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
