// Package chunkfile is the file of one chunk replica: its format, its names, how it is appended to and cut,
// and what an unfinished one proves after a crash.
//
//	format.go   header, slots, where the sums and the data are
//	sector.go   a checksummed sector, which pack segments have too
//	names.go    the names of files that live, and of those in trash or quarantine
//	state.go    what a replica has to remember of its file's header and slots
//	append.go   Appender: the steps of writing, each with what a crash in it leaves
//	recover.go  the longest prefix that the sums and slots of a file prove
//
// docs/format/chunk-file.md has the tables and argues, for each step, what a crash leaves. The package owns
// nothing: callers open, rename and close the files, and serialise what they do with one. It runs no
// goroutine, and knows no volume, no lock and no session.
package chunkfile
