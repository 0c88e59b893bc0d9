// Package pack keeps small sealed replicas as records of segments, many in one file, so that storing one
// costs neither a file nor a sync of its own.
//
//	format.go   segments and records: names, headers, sums; docs/format/pack.md
//	scan.go     what a segment's file holds, where it is damaged, which record counts
//	segment.go  Segment: one file; striking a record
//	set.go      Set: the segments of one volume
//	packer.go   the packer of a set, which appends records in batches
//	compact.go  Compactor: frees the room of dead records
//
// It owns the files in its directory. Goroutines, which the caller starts and waits for: one packer (Set.Run) and one
// compactor (Compactor.Run) per Set. Whoever submits a Job holds the lock of its replica until Done is called.
//
// The package does not know which records are replicas: its Owner does. It neither keeps an index, nor
// decides what becomes a record.
package pack
