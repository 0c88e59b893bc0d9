package client

// Stats is what a Client holds at one moment.
type Stats struct {
	// Buffers is the number of pooled buffers in use; 0 while nothing runs.
	Buffers int64
	// Connections is the number of data connections in use.
	Connections int
}

// Stats counts what the client holds.
func (c *Client) Stats() Stats {
	return Stats{Buffers: c.buffers.Outstanding(), Connections: c.datanodes.Pool.InUse()}
}
