package faults

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/whispering-woods/ww/actor"
	"github.com/whispering-woods/ww/client"
	"github.com/whispering-woods/ww/control/logserver"
	"github.com/whispering-woods/ww/control/namenode"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/vfs"
)

const (
	nodeCount   = 4
	replication = 3
	chunkSize   = 256 << 10
	packetBytes = 64 << 10

	// stepTimeout is when a datanode takes its disk or its neighbour for hung, on a machine that keeps pace.
	stepTimeout = 800 * time.Millisecond
	// casesAtOnce run in parallel: most of their time is waiting for time limits.
	casesAtOnce = "6"
	// patience bounds what has to happen some time.
	patience = time.Minute
	poll     = 5 * time.Millisecond
)

func TestMain(m *testing.M) {
	flag.Parse()
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == parallel.DefValue {
		_ = flag.Set("test.parallel", casesAtOnce)
	}
	goleak.VerifyTestMain(m,
		// gnet's import starts a pool that nothing can stop.
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"),
		goleak.IgnoreTopFunction("github.com/panjf2000/ants/v2.(*goWorker).run.func1"))
}

// cluster is a whole cluster under faults.
type cluster struct {
	t        testing.TB
	logger   *slog.Logger
	wrapDisk func(*node, vfs.FS) vfs.FS
	nodes    []*node
	log      *logserver.Server
	namenode *namenode.Server
	front    *proxy // where clients find the namenode
	errors   lockedBuffer
	slower   int // all time limits are so many times as long
	lag      *lag

	mu struct {
		sync.Mutex
		order    map[chunk.ID]int            // chunks in the order of their first OpenWrite
		pipeline map[chunk.ID][]*node        // by position, of the newest session
		hook     func(event, int) (cut bool) // with the chunk's place in order
	}
}

// startCluster runs a cluster; wrap, if not nil, is put between the stores and
// their disks.
func startCluster(t testing.TB, wrap func(*node, vfs.FS) vfs.FS) *cluster {
	return startSlower(t, wrap, 1)
}

// startSlower is startCluster with longer time limits.
func startSlower(t testing.TB, wrap func(*node, vfs.FS) vfs.FS, slower int) *cluster {
	system := &cluster{t: t, wrapDisk: wrap, slower: slower, lag: startLag()}
	t.Cleanup(system.lag.stop)
	system.logger = slog.New(slog.NewTextHandler(&system.errors, &slog.HandlerOptions{Level: slog.LevelInfo}))
	system.mu.order, system.mu.pipeline = map[chunk.ID]int{}, map[chunk.ID][]*node{}
	var err error
	system.log, err = logserver.Start(logserver.Options{Directory: memoryDirectory(t), ListenGRPC: "127.0.0.1:0",
		SegmentBytes: 1 << 20, Logger: system.logger.With("role", "log")})
	require.NoError(t, err)
	system.front = newProxy(t)
	for i := range nodeCount {
		system.nodes = append(system.nodes, system.newNode(fmt.Sprintf("dn%d", i)))
	}
	system.startNamenode()
	for _, n := range system.nodes {
		n.start()
	}
	t.Cleanup(system.stop)
	system.waitLive(nodeCount)
	return system
}

// slowed is a time limit of this cluster.
func (c *cluster) slowed(limit time.Duration) time.Duration { return time.Duration(c.slower) * limit }

// memoryDirectory spares the machine's disk, which other tests keep busy.
func memoryDirectory(t testing.TB) string {
	directory, err := os.MkdirTemp("/dev/shm", "ww-faults-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	return directory
}

func (c *cluster) startNamenode() {
	var err error
	c.namenode, err = namenode.Start(namenode.Options{
		Listen: "127.0.0.1:0", LogServers: []string{c.log.Addr()}, Logger: c.logger.With("role", "namenode"),
		HeartbeatInterval: c.slowed(50 * time.Millisecond),
		Actor: actor.Config{
			DefaultReplication: replication, DefaultChunkSize: chunkSize,
			StaleAfter: c.slowed(500 * time.Millisecond), DeadAfter: c.slowed(time.Second),
			RepairGrace: c.slowed(200 * time.Millisecond), DeleteGrace: c.slowed(300 * time.Millisecond),
			ResendAfter: c.slowed(time.Second), TickInterval: 20 * time.Millisecond,
			RecoverTimeout: c.slowed(2 * time.Second), RecoverWait: c.slowed(time.Second),
			CopyTimeout: c.slowed(2 * time.Second),
		},
	})
	require.NoError(c.t, err)
	c.front.aim(c.namenode.Addr())
	for _, n := range c.nodes {
		n.control.aim(c.namenode.Addr())
	}
}

// stopNamenode ends it; calls in flight are cut off.
func (c *cluster) stopNamenode() {
	c.front.cut(false)
	for _, n := range c.nodes {
		n.control.cut(false)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.namenode.Close(ctx) // calls that had to be cut off are what it is about
}

func (c *cluster) stop() {
	for _, n := range c.nodes {
		n.data.heal()
		n.control.heal()
		n.stop()
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.namenode.Close(ctx); err != nil {
		c.t.Error(err)
	}
	if err := c.log.Close(ctx); err != nil {
		c.t.Error(err)
	}
	c.front.close()
	for _, n := range c.nodes {
		n.data.close()
		n.control.close()
	}
	if c.t.Failed() {
		c.t.Log(c.errors.String())
	}
}

// dial makes a client with short limits.
func (c *cluster) dial() *client.Client {
	timeout := c.slowed(stepTimeout)
	retry, err := client.RetryByName(client.RetryExponential,
		client.RetryLimits{Elapsed: c.slowed(10 * time.Second), Initial: 10 * time.Millisecond,
			Maximum: 200 * time.Millisecond})
	require.NoError(c.t, err)
	cl, err := client.Dial(context.Background(), client.Options{
		Namenodes: []string{c.front.address()}, Retry: retry, Logger: c.logger.With("role", "client"),
		PacketBytes: packetBytes,
		DataTimeout: 5 * timeout / 2, DialTimeout: timeout, CallTimeout: 4 * timeout, ReadaheadBytes: -1,
	})
	require.NoError(c.t, err)
	return cl
}

// hangUp closes a client and checks that it left nothing behind.
func (c *cluster) hangUp(cl *client.Client) {
	if s := cl.Stats(); s != (client.Stats{}) {
		c.t.Errorf("the client leaks %+v", s)
	}
	require.NoError(c.t, cl.Close())
}

// waitLive waits until that many nodes are live.
func (c *cluster) waitLive(want int) {
	c.t.Helper()
	cl := c.dial()
	defer c.hangUp(cl)
	c.eventually(fmt.Sprintf("%d live nodes", want), func() error {
		status, err := cl.ClusterStatus(context.Background())
		if err != nil {
			return err
		}
		live := 0
		for _, n := range status.Nodes {
			if n.Live {
				live++
			}
		}
		if live < want || status.SafeMode {
			return fmt.Errorf("%d are live, safe mode: %v %s", live, status.SafeMode, status.SafeModeReason)
		}
		return nil
	})
}

// eventually asks until there is no error, or one that stays.
func (c *cluster) eventually(what string, check func() error) {
	c.t.Helper()
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if errors.Is(err, errWrongBytes) {
			c.t.Fatalf("%s: %v", what, err)
		}
		select {
		case <-ticker.C:
		case <-deadline.C:
			c.t.Fatalf("%s: %v", what, err)
		}
	}
}

// lag measures how long this process was kept from running.
type lag struct {
	longest atomic.Int64 // time.Duration
	end     chan struct{}
	ended   sync.WaitGroup
}

func startLag() *lag {
	l := &lag{end: make(chan struct{})}
	l.ended.Go(func() {
		for last := time.Now(); ; {
			select {
			case <-time.After(poll):
			case <-l.end:
				return
			}
			now := time.Now()
			l.longest.Store(max(l.longest.Load(), int64(now.Sub(last)-poll)))
			last = now
		}
	})
	return l
}

func (l *lag) stop() {
	close(l.end)
	l.ended.Wait()
}

// outpaced reports whether a call failed on a machine that stood still for so long that the time limits mean nothing:
// each of many steps in a row may take that much longer. Then the case has to be tried again with longer ones. Wrong
// or lost bytes have no such excuse: their errors have no kind.
func (c *cluster) outpaced(err error) bool {
	stood := time.Duration(c.lag.longest.Load())
	if stood < c.slowed(stepTimeout)/8 || err == nil || fault.ClassOf(err) != fault.Retryable {
		return false
	}
	c.t.Logf("the machine stood still for %s, once more with longer time limits: %v", stood, err)
	return true
}

// giveUp ends a case that was outpaced; struck is nil if nothing was.
func (c *cluster) giveUp(cl *client.Client, struck *node) bool {
	if struck != nil {
		struck.heal()
	}
	require.NoError(c.t, cl.Close())
	return false
}

// seen is called with every packet of a write session.
func (c *cluster) seen(seen event) (cut bool) {
	c.mu.Lock()
	if _, known := c.mu.order[seen.id]; !known {
		c.mu.order[seen.id] = len(c.mu.order)
	}
	if seen.kind == eventOpen {
		p := c.mu.pipeline[seen.id]
		for len(p) <= seen.after {
			p = append(p, nil)
		}
		p[seen.after] = seen.node
		c.mu.pipeline[seen.id] = p
	}
	hook, place := c.mu.hook, c.mu.order[seen.id]
	c.mu.Unlock()
	return hook != nil && hook(seen, place)
}

// watch sets the function that is called with every packet of a write session and the place of
// its chunk among all chunks, before it is forwarded.
func (c *cluster) watch(hook func(e event, place int) (cut bool)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.hook = hook
}

// member is the node of the newest chunk's pipeline with that many hops behind it.
func (c *cluster) member(after int) *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	newest, place := chunk.ID{}, -1
	for id, p := range c.mu.order {
		if p > place {
			newest, place = id, p
		}
	}
	return c.mu.pipeline[newest][after]
}

// lockedBuffer is a log for several goroutines.
type lockedBuffer struct {
	mu struct {
		sync.Mutex
		b bytes.Buffer
	}
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.b.String()
}
