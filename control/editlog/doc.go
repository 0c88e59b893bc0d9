// Package editlog is the namenode's side of the replicated edit log: it finds the log server that leads, becomes
// the log's only writer (AcquireEpoch), appends batches of framed edit records with many in flight (Writer), reads
// them back (Tail), and stores and fetches checkpoints.
//
// A batch that was passed to a Writer ends in one of two ways: OnDurable covers its last txid, or the Writer
// failed. A failed Writer never sends anything more, because it is unknown which of the batches in flight are in
// the log. Its owner drops its state, acquires a new epoch, learns the last txid and replays.
//
// A Writer owns two goroutines (sender, receiver), ended by Close or by its failure. The package keeps no records
// once they are durable and knows nothing of what is inside a record.
package editlog
