// Package datanode is a client's side of the datanodes, as far as one request and its answer go: connections and a pool
// of idle ones, requests about one replica (read, stat, copy), the verification of every block that is read, and the
// limit on the client's bandwidth.
//
// It owns all data connections of the client. It runs no goroutine: a call blocks its caller, whose context ends it.
// Write sessions (package pipeline) and record sessions (package client) borrow connections and return them here.
//
// It asks the one datanode that its caller names. Which replica to ask, what to do when one fails, and whom to inform
// about a corrupt one is decided by its callers.
package datanode
