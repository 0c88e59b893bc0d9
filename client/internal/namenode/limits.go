package namenode

import "time"

// Bounds of one client's calls. Memory: mutationsMax · a request, ≤ 16 MiB in all for any use of package client (a
// commit is ≈ 200 bytes); a report is ≈ 200 bytes and a goroutine.
const (
	// mutationsMax bounds the mutations of one client at once; half of what the namenode remembers per client.
	mutationsMax        = 512
	tooFewNodesPatience = 3 * time.Second // datanodes that only reconnect are back within it
	// cleanupTimeout bounds what is done after an operation's context ended: abandoning a hidden file, closing a
	// visible one.
	cleanupTimeout = 5 * time.Second
	// reportsMax bounds the running reports of corrupt replicas; reportTimeout bounds each.
	reportsMax    = 64
	reportTimeout = 10 * time.Second
)
