// Package disk is the chunk store of a datanode: replicas as files on one or more volumes, with checksums,
// crash recovery, trash and quarantine.
//
// It owns everything under its volumes' directories:
//
//	<volume>/identity               who the volume belongs to (identity.go)
//	<volume>/lock                   flock: one process per volume
//	<volume>/scrub                  how far the scrub came (package scrub)
//	<volume>/chunks/<xx>/<replica>  replicas, xx = last byte of the chunk id
//	<volume>/packs/<segment>        small sealed replicas, many in one file
//	<volume>/trash/                 deleted replicas until their delay is over
//	<volume>/quarantine/            corrupt replicas, never deleted
//
// A replica is one file; docs/format/chunk-file.md describes it and argues, for each step, what a crash leaves. The
// file name says whether it is sealed, so a start lists names and reads only the files of open replicas. A small
// one is a record of a segment, docs/format/pack.md; it is unpacked into a file before anything changes it.
//
// The parts, from the top; each uses those below it:
//
//	Store                        the API: one method for each request, and start and stop
//	scan                         builds the index at a start
//	changes, arrival             volumes come and go while the store runs
//	monitor, losses              which volumes fail, and what is lost with them
//	patrol                       what the scrub of a volume verifies, and how
//	recovery, verifier           chunk recovery; comparing a replica with its sums
//	sessions, Writer, worker     who may write a replica, and the queues of its jobs
//	readers, Reader              reading
//	restorer                     deleted replicas come back
//	trash, unpacker, claims      deletion; giving a replica its own file; compaction's view of the index
//	quarantine                   corrupt replicas
//	index, volumes, membership   which replicas, which volumes (their health), whose they are
//	replica, place, volume       one replica, where its bytes are, one directory
//	chunkfile, pack, filecache   packages: the bytes of a chunk file; segments of records; open files
//	scrub                        package: when which replica is verified
//
// Goroutines: Options.WorkersPerVolume workers per volume, each with a bounded queue; all jobs of a chunk run
// on one of them, in order; and a few for copies that nobody waits for. One packer per volume appends records.
// One goroutine unlinks the trash, one compactor per volume frees the room of dead records, one scrubber per volume
// verifies replicas. Close stops and waits for all of them, but for one that a disk holds up (Store.Close).
//
// Locks, in the order they are taken: replica.io (held through the file I/O that changes the replica), then
// one of index.mu, replica.view, filecache.Cache.mu, pack.Set.mu, trash.mu, volume.health, each held for a
// few instructions. io is a mutex and not a queue because recovery orders, deletions and readers reach a
// replica from other goroutines than its worker, possibly from that worker itself; on the write path it is
// not contended. A hidden copy's io is taken before that of the stale replica whose place it takes. A replica that
// is about to become a record passes its io lock to the packer, which needs no other one to finish, and unlocks it.
//
// A change of volumes holds changes.one throughout; membership.persist and the gate are taken within it, one at a time.
//
// A volume's health is in the package health: whatever finds an I/O error passes it to noteError, which decides when
// no new replica goes there; Store.Volumes tells others.
//
// The package knows no network, no namenode and no client.
package disk
