package faults

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/control/agent"
	"github.com/whispering-woods/ww/dataplane"
	"github.com/whispering-woods/ww/disk"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/vfs"
	"github.com/whispering-woods/ww/test/simdisk"
)

// node is a datanode that faults act on. Its disk outlives its death.
type node struct {
	c       *cluster
	name    string
	memory  *simdisk.Mem
	disk    *simdisk.Faulty
	data    *proxy // before its data port
	control *proxy // between it and the namenode

	store  *disk.Store
	server *dataplane.Server
	agent  *agent.Agent
	dying  sync.WaitGroup
	rules  []func() // removes the rules of disk faults
	dead   bool

	mu struct {
		sync.Mutex
		ordered map[chunk.ID]chunk.Generation // deletions that came from the namenode
		removed []chunk.Replica               // what disappeared
	}
}

// limits are the datanodes' time limits: short, but longer than what a busy
// machine takes for a step on a memory disk.
func (c *cluster) limits() dataplane.Limits {
	timeout := c.slowed(stepTimeout)
	return dataplane.Limits{
		Loops: 2, StepTimeout: timeout, StepSlack: timeout / 4, DialTimeout: timeout / 2,
		TickInterval:  stepTimeout / 20,
		LingerTimeout: timeout / 4, SendTimeout: 2 * timeout, ReceiveTimeout: 2 * timeout,
	}
}

func (c *cluster) newNode(name string) *node {
	n := &node{c: c, name: name, memory: simdisk.NewMem(), data: newProxy(c.t), control: newProxy(c.t)}
	n.memory.SetCapacity(1 << 30)
	n.disk = simdisk.NewFaulty(n.memory)
	n.data.node, n.data.watch = n, c.seen
	n.mu.ordered = map[chunk.ID]chunk.Generation{}
	return n
}

// start runs the datanode, as daemon does.
func (n *node) start() {
	t, logger := n.c.t, n.c.logger.With("node", n.name)
	events := agent.NewEvents()
	var fs vfs.FS = n.disk
	if n.c.wrapDisk != nil {
		fs = n.c.wrapDisk(n, fs)
	}
	store, err := disk.Open(disk.Options{Directories: []string{"/" + n.name}, FS: fs, Logger: logger,
		PackBytesMax: chunk.ChecksumBlockBytes, OnEvent: func(e disk.Event) {
			if e.Kind == disk.Removed {
				n.mu.Lock()
				if !e.Lost { // else the disk that died has it still
					n.mu.removed = append(n.mu.removed, e.Replica)
				}
				n.mu.Unlock()
				events.Removed(e.Replica)
				return
			}
			events.Stored(e.Replica)
		}})
	require.NoError(t, err)
	server, err := dataplane.Start(dataplane.Options{Listen: "127.0.0.1:0", NodeID: store.Identity().NodeID,
		Store: store, Logger: logger, Limits: n.c.limits()})
	require.NoError(t, err)
	n.data.aim(server.Addr())
	control, err := agent.Start(agent.Options{
		Namenodes: []string{n.control.address()}, Address: n.data.address(), Store: agentStore{store, n},
		Events: events, Logger: logger,
		Recoverer: server, Copier: server,
	})
	require.NoError(t, err)
	n.store, n.server, n.agent, n.dead = store, server, control, false
}

// id is the node's own.
func (n *node) id() string { return n.store.Identity().NodeID }

// stop ends the process orderly and checks that it left nothing behind.
func (n *node) stop() {
	n.dying.Wait()
	if n.dead {
		return
	}
	n.dead = true
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err := errors.Join(n.agent.Close(ctx), n.server.Close(ctx), n.store.Close())
	if err != nil {
		n.c.t.Errorf("%s: %v", n.name, err)
	}
	if buffers := n.server.Stats().Buffers; buffers != 0 {
		n.c.t.Errorf("%s leaks %d buffers", n.name, buffers)
	}
}

// kill ends the process without a word: nothing more reaches its peers or its
// disk.
func (n *node) kill() {
	n.fail(simdisk.OpOpen, simdisk.OpRename, simdisk.OpRemove, simdisk.OpWrite, simdisk.OpDatasync, simdisk.OpSync,
		simdisk.OpTruncate, simdisk.OpSyncDir)(syscall.EIO)
	n.control.cut(true)
	n.data.cut(true)
	n.dying.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = n.agent.Close(ctx) // it cannot do anything any more
		if err := n.server.Close(ctx); err != nil {
			n.c.t.Errorf("%s: %v", n.name, err)
		}
		_ = n.store.Close()
		if buffers := n.server.Stats().Buffers; buffers != 0 {
			n.c.t.Errorf("%s leaks %d buffers when killed", n.name, buffers)
		}
		n.c.mu.Lock()
		defer n.c.mu.Unlock()
		n.dead = true
	})
}

// pause makes the node hang, as SIGSTOP does: connections stand, and are taken,
// and nothing moves.
func (n *node) pause() {
	n.data.stall()
	n.control.stall()
}

// fail makes operations of the node's disk fail from now on.
func (n *node) fail(ops ...simdisk.Op) func(error) {
	return func(err error) {
		n.c.mu.Lock()
		defer n.c.mu.Unlock()
		for _, op := range ops {
			n.rules = append(n.rules, n.disk.Inject(simdisk.Rule{Op: op, Err: err}))
		}
	}
}

// heal brings the node back. A disk that had errors was replaced by its
// operator, who started the node again.
func (n *node) heal() {
	n.dying.Wait()
	n.c.mu.Lock()
	rules := n.rules
	n.rules = nil
	n.c.mu.Unlock()
	if len(rules) > 0 {
		n.stop()
	}
	for _, remove := range rules {
		remove()
	}
	n.data.heal()
	n.control.heal()
	if n.dead {
		n.start()
	}
}

// agentStore notes the orders of the namenode.
type agentStore struct {
	*disk.Store
	node *node
}

// Delete carries out an order.
func (s agentStore) Delete(id chunk.ID, generation chunk.Generation) error {
	s.node.mu.Lock()
	s.node.mu.ordered[id] = max(generation, s.node.mu.ordered[id])
	s.node.mu.Unlock()
	return s.Store.Delete(id, generation)
}
