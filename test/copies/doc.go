// Package copies proves the rule of acknowledgement: whatever a cluster acknowledged is on enough disks at that
// moment. It runs real processes (bench/cluster), loads them with puts, appends, flushes, syncs, truncations,
// record appends and lease recoveries, and kills, pauses and restarts datanodes and the namenode meanwhile. After
// each acknowledgement it reads the disks of all datanodes itself.
//
// An acknowledged chunk has to be on copiesLeast datanodes at its generation, with all acknowledged bytes. It may
// be on fewer than its replication only while no healthy datanode could take the missing copy: one that was left
// alone by the harness for healthyAfter, while the namenode was left alone as long. The disk of a stopped or
// killed process counts: it is not dead.
//
// The namenode is asked only which chunks a file has, and at which generations. What is on a disk is read from the
// disk: names and recovery of chunk files by disk/chunkfile, pack segments by a reader of docs/format/pack.md of
// its own. If the namenode does not answer at once, the disks' directories are noted at the acknowledgement, and
// what came later does not count.
//
// At the end all acknowledged bytes are read back through a client, the report has to show that nothing is
// under-replicated within the grace period and the time that copies take, and the disks have to confirm it.
//
// Environment: COPIES_RUNS sets the number of long runs (0: a single short one), COPIES_SEED repeats one,
// COPIES_ACKS is how many acknowledgements a run needs, COPIES_DISKS=1 lets TestDisksDieUnderLoad try all faults,
// COPIES_KEEP=1 keeps the state of every run and not only of those that failed, COPIES_PROGRAM uses a ww that is built
// already. The package has no code besides its tests.
package copies
