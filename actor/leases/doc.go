// Package leases holds what clients have going: the leases of the files that they write, the recoveries of those that
// nobody writes any more, and the first answers of their latest mutations.
//
// Leases owns the leases and recoveries, RetryCache the answers; nobody else changes them. Leases (but not when they
// were renewed) and answers are durable: they change with edit records, and checkpoints hold them. What a recovery does
// with replicas is decided by the state machine; here stands how far it is.
//
// No goroutine runs here, and one at a time may use it. It knows no paths (but for messages) and no datanodes.
package leases
