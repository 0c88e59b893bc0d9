// Package client is the public Go API of Whispering Woods: it stores, reads,
// appends to, lists and removes files of a cluster.
//
// A Client talks gRPC to the namenodes (it finds the active one of several) and
// the binary data protocol (dataplane/wire) to datanodes. It owns its
// connections to both, its memory of datanodes that failed lately, and the
// renewal of the leases of all files that it writes.
//
// Goroutines: one renews leases while at least one file is open for writing;
// each open write session has one that reads acknowledgements; Store, Fetch and
// reading ahead run a bounded number of workers that end before the call does.
// Client.Close waits for all of them.
//
// Durability, by call: Write is buffered in the client; Flush is in the page
// cache of every datanode of the pipeline and visible to new readers; Sync is
// fdatasync'd on every one of them; Close is synced, sealed, and its length is
// committed in the namenode's log. BeginFlush and BeginSync return before that,
// and the Pending's Wait when it is so.
//
// Errors are *fault.Error: branch with errors.Is(err, fault.NotFound). Only the
// view that Client.FS gives wraps them in *fs.PathError, where they also match
// fs.ErrNotExist, fs.ErrExist and fs.ErrInvalid.
//
// The package does not cache file content and does not decide placement.
package client
