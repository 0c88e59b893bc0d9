package view

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/whispering-woods/ww/client/internal/datanode"
	"github.com/whispering-woods/ww/client/internal/health"
	"github.com/whispering-woods/ww/client/internal/namenode"
	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/bufpool"
	"github.com/whispering-woods/ww/internal/clock"
)

// Options is what all views of one client share. All fields are needed.
type Options struct {
	Namenode  *namenode.Client
	Reports   *namenode.Reports
	Datanodes *datanode.Client
	Nodes     *health.Nodes
	Times     *health.ReadTimes
	Buffers   *bufpool.Pool
	Retry     namenode.RetryFunc
	Clock     clock.Clock
	Logger    *slog.Logger
	// HedgeAfter is how long a read waits before it asks a second replica; 0: for ever; HedgeP99: the 99th percentile
	// of this client's own reads.
	HedgeAfter time.Duration
}

// HedgeP99 is a value of Options.HedgeAfter.
const HedgeP99 time.Duration = -1

// Views opens views. Safe for concurrent use.
type Views struct {
	Options
	Hedged atomic.Int64 // reads that asked a second replica
}

// New makes the opener of views.
func New(o Options) *Views { return &Views{Options: o} }

// hedgeDelay is how long a read waits before it asks a second replica; 0: for ever.
func (v *Views) hedgeDelay() time.Duration {
	if v.HedgeAfter == HedgeP99 {
		return v.Times.P99()
	}
	return v.HedgeAfter
}

// replicaRead is what one replica answered.
type replicaRead struct {
	at      wire.Hop
	n       int
	visible int64
	err     error
}

func (r replicaRead) full(p []byte) bool { return r.err == nil && r.n == len(p) }

// read reads from one replica.
func (v *Views) read(ctx context.Context, at wire.Hop, what datanode.Range, p []byte) replicaRead {
	n, visible, err := v.Datanodes.Read(ctx, at, what, p)
	return replicaRead{at: at, n: n, visible: visible, err: err}
}

// readEither reads from the first of the replicas, and after the hedge delay from the second one too; the first whole
// and verified answer counts. It returns when both reads have ended: no socket uses p or a buffer any more.
func (v *Views) readEither(ctx context.Context, replicas []wire.Hop, what datanode.Range, buffer []byte) replicaRead {
	delay := v.hedgeDelay()
	if delay <= 0 || len(replicas) < 2 || len(buffer) > hedgeBytesMax {
		return v.read(ctx, replicas[0], what, buffer)
	}
	begin := func(at wire.Hop, p []byte) (<-chan replicaRead, context.CancelFunc) {
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan replicaRead, 1)
		go func() { done <- v.read(ctx, at, what, p) }()
		return done, cancel
	}
	began := v.Clock.Now()
	first, cancelFirst := begin(replicas[0], buffer)
	defer cancelFirst()
	timer := v.Clock.NewTimer(delay)
	defer timer.Stop()
	select {
	case r := <-first: // also when ctx ended
		return r
	case <-timer.C():
	}
	v.Hedged.Add(1)
	spare := v.Buffers.Get(len(buffer))
	defer spare.Release()
	second, cancelSecond := begin(replicas[1], spare.Bytes())
	defer cancelSecond()
	var fromFirst, fromSecond replicaRead
	select {
	case fromFirst = <-first:
		if fromFirst.full(buffer) {
			cancelSecond()
		}
		fromSecond = <-second
	case fromSecond = <-second:
		elapsed := v.Clock.Now().Sub(began)
		if fromSecond.full(buffer) {
			cancelFirst()
		}
		if fromFirst = <-first; fromSecond.full(buffer) && fromFirst.err != nil {
			v.Nodes.SlowReads.Note(fromFirst.at.Address, len(buffer), elapsed) // it would have taken longer
		}
	}
	if !fromFirst.full(buffer) && fromSecond.full(buffer) {
		copy(buffer, spare.Bytes())
		return fromSecond
	}
	return fromFirst
}
