// Package logserver is the replicated, durable log of namenode mutations: a gRPC service over hashicorp/raft with
// raft-wal as its log files. One raft entry holds one batch of edit records (docs/format/log.md).
//
// What it promises: an acknowledged batch is fsynced on a majority of the servers, a batch of a lower epoch or with
// a gap is refused identically by every server, and no reader ever gets a record whose checksum does not match.
//
// Its rooms: entry (what an entry holds, and which count), walcheck (the check of the log before it is opened),
// checkpoint (their files and store), and here the service on top: Server starts and closes the rest, group is
// raft, store the log with our rules around raft-wal, fsm and machine the replicated state, checkpointKeeper
// decides which checkpoints come and go, health and gate say whether calls are served, service has the gRPC calls.
//
// What it owns: its directory (guarded by a lock file), the log files in it, the raft group's membership, and two
// ports. Goroutines: raft's own, the gRPC server's, one that follows leadership, one that writes the mark file, one
// that settles and fetches checkpoints, one per Append stream that receives it; Close ends all of them.
//
// Failure: after the first error of a write or fsync the server never writes again, because nobody knows what the
// disk kept. It cuts itself off from its peers and refuses every call; a server without peers ends (Done, Err), so
// that its process exits and a restart reads what is really there. At start every file is read and verified before
// raft-wal may touch it: an unfinished last write is cut off, anything else that does not verify is refused.
//
// It keeps the two newest good checkpoints that namenodes upload, each with the state of its own state machine at a
// raft entry before it, and cuts the log in front of the older one. To raft a checkpoint is a snapshot: it is sent
// to a peer that lacks what was cut.
//
// It does not look inside records and checkpoints, and keeps no namenode state.
package logserver
