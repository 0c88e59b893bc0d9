// Package scrub decides when which replica of a volume is compared with its checksums: all of them, one after the
// other, within a period, at a bounded rate, and later while somebody else uses the disk. It remembers how far it came
// in a small file of the volume, so that a restart goes on where it was.
//
//	scrubber.go  Scrubber: passes over the replicas of one volume
//	pace.go      when the next bytes may be read
//	state.go     the file that remembers
//
// docs/format/chunk-file.md describes the file. A Scrubber runs one goroutine, that of Run. How a replica is verified,
// and what happens to a bad one, is up to the volume that it is given.
package scrub
