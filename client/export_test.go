package client

import (
	"github.com/whispering-woods/ww/client/internal/pipeline"
	"github.com/whispering-woods/ww/internal/chunk"
)

// OutstandingBuffers is the number of pooled buffers that the client holds.
func OutstandingBuffers(c *Client) int64 { return c.buffers.Outstanding() }

// OpenConnections is the number of data connections in use.
func OpenConnections(c *Client) int { return c.datanodes.Pool.InUse() }

// MarkSlow has the client take a datanode for slow.
func MarkSlow(c *Client, nodeID string) { c.nodes.SlowWrites.Slow(nodeID) }

// Hedged is the number of reads that asked a second replica.
func Hedged(c *Client) int64 { return c.views.Hedged.Load() }

// MayGrow tells a writer that more nodes can join a chunk's pipeline, which it lets them at its next packet.
func MayGrow(w *FileWriter, id chunk.ID) { w.growable.Store(&id) }

// GrowTimeLeast is how much time a call must have left for nodes to join in it.
const GrowTimeLeast = growTimeLeast

// RecoveriesMax is how many attempts without progress a writer makes.
const RecoveriesMax = pipeline.RecoveriesMax

// Waiting is the number of callers of Flush and Sync that wait for acks without holding the writer.
func Waiting(w *FileWriter) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.current == nil {
		return 0
	}
	return w.current.Waiting()
}

// Held tells whether a method holds the writer at this moment.
func Held(w *FileWriter) bool {
	if w.mu.TryLock() {
		w.mu.Unlock()
		return false
	}
	return true
}
