// Package checkpoint keeps checkpoints beside the log: what the records up to a
// txid make, in one file each (docs/format/log.md). It reads, verifies, writes
// and sends such files, and its Store knows those of one log server's directory.
//
// A Store owns its directory. A file counts from the rename on that Publish makes, and until Retire removes it; one
// that is found damaged stays, and is not used. The package runs no goroutine. It does not decide who may store a
// checkpoint, does not cut the log, and does not look into the content.
package checkpoint
