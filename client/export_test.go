package client

import "github.com/whispering-woods/ww/internal/chunk"

// OutstandingBuffers is the number of pooled buffers that the client holds.
func OutstandingBuffers(c *Client) int64 { return c.buffers.Outstanding() }

// OpenConnections is the number of data connections in use.
func OpenConnections(c *Client) int {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	return len(c.pool.mu.out)
}

// ReadReplica is readReplica.
var ReadReplica = (*Client).readReplica

// ID is short for tests.
type ID = chunk.ID
