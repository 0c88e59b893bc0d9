// Package agent is the control side of a datanode. It keeps one bidirectional stream to each configured namenode:
// it registers, sends heartbeats, full chunk reports in pages and changes as they happen, and carries out what the
// namenode orders: deleting, recovering, copying and verifying replicas. A new order is a case in receive.go, a worker
// in orders.go, and a method of an interface in store.go.
//
// What an order needs before it is carried out: the stream's namenode has registered this node under the node's own
// cluster id, and the order's epoch and txid are not below the highest ones that this node has ever seen. A
// deletion also names the generation; a replica at another one is left alone.
//
// Nothing of the store's truth gets lost silently. Changes wait in a bounded queue, the latest one per chunk. When
// it overflows, or a stream breaks, the queue is dropped and a full report follows, the first one of a stream when the
// namenode asks for it. Changes are not sent while the
// pages of a report are, so that what arrives later is also newer.
//
// Goroutines: per namenode one that connects and sends and one that receives; one that deletes, one that verifies;
// fixed numbers that recover and copy (limits.go). Close stops and waits for all of them. The agent owns its queues;
// replicas belong to the ChunkStore, bytes on the wire to the data plane, and both are reached only through the
// interfaces of store.go.
package agent
