// Package replicas holds what is known of the copies of chunks, of the datanodes that have them, and what is done
// about copies that are missing, misplaced, bad or too many.
//
// A Replicas is made of parts with fields of their own, each in its file:
//
//	Nodes       the table of datanodes: registration, liveness, load
//	Reports     full chunk reports and changes of them
//	OpenChunks  who holds the replicas of chunks that are being written
//	Suspects    replicas that a reader found bad
//	Chooser     nodes for new replicas (package placement has the policies)
//	SafeMode    whether enough is known to change anything
//	Duties      nodes that operators want out of service
//	Balancer    moves from nodes that are fuller than the mean to emptier ones
//	Slowness    nodes that are far later than their peers
//	locations, misplaced   where the replicas are, in their place and not
//	repair, deletion       orders: copies, and all that loses data
//
// It owns all of this. Only the ids, addresses and duties of nodes are durable (edit records set them), the rest is
// ephemeral: datanodes report it anew to a namenode that starts. Replicas follows the chunks of the namespace as
// its Observer: that is the seam between them. Orders and events leave through the step.Context. Whether a chunk or
// a lease may change is not decided here, and nothing here writes a record. No goroutine runs here, and one at a
// time may use it.
package replicas
