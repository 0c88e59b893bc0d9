package agent

import "time"

// Bounds of an agent. Memory per namenode at most: queueChangesMax * ~150 bytes
// (10 MiB) plus a report's snapshot (48 bytes per replica of the node).
const (
	queueChangesMax  = 64 << 10 // chunks with a change not yet sent. More: a full report
	deltaReplicasMax = 4096     // changes in one message
	// pageReplicas: replicas in one page of a full report; a page is about
	// 35 bytes * pageReplicas = 140 KiB and one command of the namenode.
	pageReplicas = 4096
	outboxMax    = 1024 // answers waiting for the stream. More are dropped: the namenode repeats its orders
	// Of each volume. replicaOrdersMax: deletions and questions waiting; replicasPerOrderMax in each.
	replicaOrdersMax    = 256
	replicasPerOrderMax = 16 << 10
	// recoverWorkers recoveries, of each volume, and copyWorkers copies run at once, with at most queue of each
	// waiting; a further order is answered with an error.
	recoverWorkers  = 8
	recoverQueueMax = 1024
	copyWorkers     = 2
	copyQueueMax    = 256
	verifyQueueMax  = 1024 // replicas of each volume wait to be verified; one at a time is
)

// Times of an agent.
const (
	registerTimeout = 10 * time.Second // from the start of a connection attempt to Registered
	// backoffFirst and backoffMax space attempts to reach a namenode;
	// backoffRefused those to one that refused this node for good.
	backoffFirst   = 100 * time.Millisecond
	backoffMax     = 2 * time.Second
	backoffRefused = 10 * time.Second
	// The namenode chooses the intervals, within these bounds.
	heartbeatLeast   = 10 * time.Millisecond
	heartbeatMost    = time.Minute
	heartbeatDefault = time.Second
	reportLeast      = time.Second
	reportMost       = 7 * 24 * time.Hour
	reportDefault    = 6 * time.Hour
	// A stream on which nothing arrived for silenceHeartbeats intervals, and at least silenceLeast, is cut.
	silenceHeartbeats = 10
	silenceLeast      = 10 * time.Second
	changesInterval   = 20 * time.Millisecond // changes of replicas are sent no more often
	observeInterval   = 10 * time.Second      // how often a risen txid is written down without an order
	// recoverTimeout and copyTimeout bound one order.
	recoverTimeout = 2 * time.Minute
	copyTimeout    = 30 * time.Minute
)
