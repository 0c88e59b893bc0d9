package namenode

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/whispering-woods/ww/actor"
	"github.com/whispering-woods/ww/control/controlpb"
	"github.com/whispering-woods/ww/control/editlog"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// Options configures Start. The zero value of a field means its default.
type Options struct {
	// Listen is the host:port of the gRPC server; port 0 picks one. Required.
	Listen string
	// LogServers are the host:port of the log servers. Required unless Log is set.
	LogServers []string
	// Log replaces the connection to LogServers; Close does not close it.
	Log EditLog
	// ID is the name that an operator gave this namenode; "" if none.
	ID string
	// Holder names this namenode at the log server, for people. Default ID, host name, process id and Listen.
	Holder string
	// ClusterID is given to an empty log; empty: a new UUID.
	ClusterID string
	// Actor holds the state machine's settings.
	Actor actor.Config
	// HeartbeatInterval (1 s) and ReportInterval (6 h) are sent to datanodes when they register.
	HeartbeatInterval time.Duration
	ReportInterval    time.Duration
	// Mailbox is the number of commands that may wait (8192).
	Mailbox int
	// BatchesInFlight to the log (2, at most 64), each of BatchRecords (4096, at
	// most 16,384) and BatchBytes (2 MiB to 4 MiB, default 2) at most.
	BatchesInFlight int
	BatchRecords    int
	BatchBytes      int
	// ConnectionsMax bounds the open gRPC connections (8192).
	ConnectionsMax int
	// CheckpointRecords (50,000) and CheckpointBytes (64 MiB) of edit records, or an eighth of the state if that is
	// more, cause a checkpoint, as does CheckpointInterval (1 h) if anything changed.
	CheckpointRecords  uint64
	CheckpointBytes    uint64
	CheckpointInterval time.Duration
	// AdminAddress is the host:port of this process's admin address, which the
	// cluster's status shows; "" if there is none.
	AdminAddress string
	Logger       *slog.Logger // nil = none
	Clock        clock.Clock  // nil = the system's
	// Rand is the source of ids and choices; nil = crypto/rand. Used by one goroutine.
	Rand io.Reader
}

func (o Options) withDefaults() (Options, error) {
	invalid := func(format string, args ...any) (Options, error) {
		return o, fault.New(fault.Invalid, "start namenode", format, args...)
	}
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	o.Clock = cmp.Or[clock.Clock](o.Clock, clock.Real{})
	o.Rand = cmp.Or(o.Rand, rand.Reader)
	o.Rand = bufio.NewReaderSize(o.Rand, randomBuffer)
	if o.Holder == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "unknown"
		}
		o.Holder = strings.TrimSpace(fmt.Sprintf("%s %s:%d (%s)", o.ID, host, os.Getpid(), o.Listen))
	}
	o.Holder = o.Holder[:min(len(o.Holder), limits.HolderBytesMax)]
	o.HeartbeatInterval = cmp.Or(o.HeartbeatInterval, heartbeatDefault)
	o.ReportInterval = cmp.Or(o.ReportInterval, reportDefault)
	o.Mailbox = cmp.Or(o.Mailbox, mailboxDefault)
	o.BatchesInFlight = cmp.Or(o.BatchesInFlight, batchesInFlightDefault)
	o.BatchRecords = cmp.Or(o.BatchRecords, batchRecordsDefault)
	o.BatchBytes = cmp.Or(o.BatchBytes, batchBytesDefault)
	o.CheckpointRecords = cmp.Or(o.CheckpointRecords, checkpointRecordsDefault)
	o.CheckpointBytes = cmp.Or(o.CheckpointBytes, checkpointBytesDefault)
	o.CheckpointInterval = cmp.Or(o.CheckpointInterval, checkpointIntervalDefault)
	o.Actor = o.Actor.WithDefaults()
	switch {
	case o.HeartbeatInterval < 0 || o.ReportInterval < 0:
		return invalid("intervals must not be negative")
	case o.HeartbeatInterval >= o.Actor.StaleAfter:
		return invalid("a heartbeat every %v makes every node stale: nodes are stale after %v", o.HeartbeatInterval,
			o.Actor.StaleAfter)
	case o.Mailbox < 1 || o.Mailbox > mailboxMax:
		return invalid("mailbox of %d commands; 1 to %d", o.Mailbox, mailboxMax)
	case o.BatchesInFlight < 1 || o.BatchesInFlight > limits.BatchesInFlightMax:
		return invalid("%d batches in flight; 1 to %d", o.BatchesInFlight, limits.BatchesInFlightMax)
	case o.BatchRecords < 1 || o.BatchRecords > limits.BatchRecordsMax:
		return invalid("batches of %d records; 1 to %d", o.BatchRecords, limits.BatchRecordsMax)
	case o.BatchBytes < limits.BatchBytesMin || o.BatchBytes > limits.BatchBytesMax:
		return invalid("batches of %d bytes; %d to %d", o.BatchBytes, limits.BatchBytesMin, limits.BatchBytesMax)
	case o.ConnectionsMax < 0:
		return invalid("%d connections", o.ConnectionsMax)
	case o.CheckpointInterval < limits.CheckpointIntervalMin:
		return invalid("a checkpoint every %v; at least %v", o.CheckpointInterval, limits.CheckpointIntervalMin)
	case o.Log == nil && len(o.LogServers) == 0:
		return invalid("no log server is named")
	}
	if err := o.Actor.Validate(); err != nil {
		return o, &fault.Error{Kind: fault.Invalid, Op: "start namenode", Err: err}
	}
	return o, nil
}

// EditLog is the log of mutations as the namenode uses it; editlog.Log is one.
type EditLog interface {
	// AcquireEpoch makes the caller the only accepted writer.
	AcquireEpoch(ctx context.Context, holder string) (editlog.Grant, error)
	// Replay calls fn with the records from..to, in order, without a gap.
	Replay(ctx context.Context, from, to uint64, fn func(editlog.Batch) error) error
	OpenWriter(o editlog.WriterOptions) (LogWriter, error)
	// UploadCheckpoint stores what write writes as the checkpoint of a durable txid; durable on return.
	UploadCheckpoint(ctx context.Context, o editlog.Upload, write func(io.Writer) error) (editlog.Checkpoint, error)
	// DownloadCheckpoint calls fn with the newest one of a txid below before (0:
	// any); fault.NotFound if there is none.
	DownloadCheckpoint(ctx context.Context, grant editlog.Grant, before uint64,
		fn func(editlog.Checkpoint, io.Reader) error) (editlog.Checkpoint, error)
	// Status asks every log server.
	Status(ctx context.Context) []*controlpb.LogStatusResponse
}

// LogWriter appends batches under one epoch; editlog.Writer is one.
type LogWriter interface {
	// TryAppend never blocks; fault.Busy means that OnDurable will make room.
	TryAppend(firstTxid uint64, records [][]byte) error
	Close()
}

// dialedLog is an editlog.Log as an EditLog.
type dialedLog struct{ *editlog.Log }

func (l dialedLog) OpenWriter(o editlog.WriterOptions) (LogWriter, error) {
	w, err := l.Log.OpenWriter(o)
	if err != nil {
		return nil, err
	}
	return w, nil
}
