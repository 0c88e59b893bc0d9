package pipeline

import (
	"log/slog"

	"github.com/whispering-woods/ww/client/internal/datanode"
	"github.com/whispering-woods/ww/client/internal/health"
	"github.com/whispering-woods/ww/client/internal/lifetime"
	"github.com/whispering-woods/ww/client/internal/namenode"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/bufpool"
	"github.com/whispering-woods/ww/internal/clock"
)

// Options is what all pipelines of one client share. Needed unless said otherwise.
type Options struct {
	Namenode  *namenode.Client
	Datanodes *datanode.Client
	Nodes     *health.Nodes
	Life      *lifetime.Lifetime
	Buffers   *bufpool.Pool
	Clock     clock.Clock
	Logger    *slog.Logger

	ClientName  string             // for people; may be empty
	WindowBytes int64              // sent and not acknowledged bytes of one chunk; datanodes may grant less
	NodesLeast  int                // of a chunk that is being written, for the writer to go on after failures
	Retry       namenode.RetryFunc // says how long to wait for nodes when a chunk is on too few
	// SlowBytesPerSecond: a pipeline that moves less although more data waits is looked through for the node that holds
	// it up. 0 or less: no node is too slow.
	SlowBytesPerSecond int64
}

// Pipelines makes the packets and streams of one client. Safe for concurrent use.
type Pipelines struct {
	Options
	slow slowWatch
}

// New makes them.
func New(o Options) *Pipelines {
	p := &Pipelines{Options: o}
	p.slow.pipelines = p
	return p
}

// CopiesLeast is how many replicas what is written to a chunk needs to be acknowledged: as the namenode says of the
// cluster, but no more than the file wants, and as this client's own options say.
func (p *Pipelines) CopiesLeast(copiesMin, replication int) int {
	return max(p.NodesLeast, min(copiesMin, replication))
}

// NewPacket makes an empty packet whose payload begins at an offset of the chunk.
func (p *Pipelines) NewPacket(offset int64, capacity int) *Packet {
	return &Packet{buffer: p.Buffers.Get(wire.HeaderBytes + capacity), Offset: offset}
}
