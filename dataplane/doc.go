// Package dataplane is the data server of a datanode: it takes chunk bytes from clients and upstream neighbours,
// verifies, stores and forwards them, serves reads by sendfile, and leads or joins the recovery of chunks.
//
// # Parts
//
//   - package machine is the protocol of one connection: bytes and events in,
//     effects out. It has no socket, file, goroutine or clock. Only its event loop
//     touches it.
//   - connection (connection.go) carries out a machine's effects; handler
//     (handler.go) is what gnet calls; loop (loop.go) and mailbox (mailbox.go) bring
//     the results of disk workers, reads and neighbours back to the event loop.
//   - replica (replica.go) is the disk side of a write session, downstream
//     (downstream.go) the next hop, over a neighbour (neighbour.go): a connection
//     that the same event loop watches. readTask (reads.go) is a running read.
//   - recordsLink (records_adapter.go) ties a record session to the RecordSink
//     (records.go), which others implement; package copier pulls replicas from
//     other datanodes, over connections of package peers, which recovery
//     (recovery.go) uses as well.
//   - limits.go has every bound that can be set.
//
// # The way of one packet of a write session
//
//	gnet → handler.OnTraffic → connection.received
//	                               │ bytes
//	                 machine.Machine.Receive            one event loop
//	                               │ effects
//	                     connection.perform
//	         EffectAppend │                 │ EffectForward
//	       replica.append │                 │ downstream.forward
//	      ────────────────┼─────────────────┼──────────────────
//	       disk worker: write, sync    next hop: write, ack
//	       replica.storedOnWorker           │              other goroutines
//	      ────────────────┼─────────────────┼──────────────────
//	            loop.post │                 │ the loop watches that socket too
//	       loop.drain → replica.stored   neighbour.received     the same loop
//	              Machine.OnStored      Machine.OnDownAck
//	                      └────────┬────────┘
//	     connection.drive → Machine.Flush → effects: one reply
//	                     connection.write
//
// Whatever happens elsewhere comes back as an event in the mailbox of the loop; after each batch of events drive lets
// the machine flush and performs the effects, until there are none.
//
// # Goroutines
//
// Per server: the gnet loops and acceptor, one ticker, one supervisor. Per write session with a downstream
// neighbour: one while it dials, and one that sends if there are packets that the loop does not write itself. Per
// running read: one. Per copy asked for: one. Per record session: one while it opens. Disk work runs on the workers
// of package disk. Server.Close ends them all and waits.
//
// # Ownership of bytes
//
// A Data packet lies in one pooled buffer, header and payload in one piece. Its beginning is copied there from the
// loop's read buffer (8 KiB); the rest is read from the socket in place. The machine verifies it and gives one
// reference to the replica (released on the disk worker when the write has ended) and one to the downstream
// (released when the socket has taken it). Bulk bytes never enter gnet's outbound buffer: they are forwarded, and
// leave by sendfile, on duplicates of the connections' descriptors.
//
// The pieces of a record belong to the sink from Append until it calls done; a
// piece of a copy to its task, then to the disk worker until the write has ended.
//
// The package does not choose replicas, does not delete, and keeps no state
// across restarts. The wire format is described in docs/format/wire.md.
package dataplane
