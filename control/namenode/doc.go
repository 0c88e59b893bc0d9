// Package namenode is the shell around the actor: it owns the namenode's sockets, timers, mailbox and its writer of
// the edit log, and drives the pure state machine of package actor with them.
//
// # Life
//
// A namenode acquires an epoch from the log server, loads the newest checkpoint that can be read, replays the log
// behind it up to the last txid of that grant, writes a Format record if the log is empty, and becomes active with
// a record of its epoch. From then on it serves; before, its port answers fault.NotActive with how far it has come.
//
// A term ends when the log refuses or loses an append: nothing is served any more at once, calls that wait get
// fault.NotActive (their outcome is unknown; a retry with the same sequence finds it out), datanode streams are
// cut, and the state, which may be ahead of the log, is dropped. Then the namenode starts over with a new epoch,
// after a pause. It does not when somebody else holds a higher epoch, or when the log is damaged or lacks what no
// checkpoint holds: then it stays down (Done, Err), and a person, or a supervisor that starts processes, decides.
//
// # One goroutine owns the state
//
// Requests and datanode messages become commands in a bounded mailbox. The actor goroutine drains it, steps each
// command and gathers the edit records in a batch; while batches are in flight to the log the next one fills (group
// commit). Replies and messages to datanodes wait, in order, until the txid that they depend on is durable, and no
// longer: a read of durable state is answered at once. A full mailbox is answered with fault.Busy; a caller whose
// context ended is skipped. While the log accepts no more batches the actor steps no commands, so what waits is
// bounded by the mailbox and two batches beyond those in flight.
//
// From time to time it freezes the state for a checkpoint, which another goroutine encodes and uploads, one at a
// time, once its records are durable. Nothing waits for that; a failure is logged and the upload repeated later.
//
// Time in which the process did not run (it was stopped, or starved) is not
// held against others: the actor's monotonic time goes on by a bounded step.
//
// # Goroutines
//
// One that runs the terms and is the actor goroutine; one per term that watches for a higher epoch; one while a
// checkpoint is uploaded; two of the log writer; per datanode stream one that receives and one that sends; those of
// the gRPC server. Close ends all.
//
// The package holds no namespace logic, no formats and no placement: they are in package actor.
//
// A new request of clients is a method in service.go (a change) or reads.go, its checks in validate.go, and a request
// of package actor; a new order to datanodes is a case in session.go, and its result one in datanodes.go.
package namenode
