package client

import (
	"context"
	"fmt"
	"time"

	"github.com/whispering-woods/ww/dataplane/wire"
	"github.com/whispering-woods/ww/internal/chunk"
	"github.com/whispering-woods/ww/internal/fault"
)

// OutstandingBuffers is the number of pooled buffers that the client holds.
func OutstandingBuffers(c *Client) int64 { return c.buffers.Outstanding() }

// OpenConnections is the number of data connections in use.
func OpenConnections(c *Client) int {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	return len(c.pool.mu.out)
}

// Hedged is the number of reads that asked a second replica.
func Hedged(c *Client) int64 { return c.hedged.Load() }

// RecoveriesMax is how many attempts without progress a writer makes.
const RecoveriesMax = recoveriesMax

// ReadReplica is readReplica.
var ReadReplica = (*Client).readReplica

// ID is short for tests.
type ID = chunk.ID

// FuzzStream runs one write session against a hostile datanode.
type FuzzStream struct{ address string }

// NewFuzzStream aims at an address.
func NewFuzzStream(address string) FuzzStream { return FuzzStream{address} }

// Run opens a session, sends two packets and waits. It reports what must not
// happen: buffers or connections that are left.
func (f FuzzStream) Run(ctx context.Context) error {
	c, err := Dial(ctx, Options{Namenodes: []string{"127.0.0.1:1"}, DataTimeout: time.Second})
	if err != nil {
		return err
	}
	defer c.Close()
	first := c.newPacket(0, 4)
	first.size = 4
	s, err := c.openSession(ctx, ctx, sessionTarget{id: ID{1}, generation: 1, mode: wire.ModeCreate, chunkSize: chunk.ChecksumBlockBytes,
		hops: []wire.Hop{{NodeID: "dn0", Address: f.address}}}, first, nil)
	if err != nil {
		first.release()
	} else {
		second := c.newPacket(4, 4)
		second.size, second.flags = 4, wire.FlagSeal
		taken, err := s.send(ctx, second)
		if !taken {
			second.release()
		}
		if err == nil {
			err = s.await(ctx, isFinished, 0)
		}
		if err != nil && fault.KindOf(err) == 0 {
			return fmt.Errorf("an error without a kind: %w", err)
		}
		for _, p := range s.close() {
			p.release()
		}
	}
	if n := c.buffers.Outstanding(); n != 0 {
		return fmt.Errorf("%d buffers are left", n)
	}
	if n := OpenConnections(c); n != 0 {
		return fmt.Errorf("%d connections are left", n)
	}
	return nil
}

// Waiting is the number of callers of Flush and Sync that wait for acks without
// holding the writer.
func Waiting(w *FileWriter) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.current == nil || w.current.session == nil {
		return 0
	}
	s := w.current.session
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mu.waiters.list)
}

// Held tells whether a method holds the writer at this moment.
func Held(w *FileWriter) bool {
	if w.mu.TryLock() {
		w.mu.Unlock()
		return false
	}
	return true
}
