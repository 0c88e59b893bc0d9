// Package client is the public Go API of Whispering Woods: it stores, reads, appends to, lists and removes files of a
// cluster.
//
// A Client talks gRPC to the namenodes (it finds the active one of several) and the binary data protocol
// (dataplane/wire) to datanodes. It puts together parts that own what they need: lifetime (background goroutines and
// contexts), namenode (calls, retries, leases), health (which datanodes failed or are slow), datanode (connections and
// single requests), pipeline (writing a chunk) and view (reading a file). A packet on its way down to the datanodes,
// and bytes on their way up:
//
//	FileWriter             a file: one packet fills, full      Fetch, FileReader     a file: units side by side, or
//	Store (transfer)       chunks wait for their seal                                a position and read-ahead
//	  │ Append, Point                                            │ Read, Extend
//	  ▼                                                          ▼
//	pipeline.Stream        a chunk: what no session            view.View             a file: its length, where its
//	                       got acknowledged; recovery                                chunks are, when to ask again
//	  │ transmit                                                 │ read
//	  ▼                                                          ▼
//	pipeline session       one write session: the              view replicas         a chunk: its replicas in order,
//	                       window, acks, who waits                                   hedging, reports of corruption
//	  │ Begin, Write                                             │ Read, Stat
//	  ▼                                                          ▼
//	datanode.Connection    a socket from the pool              datanode.Connection   a socket from the pool; every
//	                                                                                 block is verified
//
// A RecordAppender stands beside them: its recordSession borrows a datanode.Connection too.
//
// Goroutines: two keep leases and idle sessions while at least one file is open for writing; each open write session
// has one that reads acknowledgements, and while there are any, one looks for slow datanodes; a RecordAppender has two;
// Store, Fetch and reading ahead run a bounded number of workers that end before the call does. Client.Close waits for
// all of them.
//
// Durability, by call: Write is buffered in the client; Flush is in the page cache of every datanode of the pipeline
// and visible to new readers; Sync is fdatasync'd on every one of them; Close is synced, sealed, and its length is
// committed in the namenode's log. BeginFlush and BeginSync return before that, and the Pending's Wait when it is so.
//
// Errors are *fault.Error: branch with errors.Is(err, fault.NotFound). Only the view that Client.FS gives wraps them in
// *fs.PathError, where they also match fs.ErrNotExist, fs.ErrExist and fs.ErrInvalid.
//
// The package does not cache file content and does not decide placement.
package client
