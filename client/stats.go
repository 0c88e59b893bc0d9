package client

// Stats is what a Client holds at one moment.
type Stats struct {
	// Buffers is the number of pooled buffers handed out; 0 while nothing runs.
	Buffers int64
	// Connections is the number of data connections in use.
	Connections int
}

// Stats counts what the client holds.
func (c *Client) Stats() Stats {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	return Stats{Buffers: c.buffers.Outstanding(), Connections: len(c.pool.mu.out)}
}
