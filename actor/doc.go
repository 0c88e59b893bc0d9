// Package actor is the namenode's state machine: commands, effects, the step, and one table of edit records. What
// it decides about stands in rooms below it, each a package with fields of its own:
//
//	       actor: dispatch → handlers → log → records.go → apply
//	         │            │             │              │
//	     namespace     leases        replicas        codec
//	  inodes, entries, leases,      locations,      the form of
//	  chunks of files  recoveries,  datanodes,      records and
//	         │         answers      repair,         checkpoints
//	         │                      deletion
//	         └─────── Observer ────────┘
//	chunk added, sealed, reopened, dropped
//
// Below all of them is step, the running command as the rooms see it. A handler asks
// the rooms, writes one record, and the record's apply function changes namespace
// and leases; replicas follow by the Observer, and from what datanodes report.
//
// A State is pure and deterministic. Time, randomness and everything that peers say arrive inside a Command; Step
// answers with Effects: edit records to make durable, a reply, and messages to datanodes. Replay applies logged records
// with the same code, so that every node that applies the same log holds the same state, byte for byte (Checkpoint).
//
// The live path is: validate the request against the state, build one edit record that holds every decision, then
// apply that record. Memory is therefore ahead of the log until the record is durable; if the log refuses a record
// the State must be dropped and rebuilt by replay.
//
// Durable state (in the log and in checkpoints): inodes, chunks, leases, the retry cache, the table of known nodes,
// cluster id, epoch, counters. Ephemeral state (rebuilt from datanodes): replica locations, node liveness and load,
// lease renewal times, safe mode, orders and repairs under way.
//
// A State runs no goroutine, takes no lock and does no I/O; one goroutine at a
// time may use it. A Snapshot may be encoded by another goroutine meanwhile.
package actor
