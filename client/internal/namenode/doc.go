// Package namenode is a client's side of the namenodes: it finds the active one of several, repeats what failed,
// numbers mutations so that a repeated one takes effect once, renews the leases of all files that are being written,
// and reports corrupt replicas.
//
// It owns the connections to the namenodes, the numbers of running mutations, and the list of leases to keep.
// Goroutines, all of them ended with the client's lifetime.Lifetime: two of Leases while at least one file is open for
// writing, and one for each running report. A call runs on its caller's goroutine and blocks it.
//
// It does not interpret answers about files: callers turn answers into their own types. Datanodes are not its business,
// and neither is the decision about how long to go on trying, which Options.Retry makes.
package namenode
