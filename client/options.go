package client

import (
	"log/slog"
	"time"

	"github.com/whispering-woods/ww/client/internal/view"
	"github.com/whispering-woods/ww/internal/clock"
)

// HedgeP99 as Options.HedgeAfter: the delay is the 99th percentile of this client's own reads.
const HedgeP99 = view.HedgeP99

// Options configures a Client. Zero values mean the default that each field names.
type Options struct {
	// Namenodes lists host:port of every namenode, active or standby. The client finds the active one and remembers it.
	// At least one is needed.
	Namenodes []string
	Retry     RetryPolicy // decides about failed calls; nil: RetryByName(RetryExponential)
	// FirstContact bounds the time spent on reaching any namenode at all before one has ever answered, so that a wrong
	// address fails soon. Default 5 s.
	FirstContact time.Duration
	CallTimeout  time.Duration // bounds one attempt of a namenode call; default 15 s
	// DataTimeout bounds how long a datanode may owe an answer. It has to exceed the datanodes' own timeouts, so that a
	// pipeline can name the hop that failed. Default 30 s.
	DataTimeout time.Duration
	// SilenceTimeout bounds how long a datanode that works for a writer may say nothing at all: one whose disk is busy
	// says that it lives, four times a second. Default 2 s.
	SilenceTimeout time.Duration
	DialTimeout    time.Duration // bounds connecting to a datanode; default 2 s
	// ParallelChunks is how many chunks one Store or Fetch moves at once. Default 4, at most ParallelChunksMax.
	ParallelChunks int
	// PacketBytes is the payload of a full Data packet, a multiple of chunk.ChecksumBlockBytes. Default
	// wire.PacketBytesDefault.
	PacketBytes int
	// WindowBytes bounds the sent and not acknowledged bytes of one chunk; the datanodes may grant less. Default 8 MiB.
	WindowBytes int64
	// ReadaheadBytes bounds what one FileReader fetches ahead of sequential Reads. Default 4 MiB; negative: no reading
	// ahead.
	ReadaheadBytes int64
	// PipelineNodesLeast is how many nodes a chunk that is being written has to be on for the writer to go on after
	// failures. The namenode's write_copies_min counts if that asks for more. Default 1.
	PipelineNodesLeast int
	// SlowBytesPerSecond: a pipeline that moves less than this although more data waits is looked through for the node
	// that holds it up; that node is named in the log and replaced. Default 16 MiB/s; negative: no node is too slow.
	SlowBytesPerSecond int64
	// KeepAlive is how long an open FileWriter may send nothing before it shows the pipeline that it lives. Default 1
	// min; datanodes wait 10 min.
	KeepAlive time.Duration
	// HedgeAfter is how long a read waits for one replica before it asks a second one too; HedgeP99: as long as all but
	// the slowest hundredth of this client's reads take. 0: never, the default.
	HedgeAfter time.Duration
	// BandwidthBytes limits what the client sends to and reads from datanodes, per second; see SetBandwidth. 0: no
	// limit.
	BandwidthBytes int64
	LeaseRenewal   time.Duration // the time between two lease renewals; default 15 s
	Name           string        // says who this is, to people: "host:pid" by default
	User           string        // whose trash RemoveOptions.Trash and Undelete mean; the process's user by default
	// Logger gets warnings (failed replicas, corrupt data, lost leases). nil: nothing is logged.
	Logger *slog.Logger
	Clock  clock.Clock // the seam for time; nil: the system's
}
