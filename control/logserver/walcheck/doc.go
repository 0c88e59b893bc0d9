// Package walcheck checks the log of a log server that does not run: every write in the files of raft-wal, every
// entry and record in them, the checkpoints beside them, and the mark that says how far the log once reached.
// Prepare makes a checked log fit for raft-wal, Verify and Dump serve people.
//
// It reads raft-wal's private files itself, because raft-wal looks only at the last write of the last one, and
// takes whatever follows the first frame that it cannot read for an unfinished write: damage in the middle would
// cut the log in silence. What breaks that is a raft-wal with another format; format_test.go writes a log with the
// raft-wal of go.mod, compares every byte, and pins the version.
//
// It runs no goroutine. Only Prepare and Mark change anything on the disk. It
// does not serve the log and knows nothing of peers.
package walcheck
