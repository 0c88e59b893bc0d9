package agent

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/whispering-woods/ww/control/rpc"
	"github.com/whispering-woods/ww/internal/clock"
	"github.com/whispering-woods/ww/internal/datanode"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
)

// Keys of log lines.
const (
	keyNamenode   = "namenode"
	keyNode       = "node"
	keyCluster    = "cluster"
	keyEpoch      = "epoch"
	keyTxid       = "txid"
	keyChunk      = "chunk"
	keyGeneration = "gen"
	keyLength     = "length"
	keyCount      = "count"
	keyError      = "err"
)

// Options configures Start. Store, Events, Namenodes and Address are required.
type Options struct {
	Namenodes    []string // the host:port of all namenodes of the cluster, 1..16
	Address      string   // the host:port at which clients and peers reach this node's data server
	Name         string   // what people call this node; empty: its address
	AdminAddress string   // the host:port of this node's admin address, "" if there is none
	Rack         string   // path-like; empty means "/default"
	Version      string
	Store        ChunkStore
	Events       *Events // gets the store's changes
	// Load is asked at each heartbeat; nil means no load.
	Load func() datanode.Load
	// Recoverer and Copier carry out orders; without one, its orders are answered with an error.
	Recoverer Recoverer
	Copier    Copier
	Clock     clock.Clock  // nil = the system's
	Logger    *slog.Logger // nil = none
}

// Agent is a running control side of a datanode.
type Agent struct {
	options  Options
	cancel   context.CancelFunc
	group    sync.WaitGroup
	links    []*link
	workers  *workers
	once     sync.Once
	first    chan struct{} // closed at the first registration
	stopped  chan struct{} // closed when all goroutines have ended
	stopOnce sync.Once
}

// Start checks the options and starts to connect; it does not wait for any namenode. The caller must Close the
// agent, before it closes the store. Errors: fault.Invalid.
func Start(options Options) (*Agent, error) {
	addresses, err := rpc.CheckAddresses(options.Namenodes)
	if err != nil {
		return nil, fmt.Errorf("namenodes: %w", err)
	}
	if len(addresses) > limits.NamenodesMax {
		return nil, fault.New(fault.Invalid, "start agent", "%d namenodes, at most %d", len(addresses),
			limits.NamenodesMax)
	}
	if err := rpc.CheckAddress(options.Address); err != nil {
		return nil, fmt.Errorf("data address: %w", err)
	}
	if options.Store == nil || options.Events == nil {
		return nil, fault.New(fault.Invalid, "start agent", "a store and its events are required")
	}
	options.Clock = cmp.Or[clock.Clock](options.Clock, clock.Real{})
	options.Logger = cmp.Or(options.Logger, slog.New(slog.DiscardHandler))
	options.Rack = cmp.Or(options.Rack, "/default")
	options.Logger = options.Logger.With(keyNode, options.Store.Identity().NodeID)
	ctx, cancel := context.WithCancel(context.Background())
	agent := &Agent{options: options, cancel: cancel, first: make(chan struct{}), stopped: make(chan struct{})}
	for _, address := range addresses {
		connection, err := rpc.Dial(address)
		if err != nil {
			agent.cancel()
			for _, l := range agent.links {
				l.close()
			}
			return nil, err
		}
		agent.links = append(agent.links, newLink(agent, address, connection))
	}
	agent.workers = startWorkers(ctx, &agent.group, options)
	for _, l := range agent.links {
		agent.group.Go(func() { l.run(ctx) })
	}
	go func() {
		agent.group.Wait()
		close(agent.stopped)
	}()
	return agent, nil
}

// Registered is closed once some namenode has registered this node.
func (a *Agent) Registered() <-chan struct{} { return a.first }

func (a *Agent) registered() { a.once.Do(func() { close(a.first) }) }

// Status is the state of the stream to one namenode.
type Status struct {
	Namenode   string
	Registered bool
	ClusterID  string
	Epoch      uint64
	Txid       uint64
	Since      time.Time // when Registered last changed
	Reports    uint64    // full reports that were sent to the end
	Err        error     // why the last stream or attempt ended; nil while registered
}

// Status is the state of every namenode's stream, in the configured order.
func (a *Agent) Status() []Status {
	out := make([]Status, 0, len(a.links))
	for _, l := range a.links {
		out = append(out, l.snapshot())
	}
	return out
}

// Announce sends every registered namenode a heartbeat and the changes that wait, and returns when it has, or when ctx
// ends: the last words of a datanode that stops by itself.
func (a *Agent) Announce(ctx context.Context) {
	before := make([]uint64, len(a.links))
	for i, l := range a.links {
		before[i] = l.beats.Load()
		select {
		case l.urgent <- struct{}{}:
		default:
		}
	}
	for ctx.Err() == nil {
		waiting := false
		for i, l := range a.links {
			waiting = waiting || l.snapshot().Registered && (l.beats.Load() == before[i] || !l.queue.empty())
		}
		if !waiting {
			return
		}
		_ = clock.Sleep(ctx, a.options.Clock, changesInterval) // the loop looks at ctx
	}
}

// Close ends the streams and waits for running orders to notice, until ctx
// ends. Errors: fault.Closed with the context's error.
func (a *Agent) Close(ctx context.Context) error {
	a.stopOnce.Do(func() {
		a.cancel()
		for _, l := range a.links {
			l.close()
		}
	})
	select {
	case <-a.stopped:
		return nil
	case <-ctx.Done():
		return &fault.Error{Kind: fault.Closed, Op: "close agent", Reason: "orders are still running", Err: ctx.Err()}
	}
}
