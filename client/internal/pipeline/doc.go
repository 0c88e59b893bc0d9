// Package pipeline writes one chunk through a pipeline of datanodes, and recovers a broken pipeline. From top to
// bottom:
//
//	Stream      one chunk: its packets until they are acknowledged, through as many sessions as it needs
//	placement   where the chunk is: id, generation and hops, as agreed with the namenode
//	session     one write session with one pipeline: the window, acks, and who waits for them
//	            (below it: datanode.Connection)
//
// A packet walks Stream.Append → Stream.drain → session.transmit → the socket. When the session fails, what was not
// acknowledged goes back to the stream's backlog, and drain opens another session: for a chunk that no reader can have
// seen on other nodes (placement.replace), else with the survivors under a new generation (Stream.resume).
//
// Each session has a goroutine that reads acks, and one of the Pipelines (slowWatch) looks for nodes that hold up their
// pipelines, while there are sessions. All of them end with the client's lifetime. A Stream is for one goroutine at a
// time; only Point.Reached may be called by any number of others.
//
// It owns the packets that were appended, and their buffers, until all hops acknowledged them. Files, leases and the
// order of chunks are not its business: it gets a placed chunk and says how it was sealed.
package pipeline
